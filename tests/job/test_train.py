"""Every run ends with a true status, whatever its process died of, and costs no other run."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.job import forkserver
from harness.nn import metrics
from harness.runfolder import journal, liveness
from harness.runfolder.folder import close_dead
from harness.runfolder.journal import Journal
from harness.runfolder.run import Run
from tests import faulty
from tests.conftest import ROOT, Command, run_folders

RUN = "harness.run"


def settings(folder: Path, *more: str) -> tuple[str, ...]:
    own = ("dataset=idx", f"dataset.dir={folder}", "dataset.num_val=40", "batch=20", "width=8")
    return (*own, "epochs=3", *more)


def only_folder(place: Path) -> Path:
    (folder,) = run_folders(place / "outputs")
    return folder


@pytest.mark.fault
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_one_bad_job_never_stops_the_others(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    hook = faulty.environment(tmp_path / "hook", faulty.STRIKE)
    arguments = ("-m", *settings(idx_folder, "tracking=none"), "seed=1,2,3,4,5,6,7")
    done = command(RUN, *arguments, **hook)
    assert done.returncode == 1
    told = [Run(folder).history() for folder in run_folders(tmp_path / "outputs")]
    statuses = [each.status for each in told]
    assert statuses == ["FAILED"] * 3 + ["KILLED"] * 2 + ["FAILED", "FINISHED"]
    for number, words in enumerate(
        ("a bug of its own", "SystemExit: 0", "exit status 0 and no end record",
         "signal 9, as the system does when memory runs out", "signal 11", "MemoryError"), 1,
    ):  # fmt: skip
        each = told[number - 1]
        assert words in (each.error or "")
        assert f"{each.status.lower()}: seed={number} ({each.run}): {each.error}\n" in done.stderr
        assert f"more in outputs/runs/{each.run}\n" in done.stderr
        assert [e["epoch"] for e in each.epochs] == [1]
    for number in (1, 2, 6):
        assert "traceback.txt" in told[number - 1].artifacts
    again = command(RUN, *arguments)
    assert again.returncode == 0, again.stderr
    assert "seed=7: finished before as " in again.stdout
    for folder in run_folders(tmp_path / "outputs"):
        assert [e["epoch"] for e in Run(folder).history().epochs] == [1, 2, 3]
        assert Run(folder).history().status == "FINISHED"


@pytest.mark.fault
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(
    ("name", "code", "status", "epochs"),
    [("epoch-000003", 130, "KILLED", 2), ("last.safetensors", 0, "FINISHED", 3)],
)
def test_a_run_that_is_told_to_end_after_its_last_epoch_finishes(
    tmp_path: Path, command: Command, idx_folder: Path, name: str, code: int, status: str,
    epochs: int,
) -> None:  # fmt: skip
    assert command(RUN, *settings(idx_folder, "tracking=none")).returncode == 0
    folder = only_folder(tmp_path)
    create, _ = (folder / journal.FILE_NAME).read_bytes().split(b"\n", 1)
    (folder / journal.FILE_NAME).write_bytes(create + b"\n")
    for made in ("checkpoints", "weights"):
        shutil.rmtree(folder / made)
    hook = faulty.environment(tmp_path / "hook", f"NAME = {name!r}" + faulty.TOLD_TO_END)
    done = subprocess.run(
        [sys.executable, "-m", "harness.job", str(folder)], env=os.environ | hook, timeout=120
    )
    told = Run(folder).history()
    assert (done.returncode, told.status, len(told.epochs)) == (code, status, epochs)
    assert bool(told.final) == (status == "FINISHED")


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
    told = Run(only_folder(tmp_path)).history()
    assert told.status == "FAILED"
    said = f"the {what} loss is nan in epoch {epoch}: the learning rate lr=3e+38 is"
    assert said in str(told.error)
    assert len(told.epochs) == epoch
    assert "Traceback" not in done.stderr
    store = Store(Target.local(tmp_path / "outputs"))
    mlflow_id = Run(only_folder(tmp_path)).delivered()["mlflow_id"]
    run = store.client.get_run(mlflow_id)
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", told.error)
    lost = {key for key, value in told.epochs[-1]["metrics"].items() if not math.isfinite(value)}
    assert lost & {metrics.TRAIN_LOSS, metrics.VAL_LOSS}
    for key, points in store.points(mlflow_id).items():
        *earlier, last = [value for _, value, _ in points]
        assert math.isnan(last) == (key in lost)
        assert earlier == told.curve(key)[:-1]
    assert run.data.tags["nonfinite"].split(" = ")[0] in lost
    files = {artifact.path for artifact in store.client.list_artifacts(mlflow_id)}
    assert "traceback.txt" in files


def test_no_call_of_a_job_can_wait_for_a_tracker(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """A job neither connects to anything nor imports what could; the watch itself works."""
    hook = faulty.environment(tmp_path / "hook", faulty.WATCH)
    connect = "import socket; socket.create_connection(('127.0.0.1', 1))"
    caught = subprocess.run([sys.executable, "-c", connect, "harness.job"], env=os.environ | hook)
    assert caught.returncode == 97
    done = command(RUN, *settings(idx_folder, "tracking=none"), **hook)
    assert done.returncode == 0, done.stderr


def test_a_process_that_died_without_a_word(tmp_path: Path, idx_folder: Path) -> None:
    """Its number may belong to another process now; a live one is never closed."""
    folder = tmp_path / "runs" / "abc"
    folder.mkdir(parents=True)
    me = liveness.this_process()
    (folder / "config.yaml").touch()
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("create", run="abc", name="n", params={}, tags={})
        writer.append("start", **me, threads=1, backend="numpy")
    assert close_dead(tmp_path) == [], "this process lives"
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("start", **me | {"host": "elsewhere"}, threads=1, backend="numpy")
    assert close_dead(tmp_path) == [], "who knows what lives elsewhere"
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("start", **me | {"process_started": 1.0}, threads=1, backend="numpy")
    with Run(folder).lock():
        assert close_dead(tmp_path) == [], "somebody holds its lock"
    assert close_dead(tmp_path) == ["abc"], "another process has its number"
    assert close_dead(tmp_path) == []
    told = Run(folder).history()
    assert (told.status, told.error) == ("KILLED", "its process died without an end record")


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    """In a container whose first process buries nobody, an orphan stays one."""
    say = (
        "import json; from harness.runfolder import liveness; "
        "print(json.dumps(liveness.this_process()))"
    )
    with subprocess.Popen([sys.executable, "-c", say], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        start = json.loads(process.stdout.read())
        deadline = time.monotonic() + 60
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        folder = tmp_path / "runs" / "abc"
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
        with Journal(folder / journal.FILE_NAME) as writer:
            writer.append("create", run="abc", name="n", params={}, tags={})
            writer.append("start", **start, threads=1, backend="numpy")
        assert close_dead(tmp_path) == ["abc"]


def started(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", RUN, *arguments],
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for_checkpoint(place: Path) -> Path:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for found in place.glob("outputs/runs/*/checkpoints/epoch-*"):
            return found.parents[1]
        time.sleep(0.02)
    raise AssertionError("no checkpoint")


@pytest.mark.fault
def test_the_second_ctrl_c_ends_at_once(tmp_path: Path, idx_folder: Path) -> None:
    """The job is stopped, so that the first one waits for it."""
    process = started(tmp_path, *settings(idx_folder, "tracking=none", "epochs=100000"))
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


def sweep_in_a_checkout(place: Path, *arguments: str) -> tuple[Path, subprocess.Popen[str]]:
    """A copy of the source to edit, and a sweep with it that has written a checkpoint."""
    copy = place / "checkout"
    for name in ("harness", "conf"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    process = subprocess.Popen(
        [sys.executable, "-m", RUN, "-m", *arguments],
        cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
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
def test_editing_the_source_mixes_old_and_new_in_no_job(tmp_path: Path, idx_folder: Path) -> None:
    """What is forked has the old source: from then on each job is started."""
    own = settings(idx_folder, "tracking=none", "seed=1,2,3", "epochs=2000")
    copy, process = sweep_in_a_checkout(tmp_path, *own)
    with (copy / "harness/training/trainer.py").open("a") as file:
        file.write("\n\nimport sys\n\nprint('edited', file=sys.stderr)\n")
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    assert stderr.count("edited") >= (2 if forkserver.AVAILABLE else 1)
    told = [Run(folder).history() for folder in run_folders(copy / "outputs")]
    assert [each.status for each in told] == ["FINISHED"] * 3


def test_a_damaged_journal_is_named_and_hinders_nobody(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    arguments = ("-m", *settings(idx_folder, "tracking=none"), "seed=1,2")
    command(RUN, *arguments)
    first, second = run_folders(tmp_path / "outputs")
    for folder, place in ((first, 12), (second, -30)):
        path = folder / journal.FILE_NAME
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)
    for module, line in (("harness", ["status"]), ("harness", ["sync"]), (RUN, arguments)):
        done = command(module, *line)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
        assert f"{first.name}/journal.jsonl: the record at byte 0 does not match" in done.stderr
    assert f"{second.name}/journal.jsonl: the record at byte" in done.stderr
    assert len(list(run_folders(tmp_path / "outputs"))) == 4, "both were trained anew"
