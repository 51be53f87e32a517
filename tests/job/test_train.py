"""Every run ends with its true status, however its process ended, and affects no other run."""

import dataclasses
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.nn import metrics
from harness.run import freeze
from harness.run.compose import Job
from harness.runfolder import journal
from harness.runfolder.run import Run
from tests import faulty
from tests.conftest import (
    ROOT,
    RUN,
    Command,
    command_in,
    composed,
    histories,
    only_folder,
    python_path,
    run_folders,
    small,
    start,
    wait_for,
)


def wait_for_checkpoint(cwd: Path) -> Path:
    """The first run folder that has a checkpoint."""
    checkpoint = wait_for(lambda: next(cwd.glob("outputs/runs/*/checkpoints/epoch-*"), None))
    assert checkpoint is not None
    return checkpoint.parents[1]


def settings(folder: Path, *more: str) -> tuple[str, ...]:
    return small(folder, "epochs=3", *more)


@pytest.mark.fault
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_one_bad_job_never_stops_the_others(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    hook = faulty.environment(tmp_path / "hook", faulty.STRIKE)
    arguments = ("-m", *settings(idx_folder, "tracking=none"), "seed=1,2,3,4,5,6,7")
    done = command(RUN, *arguments, **hook)
    assert done.returncode == 1
    runs = histories(tmp_path)
    assert [run.status for run in runs] == ["FAILED"] * 3 + ["KILLED"] * 2 + ["FAILED", "FINISHED"]
    for number, words in enumerate(
        ("a bug of its own", "SystemExit: 0", "exit status 0 and no end record",
         "signal 9, as the system does when memory runs out", "signal 11", "MemoryError"), 1,
    ):  # fmt: skip
        run = runs[number - 1]
        assert words in (run.error or "")
        assert f"{run.status.lower()}: seed={number} ({run.run}): {run.error}\n" in done.stderr
        assert f"more in outputs/runs/{run.run}\n" in done.stderr
        assert [record["epoch"] for record in run.epochs] == [1]
    for number in (1, 2, 6):
        assert "traceback.txt" in runs[number - 1].artifacts
    again = command(RUN, *arguments)
    assert again.returncode == 0, again.stderr
    assert "seed=7: finished before as " in again.stdout
    for run in histories(tmp_path):
        assert [record["epoch"] for record in run.epochs] == [1, 2, 3]
        assert run.status == "FINISHED"


@pytest.mark.fault
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(
    ("name", "code", "status", "epochs"),
    [("epoch-000002", 130, "KILLED", 1), ("last.safetensors", 0, "FINISHED", 3)],
)
def test_a_run_that_is_terminated_after_its_last_epoch_finishes(
    tmp_path: Path, command: Command, idx_folder: Path, name: str, code: int, status: str,
    epochs: int,
) -> None:  # fmt: skip
    assert command(RUN, *settings(idx_folder, "tracking=none")).returncode == 0
    folder = only_folder(tmp_path)
    create, _ = (folder / journal.FILE_NAME).read_bytes().split(b"\n", 1)
    (folder / journal.FILE_NAME).write_bytes(create + b"\n")
    for name_of_folder in ("checkpoints", "weights"):
        shutil.rmtree(folder / name_of_folder)
    hook = faulty.environment(tmp_path / "hook", f"NAME = {name!r}" + faulty.TERMINATE)
    done = subprocess.run(
        [sys.executable, "-m", "harness.job", str(folder)], env=os.environ | hook, timeout=120
    )
    history = Run(folder).history()
    assert (done.returncode, history.status, len(history.epochs)) == (code, status, epochs)
    assert bool(history.final) == (status == "FINISHED")


@pytest.mark.parametrize(("keep", "left"), [(1, [2]), (0, [1, 2, 3])])
def test_a_finished_run_keeps_the_checkpoints_of_its_settings(
    command: Command, tmp_path: Path, idx_folder: Path, keep: int, left: list[int]
) -> None:
    own = ("tracking=none", f"checkpoint.keep={keep}", "checkpoint.milestones=2")
    assert command(RUN, *settings(idx_folder, *own)).returncode == 0
    paths = (only_folder(tmp_path) / "checkpoints").iterdir()
    assert sorted(int(path.name[-6:]) for path in paths) == left


@pytest.mark.fault
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("fault", ["killed", "refused"])
def test_a_job_that_cannot_remove_checkpoints_is_finished(
    command: Command, tmp_path: Path, idx_folder: Path, fault: str
) -> None:
    """No other checkpoint is removed before the end of these two epochs."""
    hook = faulty.environment(tmp_path / "hook", f"FAULT = {fault!r}" + faulty.REMOVAL)
    done = command(RUN, *small(idx_folder, "tracking=none", "epochs=2"), **hook)
    folder = only_folder(tmp_path)
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == [".epoch-000001.removed", "epoch-000002"]
    assert Run(folder).is_finished
    assert done.returncode == 0, done.stderr
    warned = f"warning: {folder.name} is finished, but has checkpoints left: " in done.stderr
    assert warned == (fault == "refused")
    again = command(RUN, "resume=last")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert f"{folder.name} is finished; there is nothing to continue" in again.stderr
    removed = folder / "checkpoints/.epoch-000001.removed"
    for path in (removed, *removed.iterdir()):
        os.utime(path, (0, 0))
    assert command("harness", "clean").returncode == 0
    assert list((folder / "checkpoints").iterdir()) == []


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("batch", "what", "epoch"), [(20, "training", 1), (260, "validation", 2)])
def test_divergence_is_failed_and_never_a_large_number(
    command: Command, tmp_path: Path, idx_folder: Path, batch: int, what: str, epoch: int
) -> None:
    """With one batch per epoch, the second step overflows, after the training loss of its epoch."""
    from harness.runfolder.target import Target
    from harness.tracking.store import Store

    done = command(RUN, *settings(idx_folder, "lr=3e38", f"batch={batch}"))
    assert done.returncode == 1
    history = Run(only_folder(tmp_path)).history()
    assert history.status == "FAILED"
    error = f"the {what} loss is nan in epoch {epoch}: the learning rate lr=3e+38 is"
    assert error in str(history.error)
    assert len(history.epochs) == epoch
    assert "Traceback" not in done.stderr
    store = Store(Target.local(tmp_path / "outputs"))
    mlflow_id = Run(only_folder(tmp_path)).delivered()["mlflow_id"]
    run = store.client.get_run(mlflow_id)
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", history.error)
    lost = {key for key, value in history.epochs[-1]["metrics"].items() if not math.isfinite(value)}
    assert lost & {metrics.TRAIN_LOSS, metrics.VAL_LOSS}
    for key, points in store.points(mlflow_id).items():
        *earlier, last = [value for _, value, _ in points]
        assert math.isnan(last) == (key in lost)
        assert earlier == history.curve(key)[:-1]
    assert run.data.tags["nonfinite"].split(" = ")[0] in lost
    files = {artifact.path for artifact in store.client.list_artifacts(mlflow_id)}
    assert "traceback.txt" in files


def test_a_job_never_waits_for_a_tracking_server(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """A job neither connects to anything nor imports what could; the check itself works."""
    hook = faulty.environment(tmp_path / "hook", faulty.WATCH)
    connect = "import socket; socket.create_connection(('127.0.0.1', 1))"
    caught = subprocess.run([sys.executable, "-c", connect, "harness.job"], env=os.environ | hook)
    assert caught.returncode == 97
    done = command(RUN, *settings(idx_folder, "tracking=none"), **hook)
    assert done.returncode == 0, done.stderr


@pytest.mark.fault
def test_the_second_ctrl_c_ends_the_command_at_once(tmp_path: Path, idx_folder: Path) -> None:
    """The job is suspended, so that the command waits for it after the first one."""
    process = start(tmp_path, *settings(idx_folder, "tracking=none", "epochs=100000"))
    folder = wait_for_checkpoint(tmp_path)
    (server,) = psutil.Process(process.pid).children()
    (job,) = server.children()
    job.suspend()
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
    job.resume()
    psutil.wait_procs([job], timeout=60)
    assert not job.is_running()
    assert "interrupted again: stopped at once" in process.communicate()[0]
    assert Run(folder).history().status == "KILLED"


def sweep_in_a_checkout(folder: Path, *arguments: str) -> tuple[Path, subprocess.Popen[str]]:
    """A copy of the source to edit, and a sweep with it that has written a checkpoint."""
    copy = folder / "checkout"
    for name in ("harness", "conf"):
        shutil.copytree(ROOT / name, copy / name)
    process = start(copy, "-m", *arguments, **python_path(copy))
    wait_for_checkpoint(copy)
    return copy, process


@pytest.mark.fault
def test_editing_conf_changes_no_queued_job(tmp_path: Path, idx_folder: Path) -> None:
    own = settings(idx_folder, "tracking=none", "seed=1,2", "epochs=300", "activation=tanh")
    copy, process = sweep_in_a_checkout(tmp_path, *own)
    shutil.rmtree(copy / "conf")
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    first, second = run_folders(copy / "outputs")
    same = [folder.joinpath("config.yaml").read_text().splitlines() for folder in (first, second)]
    assert {*same[0]} ^ {*same[1]} == {"seed: 1", "seed: 2"}
    assert Run(second).history().status == "FINISHED"


@pytest.mark.fault
def test_other_source_than_a_run_was_made_with_does_not_train_it(
    tmp_path: Path, idx_folder: Path
) -> None:
    """Its key and its tags have the digest of the source; comments do not count."""
    own = settings(idx_folder, "tracking=none", "seed=1,2,3", "epochs=300")
    copy, process = sweep_in_a_checkout(tmp_path, *own)
    edited = copy / "harness/training/trainer.py"
    before = edited.read_text()
    edited.write_text(f"{before}\n\nEDITED = True\n")
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 1, stderr
    assert stderr.count("changed after the command made this run; repeat the command") >= 2
    assert "Traceback" not in stderr
    assert [run.status for run in histories(copy)] == ["FINISHED", "FAILED", "FAILED"]
    edited.write_text(f"{before}\n\n# edited\n")
    again = command_in(copy)(RUN, "-m", *own, **python_path(copy))
    assert again.returncode == 0, again.stderr
    assert [run.status for run in histories(copy)] == ["FINISHED"] * 3, "the same runs"


@pytest.mark.fault
def test_a_run_that_goes_on_with_other_source_says_so(tmp_path: Path, idx_folder: Path) -> None:
    own = settings(idx_folder, "tracking=none", "seed=1", "epochs=300")
    copy, process = sweep_in_a_checkout(tmp_path, *own)
    process.kill()
    process.communicate(timeout=60)
    with (copy / "harness/nn/losses.py").open("a") as file:
        file.write("\n\nEDITED = True\n")
    resumed = command_in(copy)(RUN, "resume=last", **python_path(copy))
    assert resumed.returncode == 0, resumed.stderr
    assert "continues with changed source code" in resumed.stdout
    (run,) = histories(copy)
    assert run.status == "FINISHED"
    first, second = run.tags["source.sha256"].split(",")
    assert run.create["tags"]["source.sha256"] == first != second


def test_a_damaged_journal_is_reported_and_affects_no_other_run(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    arguments = ("-m", *settings(idx_folder, "tracking=none"), "seed=1,2")
    command(RUN, *arguments)
    first, second = run_folders(tmp_path / "outputs")
    for folder, position in ((first, 12), (second, -30)):
        path = folder / journal.FILE_NAME
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)
    commands = (("harness", ["status"], 0), ("harness", ["sync"], 3), (RUN, arguments, 0))
    for module, line, status in commands:
        done = command(module, *line)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
        assert f"{first.name}/journal.jsonl: the record at byte 0 does not match" in done.stderr
    assert f"{second.name}/journal.jsonl: the record at byte" in done.stderr
    folders = list((tmp_path / "outputs/runs").glob("[!.]*"))
    assert len(folders) == 4, "both were trained again"


def test_a_journal_that_lost_epochs_is_not_continued(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """The checkpoint is of a later epoch than the journal has, and the epochs between are lost."""
    arguments = settings(idx_folder, "tracking=none", "checkpoint.keep=0")
    assert command(RUN, *arguments).returncode == 0
    (folder,) = run_folders(tmp_path / "outputs")
    file = folder / journal.FILE_NAME
    kinds = [record["kind"] for record in journal.read(file)[0]]
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[: kinds.index("epoch") + 1]))
    done = command(RUN, "resume=last")
    assert done.returncode == 1
    assert "journal.jsonl lost records: it has 1 epochs" in done.stderr
    assert [record["kind"] for record in journal.read(file)[0]].count("epoch") == 1


def test_a_changed_config_trains_nothing(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    arguments = ("-m", *settings(idx_folder, "tracking=none"), "seed=1,2")
    assert command(RUN, *arguments).returncode == 0
    first = run_folders(tmp_path / "outputs")[0]
    records = journal.read(first / journal.FILE_NAME)[0]
    kept = records[:4]  # killed after its second epoch
    (first / journal.FILE_NAME).write_bytes(b"".join(map(journal.encode, kept)))
    for path in first.glob("weights/*"):
        path.unlink()
    config = first / "config.yaml"
    config.write_text(config.read_text().replace("epochs: 3", "epochs: 4"))
    for module, line, status in (
        (RUN, (f"resume={first.name}",), 2),
        (RUN, arguments, 2),
        ("harness.job", (str(first),), 1),
    ):
        done = command(module, *line)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
        assert f"{first.name}/config.yaml: was changed after" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert len(Run(first).history().epochs) == 2
    assert not list(first.glob("weights/*"))
    assert len(run_folders(tmp_path / "outputs")) == 2


def test_what_rotted_in_the_cache_is_never_trained_on(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """The same labels in another order would give another error under the same digest."""
    own = tmp_path / "own"
    shutil.copytree(idx_folder, own)
    base = settings(own, "tracking=none")
    assert command(RUN, *base).returncode == 0
    (labels,) = tmp_path.glob("outputs/cache/*/train-labels-idx1-ubyte.npy")
    good = labels.read_bytes()
    before = histories(tmp_path)[-1]
    for damage in (good[:128] + good[128:][::-1], b""):
        labels.write_bytes(damage)
        assert command(RUN, *base).returncode == 0
        assert labels.read_bytes() == good
        history = histories(tmp_path)[-1]
        assert history.run != before.run
        assert history.curve(metrics.TRAIN_LOSS) == before.curve(metrics.TRAIN_LOSS)
    shutil.rmtree(tmp_path / "outputs/cache")
    done = command("harness", "evaluate", "last")
    assert done.returncode == 0, done.stderr
    assert labels.read_bytes() == good
    shutil.rmtree(own)
    labels.write_bytes(b"")
    run = run_folders(tmp_path / "outputs")[-1]
    records = journal.read(run / journal.FILE_NAME)[0]
    (run / journal.FILE_NAME).write_bytes(b"".join(map(journal.encode, records[:3])))
    done = command(RUN, "resume=last")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "cannot be extracted again: dataset.dir=" in done.stderr


@pytest.mark.fault
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_run_that_is_removed_while_it_trains_stays_removed(
    tmp_path: Path, idx_folder: Path, launcher: str
) -> None:
    arguments = small(idx_folder, "tracking=none", "epochs=40", "backend=numpy")
    hook = faulty.environment(tmp_path / "hook", faulty.REMOVE + "\nREMOVED = '{folder}'\n")
    process = start(tmp_path, "-m", *arguments, "seed=1,2", f"hydra/launcher={launcher}", **hook)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in stdout + stderr
    (removed,) = {line.split("(")[1][:22] for line in stderr.splitlines() if "removed" in line}
    assert not (tmp_path / "outputs/runs" / removed).exists()
    assert [run.name for run in histories(tmp_path)] == ["seed=2"]
    assert [run.status for run in histories(tmp_path)] == ["FINISHED"]
    assert stdout.count("1 FINISHED, 1 DAMAGED (seed 1)") == 1
    assert stderr.count(f"damaged: seed=1 ({removed}): ") == 1
    assert "index.html   (without 1 of 2 runs" in stdout


@pytest.mark.fault
def test_a_sweep_whose_outputs_are_removed_ends_with_its_table(
    tmp_path: Path, idx_folder: Path
) -> None:
    arguments = small(idx_folder, "tracking=none", "epochs=40", "backend=numpy", "seed=1,2")
    hook = faulty.environment(tmp_path / "hook", faulty.REMOVE + "\nREMOVED = '{folder}/../..'\n")
    process = start(tmp_path, "-m", *arguments, **hook)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in stdout + stderr
    assert stdout.count("DAMAGED") == 2
    assert "no report: no run is finished" in stdout
    assert not (tmp_path / "outputs").exists()


def test_an_objective_that_is_not_recorded_fails_in_one_line(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """What is known only in training: the line names what is recorded."""
    config = composed(*settings(idx_folder, "tracking=none", "backend=numpy"))
    config = dataclasses.replace(config, objective="val/own", outputs=str(tmp_path / "outputs"))
    (prepared,) = freeze.prepare([Job("own", {}, config)])
    run = freeze.freeze_run(prepared, [])
    done = command("harness.job", str(run.folder))
    assert done.returncode == 1
    expected = "objective=val/own: not recorded in epoch 1, only train/loss, train/error, "
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
    assert run.history().status == "FAILED"
    assert expected in (run.history().error or "")
