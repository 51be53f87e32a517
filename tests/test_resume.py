"""Interrupted and resumed runs and sweeps end with the bits of uninterrupted ones.

Each kind of run is killed about four times, and a sweep about eight times; more by

    HARNESS_KILLS=50 python -m pytest tests/test_resume.py -m fault
"""

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
from harness.runfolder import journal
from harness.runfolder.checkpoints import STATE, Checkpoints, remove
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from tests.conftest import (
    RUN,
    Command,
    command_in,
    histories,
    only_folder,
    run_folders,
    small,
    start,
    wait_for,
)

KILLS = int(os.environ.get("HARNESS_KILLS", "4"))  # of a run, about
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


def settings(folder: Path, *more: str, epochs: int = 40) -> tuple[str, ...]:
    return small(folder, "tracking=none", f"epochs={epochs}", "threads=1", *more)


def outcome(folder: Path) -> tuple[object, ...]:
    """Everything about a run that must not depend on interruptions."""
    history = Run(folder).history()
    values = [
        {key: value for key, value in record["metrics"].items() if not key.startswith("time/")}
        for record in history.epochs
    ]
    weights = [(folder / f"weights/{name}.safetensors").read_bytes() for name in ("last", "best")]
    with np.load(folder / "predictions/test.npz") as predictions:
        probabilities = predictions["probabilities"].tobytes()
    final = {k: v for k, v in history.final.items() if not k.startswith("machine/")}
    return history.status, values, final, weights, probabilities


def epochs_recorded(folder: Path) -> list[int]:
    records = journal.read(folder / journal.FILE_NAME)[0]
    return [record["epoch"] for record in records if record["kind"] == "epoch"]


def recorded(cwd: Path) -> int:
    """How many records all journals have together, but for folders that are being created."""
    return sum(f.read_bytes().count(b"\n") for f in cwd.glob("outputs/runs/[!.]*/journal.jsonl"))


def killed_after(cwd: Path, arguments: tuple[str, ...], epochs: int, seconds: float) -> bool:
    """Run the command; kill its job `seconds` after `epochs` more records.

    Returns whether it was killed before it finished.
    """
    goal = recorded(cwd) + epochs
    process = subprocess.Popen(
        [sys.executable, "-m", RUN, *arguments],
        cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    command = psutil.Process(process.pid)
    while process.poll() is None:
        if recorded(cwd) >= goal:
            time.sleep(seconds)
            for server in command.children():
                with suppress(psutil.NoSuchProcess):  # it ended just now
                    if "harness.job" in server.cmdline():
                        for job in server.children():
                            job.kill()
            break
        time.sleep(0.005)
    return process.wait(300) != 0


@pytest.mark.fault
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_at_random_ends_with_the_same_bits(
    tmp_path: Path, idx_folder: Path, kind: str
) -> None:
    epochs = 30 * KILLS
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    arguments = settings(idx_folder, *KINDS[kind], epochs=epochs)
    assert command_in(whole)(RUN, *arguments).returncode == 0
    chance = random.Random(kind)
    kills = 0
    while killed_after(broken, arguments, chance.randint(1, 40), chance.uniform(0, 0.02)):
        kills += 1
        assert kills < 10 * KILLS, "the run makes no progress"
        arguments = ("resume=last",)
    assert kills >= KILLS / 2
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
    paths = Checkpoints(folder / "checkpoints", every=1, keep=0).paths()
    assert len(paths) == 6
    for late in paths[3:]:
        remove(late)
    done = command(RUN, "resume=last")
    assert done.returncode == 0, done.stderr
    name = Run(folder).name
    assert done.stdout.startswith(f"{name}: continues {folder.name} after epoch 3 of 6\n")
    assert outcome(folder) == expected
    assert epochs_recorded(folder) == [1, 2, 3, 4, 5, 6]


def test_a_run_killed_after_its_final_record_has_it_once(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """A second record would be a second row in the store."""
    command(RUN, *settings(idx_folder, "checkpoint.keep=0", epochs=3))
    folder = only_folder(tmp_path)
    expected = outcome(folder)
    path = folder / journal.FILE_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    (final,) = [number for number, line in enumerate(lines) if b'"kind":"final"' in line]
    path.write_bytes(b"".join(lines[: final + 1]))
    assert len(list((folder / "checkpoints").iterdir())) == 3
    assert command(RUN, "resume=last").returncode == 0
    assert outcome(folder) == expected
    kinds = [record["kind"] for record in journal.read(path)[0]]
    assert (kinds.count("final"), kinds[-1]) == (1, "end")


def test_a_finished_run_is_not_trained_again(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """As when two commands of one sweep run at the same time and the other one was faster."""
    command(RUN, *settings(idx_folder, epochs=2))
    folder = only_folder(tmp_path)
    before = (folder / journal.FILE_NAME).read_bytes()
    assert command("harness.job", str(folder)).returncode == 0
    assert (folder / journal.FILE_NAME).read_bytes() == before


def test_jobs_whose_backends_are_the_same_in_the_end_are_one(
    command: Command, idx_folder: Path
) -> None:
    own = settings(idx_folder, "depth=2", epochs=1)
    done = command(RUN, "-m", *own, "backend=auto,numpy", NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0
    assert done.stdout.count("FINISHED") == 1


@pytest.mark.parametrize("epoch", [1, 4, 6])
def test_resuming_from_any_epoch_even_after_a_damaged_checkpoint(
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
        remove(late)
    state = paths[epoch - 1] / STATE
    damaged = bytearray(state.read_bytes())
    damaged[-1] ^= 1
    state.write_bytes(damaged)
    done = command(RUN, f"resume={folder.name[:6]}")
    assert done.returncode == 0, done.stderr
    assert "taking an older checkpoint" in done.stderr
    assert outcome(folder) == expected
    assert epochs_recorded(folder) == list(range(1, 8))


def test_what_resume_refuses(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    command(RUN, *settings(idx_folder, epochs=1))
    for arguments, expected in (
        (("resume=last",), "is finished; there is nothing to continue; another number of epochs"),
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
def test_ctrl_c_prints_how_to_continue(tmp_path: Path) -> None:
    process = start(tmp_path, "tracking=none", "epochs=300", "backend=numpy")
    wait_for(lambda: list(tmp_path.glob("outputs/runs/*/checkpoints/*")))
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    folder = only_folder(tmp_path)
    assert process.returncode == 130
    assert f"`python -m harness.run resume={folder.name}` continues from here" in stderr
    assert Run(folder).history().status == "KILLED"


@pytest.mark.fault
def test_a_sweep_killed_at_random_does_every_job_once(tmp_path: Path, idx_folder: Path) -> None:
    epochs = 100 * KILLS
    arguments = ("-m", *settings(idx_folder, epochs=epochs), "seed=1,2,3,4,5,6")
    chance = random.Random(5)
    attempts = 0
    while attempts < 10 * KILLS:
        attempts += 1
        # A moment of the start, or one between records: a busy machine must get on, too.
        goal = recorded(tmp_path) + (chance.randint(1, 900) if chance.random() < 0.7 else 0)
        process = subprocess.Popen(
            [sys.executable, "-m", RUN, *arguments],
            cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(chance.uniform(0, 2))
        while process.poll() is None and recorded(tmp_path) < goal:
            time.sleep(0.05)
        if process.poll() is None:
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
        assert epochs_recorded(folder) == list(range(1, epochs + 1))
        ends = [r for r in journal.read(folder / journal.FILE_NAME)[0] if r["kind"] == "end"]
        assert [end["status"] for end in ends].count("FINISHED") == 1


def test_fresh_trains_new_runs(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    arguments = ("-m", *settings(idx_folder, epochs=2), "seed=1,2")
    first = command(RUN, *arguments)
    again = command(RUN, *arguments)
    fresh = command(RUN, *arguments, "fresh=true")
    assert [done.returncode for done in (first, again, fresh)] == [0, 0, 0]
    assert "seed=1: finished before as " in again.stdout
    assert "finished before" not in fresh.stdout
    assert len(list(run_folders(tmp_path / "outputs"))) == 4


def test_a_sweep_over_a_setting_that_changes_no_result_keeps_its_runs(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """Both jobs have the same run key; a repeated command finds the run of each."""
    own = [text for text in settings(idx_folder, epochs=2) if not text.startswith("threads=")]
    assert command(RUN, "-m", *own, "threads=1,2").returncode == 0
    first = {run.run: run.params["threads"] for run in histories(tmp_path)}
    assert sorted(first.values()) == [1, 2]
    again = command(RUN, "-m", *own, "threads=1,2")
    assert again.returncode == 0
    for run, threads in first.items():
        assert f"threads={threads}: finished before as {run}" in again.stdout
    assert len(histories(tmp_path)) == 2


def test_a_failed_job_is_trained_again(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    arguments = ("-m", *settings(idx_folder, epochs=2), "lr=0.1,3e38")
    assert command(RUN, *arguments).returncode == 1
    again = command(RUN, *arguments)
    assert again.returncode == 1
    assert "lr=0.1: finished before" in again.stdout
    folders = list(run_folders(tmp_path / "outputs"))
    assert len(folders) == 2
    records = journal.read(folders[1] / journal.FILE_NAME)[0]
    assert [r["status"] for r in records if r["kind"] == "end"] == ["FAILED", "FAILED"]


@pytest.mark.fault
@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_stays_one_run_in_the_store(tmp_path: Path, idx_folder: Path) -> None:
    from harness.tracking.store import Store
    from harness.tracking.sync import prove

    own = [text for text in settings(idx_folder, epochs=420) if text != "tracking=none"]
    killed = 0
    arguments: tuple[str, ...] = tuple(own)
    while killed_after(tmp_path, arguments, 150, 0.0):
        killed += 1
        arguments = ("resume=last",)
    assert killed >= 2
    folder = only_folder(tmp_path)
    assert command_in(tmp_path)("harness", "sync").returncode == 0
    target = Target.local(tmp_path / "outputs")
    (proof,) = prove(target, [Run(folder)])
    assert proof.differences == ()
    store = Store(target)
    (run,) = store.runs([store.experiment("idx")])
    assert run.info.status == "FINISHED"
    points = store.points(run.info.run_id)[metrics.TRAIN_LOSS]
    assert [step for step, _, _ in points] == list(range(1, 421))
