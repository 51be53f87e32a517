"""Interrupted runs and sweeps end bit for bit where uninterrupted ones end."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness.nn import metrics
from harness.run.summary import summarize
from harness.runfolder import checkpoint, journal, liveness
from harness.runfolder.checkpoint import Checkpoints
from harness.runfolder.history import History
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.delivery import Report
from tests.conftest import Command, command_in, run_folders

RUN = "harness.run"
KINDS = {
    "sgd": (),
    "numpy": ("backend=numpy",),
    "everything": (
        "optimizer=momentum", "schedule=onecycle", "augmentation=elastic", "dropout=0.3",
        "input_dropout=0.1", "ema=0.9", "max_norm=2", "weight_decay=1e-4", "label_smoothing=0.1",
        "adversarial=0.5",
        "depth=2", "activation=relu", "lr=0.02",
    ),
    "adam": ("optimizer=adam", "dropout=0.2"),
}  # fmt: skip


def histories(place: Path) -> list[History]:
    return [Run(folder).history() for folder in run_folders(place / "outputs")]


def settings(folder: Path, *more: str, epochs: int = 40) -> tuple[str, ...]:
    own = ("dataset=idx", f"dataset.dir={folder}", "dataset.num_val=40", "tracking=none")
    return (*own, f"epochs={epochs}", "batch=20", "width=8", "threads=1", *more)


def outcome(folder: Path) -> tuple[object, ...]:
    """Everything about a run that must not depend on interruptions."""
    told = Run(folder).history()
    metrics = [
        {key: value for key, value in e["metrics"].items() if not key.startswith("time/")}
        for e in told.epochs
    ]
    weights = [(folder / f"weights/{name}.safetensors").read_bytes() for name in ("last", "best")]
    with np.load(folder / "predictions/test.npz") as predictions:
        probabilities = predictions["probabilities"].tobytes()
    return told.status, metrics, told.final, weights, probabilities


def only_folder(place: Path) -> Path:
    (folder,) = run_folders(place / "outputs")
    return folder


def epochs_recorded(folder: Path) -> list[int]:
    records = journal.read(folder / journal.FILE_NAME)[0]
    return [record["epoch"] for record in records if record["kind"] == "epoch"]


def killed_after(place: Path, arguments: tuple[str, ...], epochs: int, seconds: float) -> bool:
    """Run the command; kill its job `seconds` after `epochs` more records. Was it killed?"""

    def recorded() -> int:
        return sum(f.read_bytes().count(b"\n") for f in place.glob("outputs/runs/*/journal.jsonl"))

    goal = recorded() + epochs
    process = subprocess.Popen(
        [sys.executable, "-m", RUN, *arguments],
        cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    command = psutil.Process(process.pid)
    while process.poll() is None:
        if recorded() >= goal:
            time.sleep(seconds)
            for server in command.children():
                with suppress(psutil.NoSuchProcess):  # it ended just now
                    if "harness.job" in server.cmdline():
                        for job in server.children():
                            job.kill()
            break
        time.sleep(0.005)
    return process.wait(60) != 0


@pytest.mark.fault
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_ends_bit_for_bit_the_same(
    tmp_path: Path, idx_folder: Path, kind: str
) -> None:
    """About 8 kills per kind; HARNESS_KILLS=50 makes it 200 in all."""
    wanted = int(os.environ.get("HARNESS_KILLS", "8"))
    epochs = 30 * wanted
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for place in (whole, broken):
        place.mkdir()
    arguments = settings(idx_folder, *KINDS[kind], epochs=epochs)
    assert command_in(whole)(RUN, *arguments).returncode == 0
    chance = random.Random(kind)
    kills = 0
    while killed_after(broken, arguments, chance.randint(1, 40), chance.uniform(0, 0.02)):
        kills += 1
        assert kills < 10 * wanted, "it does not get on"
        arguments = ("resume=last",)
    assert kills >= wanted / 2
    folder = only_folder(broken)
    assert epochs_recorded(folder) == list(range(1, epochs + 1))
    assert outcome(folder) == outcome(only_folder(whole))


def test_a_checkpoint_without_its_record_is_not_lost(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """As after a kill between the two: the checkpoint has epoch 3, the journal does not."""
    command(RUN, *settings(idx_folder, "checkpoint.keep=0", epochs=6))
    folder = only_folder(tmp_path)
    expected = outcome(folder)
    path = folder / journal.FILE_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]))  # create, start, epochs 1 and 2
    for late in Checkpoints(folder / "checkpoints", every=1, keep=0).paths()[3:]:
        late.unlink()
    done = command(RUN, "resume=last")
    assert done.returncode == 0, done.stderr
    assert outcome(folder) == expected
    assert epochs_recorded(folder) == [1, 2, 3, 4, 5, 6]


def test_killed_behind_its_last_metrics_it_has_them_once(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """A second record of them would be a second row in the store."""
    command(RUN, *settings(idx_folder, epochs=3))
    folder = only_folder(tmp_path)
    expected = outcome(folder)
    path = folder / journal.FILE_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    (final,) = [number for number, line in enumerate(lines) if b'"kind":"final"' in line]
    path.write_bytes(b"".join(lines[: final + 1]))
    assert command(RUN, "resume=last").returncode == 0
    assert outcome(folder) == expected
    kinds = [record["kind"] for record in journal.read(path)[0]]
    assert (kinds.count("final"), kinds[-1]) == (1, "end")


def test_a_finished_run_is_not_trained_again(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """As when two commands of one sweep run side by side, and the other one was faster."""
    command(RUN, *settings(idx_folder, epochs=2))
    folder = only_folder(tmp_path)
    before = (folder / journal.FILE_NAME).read_bytes()
    assert command("harness.job", str(folder)).returncode == 0
    assert (folder / journal.FILE_NAME).read_bytes() == before


def test_backends_that_come_to_one_are_one_job(command: Command, idx_folder: Path) -> None:
    done = command(RUN, "-m", *settings(idx_folder, "depth=2", epochs=1), "backend=auto,numpy")
    assert done.returncode == 0
    assert done.stdout.count("FINISHED") == 1


@pytest.mark.parametrize("epoch", [1, 4, 6])
def test_from_any_epoch_even_behind_a_damaged_checkpoint(
    command: Command, tmp_path: Path, idx_folder: Path, epoch: int
) -> None:
    command(RUN, *settings(idx_folder, "checkpoint.keep=0", *KINDS["everything"], epochs=7))
    folder = only_folder(tmp_path)
    expected = outcome(folder)
    path = folder / journal.FILE_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: 2 + epoch]) + b"0123 torn")
    paths = Checkpoints(folder / "checkpoints", every=1, keep=0).paths()
    for late in paths[epoch:]:
        late.unlink()
    damaged = bytearray(paths[epoch - 1].read_bytes())
    damaged[-1] ^= 1
    paths[epoch - 1].write_bytes(damaged)
    done = command(RUN, f"resume={folder.name[:6]}")
    assert done.returncode == 0, done.stderr
    assert "taking an older checkpoint" in done.stderr
    assert outcome(folder) == expected
    assert epochs_recorded(folder) == list(range(1, 8))


def test_what_resume_refuses(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    command(RUN, *settings(idx_folder, epochs=1))
    for arguments, expected in (
        (("resume=last",), "is finished; there is nothing to continue"),
        (("resume=last", "lr=1"), "lr=1: resume continues a run with its own frozen settings"),
        (("-m", "resume=last"), "-m: resume continues"),
        (("resume=zzz",), "run 'zzz' is not among the 1 runs"),
        (("resume=",), "resume=(nothing): expected a run id or last"),
        (("fresh=maybe",), "fresh=maybe: expected true or false"),
    ):
        done = command(RUN, *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert expected in done.stderr


@pytest.mark.fault
def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", RUN, "tracking=none", "epochs=300", "backend=numpy"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(tmp_path.glob("outputs/runs/*/checkpoints/*")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    folder = only_folder(tmp_path)
    assert process.returncode == 130
    assert f"`python -m harness.run resume={folder.name}` continues from here" in stderr
    assert Run(folder).history().status == "KILLED"


def test_what_goes_on_elsewhere_says_where(
    command: Command, tmp_path: Path, idx_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed lines work as they are, with outputs in a folder whose name has a space."""
    outputs = tmp_path / "my outputs"
    assert command(RUN, *settings(idx_folder, epochs=1), f"outputs='{outputs}'").returncode == 0
    (folder,) = run_folders(outputs)
    report = Report(undelivered={folder.name: "away"})
    summarize([Run(folder)], None, report, Target.local(outputs), interrupted=True)
    told = capsys.readouterr().err
    assert f"`python -m harness sync --outputs '{outputs}'` delivers the rest" in told
    assert f"`python -m harness.run resume={folder.name} 'outputs={outputs}'` continues" in told


@pytest.mark.fault
def test_a_sweep_killed_at_random_does_every_job_once(tmp_path: Path, idx_folder: Path) -> None:
    arguments = ("-m", *settings(idx_folder, epochs=1000), "seed=1,2,3,4,5,6")
    delays = random.Random(5)
    attempts = 0
    while attempts < 40:
        attempts += 1
        process = subprocess.Popen(
            [sys.executable, "-m", RUN, *arguments],
            cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(delays.uniform(2.5, 7))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            continue
        if process.returncode == 0:
            break
        time.sleep(0.5)  # the job of the killed command is still writing its last record
    assert attempts > 1
    assert process.returncode == 0
    folders = list(run_folders(tmp_path / "outputs"))
    assert len(folders) == 6
    for folder in folders:
        assert Run(folder).history().status == "FINISHED"
        assert epochs_recorded(folder) == list(range(1, 1001))
        ends = [r for r in journal.read(folder / journal.FILE_NAME)[0] if r["kind"] == "end"]
        assert [end["status"] for end in ends].count("FINISHED") == 1


def test_fresh_starts_anew(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    arguments = ("-m", *settings(idx_folder, epochs=2), "seed=1,2")
    first = command(RUN, *arguments)
    again = command(RUN, *arguments)
    fresh = command(RUN, *arguments, "fresh=true")
    assert [done.returncode for done in (first, again, fresh)] == [0, 0, 0]
    assert "seed=1: finished before as " in again.stdout
    assert "finished before" not in fresh.stdout
    assert len(list(run_folders(tmp_path / "outputs"))) == 4


def test_a_sweep_of_what_changes_no_result_keeps_its_runs(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """Both jobs have one run key; when the command is repeated, each finds its own run."""
    own = [text for text in settings(idx_folder, epochs=2) if not text.startswith("threads=")]
    assert command(RUN, "-m", *own, "threads=1,2").returncode == 0
    first = {told.run: told.create["params"]["threads"] for told in histories(tmp_path)}
    assert sorted(first.values()) == [1, 2]
    again = command(RUN, "-m", *own, "threads=1,2")
    assert again.returncode == 0
    for run, threads in first.items():
        assert f"threads={threads}: finished before as {run}" in again.stdout
    assert len(histories(tmp_path)) == 2


def test_a_failed_job_is_tried_again(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    arguments = ("-m", *settings(idx_folder, epochs=2), "lr=0.1,3e38")
    assert command(RUN, *arguments).returncode == 1
    again = command(RUN, *arguments)
    assert again.returncode == 1
    assert "lr=0.1: finished before" in again.stdout
    folders = list(run_folders(tmp_path / "outputs"))
    assert len(folders) == 2
    records = journal.read(folders[1] / journal.FILE_NAME)[0]
    assert [r["status"] for r in records if r["kind"] == "end"] == ["FAILED", "FAILED"]


def test_clean_frees_what_nothing_needs(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    command(RUN, *settings(idx_folder, "checkpoint.milestones=3", epochs=7))
    folder = only_folder(tmp_path)
    told = Run(folder).history()
    place = folder / "checkpoints"
    kept = {3, 6, 7, int(told.final[metrics.BEST_EPOCH])}
    assert {int(path.stem[-6:]) for path in place.iterdir()} == kept
    half = (folder / "weights/.last.safetensors.abc", folder.parent / ".123-unfinished")
    half[0].write_bytes(bytes(5_000_000))
    half[1].mkdir()
    for path in half:
        os.utime(path, (0, 0))
    dry = command("harness", "clean", "--dry-run").stdout
    assert dry.startswith("would free 5.0 MB")
    assert half[0].exists()
    assert command("harness", "clean").stdout == dry.replace("would free", "freed")
    assert [path.exists() for path in half] == [False, False]
    assert {int(path.stem[-6:]) for path in place.iterdir()} == {3, 6}
    command("harness", "clean", "--all")
    assert list(place.iterdir()) == []
    assert checkpoint.load(folder / "weights/last.safetensors")[1]["epoch"] == 7
    with journal.Journal(folder / journal.FILE_NAME) as writer:
        writer.append("start", **liveness.this_process(), threads=1, backend="numpy")
        writer.append("end", status="KILLED", error="interrupted")
    checkpoint.save(place / "epoch-000007.safetensors", {}, {})
    assert command("harness", "clean").stdout.startswith("freed 0.0 MB")
    assert len(list(place.iterdir())) == 1, "the run is not finished: it may go on from there"


@pytest.mark.fault
@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_stays_one_run_in_the_store(tmp_path: Path, idx_folder: Path) -> None:
    from harness.runfolder.target import Target
    from harness.tracking.store import Store
    from harness.tracking.sync import prove

    own = [text for text in settings(idx_folder, epochs=1200) if text != "tracking=none"]
    killed = 0
    arguments: tuple[str, ...] = tuple(own)
    while killed_after(tmp_path, arguments, 350, 0.0):
        killed += 1
        arguments = ("resume=last",)
    assert killed >= 2
    folder = only_folder(tmp_path)
    assert command_in(tmp_path)("harness", "sync").returncode == 0
    target = Target.local(tmp_path / "outputs")
    (proof,) = prove(target, [Run(folder)])
    assert proof.differences == ()
    store = Store(target)
    (run,) = store.runs(store.experiment("idx"))
    assert run.info.status == "FINISHED"
    assert [step for step, _, _ in store.points(run.info.run_id)[metrics.TRAIN_LOSS]] == list(
        range(1, 1201)
    )
