"""A real Slurm with two nodes: arrays, scancel, requeue, and repeated commands."""

import json
import shlex
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.runfolder import journal
from harness.runfolder.folder import all_runs
from harness.runfolder.run import Run
from tests.conftest import (
    RUN,
    Command,
    command_in,
    histories,
    run_folders,
    small,
    start,
    wait_for,
)
from tests.slurm import INSTALL, MISSING, ask, slurm  # noqa: F401

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(MISSING), reason=INSTALL),
    pytest.mark.usefixtures("slurm"),
]
SLURM = ("-m", "hydra/launcher=slurm", "hydra.launcher.mem_gb=1", "backend=numpy")
# A metric by which an epoch takes a while, but leaves the core to other tests.
WAITING = "import time\n\ndef waits(predictions, labels):\n    time.sleep(0.02)\n    return 0.5\n"


def settings(folder: Path, *more: str) -> tuple[str, ...]:
    return (*SLURM, *small(folder, "batch=10", "width=300"), *more)


def training(cwd: Path, count: int) -> list[Path]:
    """The first run folders that have an epoch, once there are `count`."""

    def live() -> list[Path]:
        runs = [run for run in all_runs(cwd / "outputs") if run.status == "RUNNING"]
        folders = [run.folder for run in runs if run.history().epochs]
        return folders if len(folders) >= count else []

    return wait_for(live)


def job_id(folder: Path) -> str:
    job = json.loads((folder / "queued.json").read_text())
    for line in ask("squeue", "--noheader", "--array", "--format=%j|%K|%i").splitlines():
        name, task, number = line.split("|")
        if (name, task) == (job["name"], job["task"]):
            return number
    raise AssertionError(f"{job} is not in the queue")


def assert_whole(cwd: Path, epochs: int, count: int) -> None:
    """Every run is finished and has each epoch once."""
    runs = histories(cwd)
    assert len(runs) == count
    for run in runs:
        assert run.status == "FINISHED"
        assert [record["epoch"] for record in run.epochs] == list(range(1, epochs + 1))


def assert_paused_and_whole(cwd: Path, epochs: int, count: int) -> None:
    """Every run has each of its epochs once; some paused, and the best went on to the end."""
    runs = histories(cwd)
    assert len(runs) == count
    lengths = sorted(len(run.epochs) for run in runs)
    assert lengths[0] < epochs == lengths[-1]
    for run in runs:
        assert [record["epoch"] for record in run.epochs] == list(range(1, len(run.epochs) + 1))
        assert run.status == ("FINISHED" if len(run.epochs) == epochs else "KILLED")


def test_an_array_of_six_of_which_one_is_cancelled_and_continued(
    tmp_path: Path, idx_folder: Path
) -> None:
    arguments = settings(idx_folder, "epochs=150", "seed=range(6)")
    process = start(tmp_path, *arguments)
    victim = training(tmp_path, 1)[0]
    ask("scancel", job_id(victim))
    stdout, stderr = process.communicate(timeout=400)
    assert process.returncode == 1, stderr
    assert "5/6 done" in stdout
    assert "1 killed" in stdout
    statuses = {
        folder.name: Run(folder).history().status for folder in run_folders(tmp_path / "outputs")
    }
    assert statuses.pop(victim.name) == "KILLED"
    assert set(statuses.values()) == {"FINISHED"}
    again = start(tmp_path, *arguments)
    stdout, stderr = again.communicate(timeout=200)
    assert again.returncode == 0, stderr
    assert stdout.count("finished before") == 5
    assert_whole(tmp_path, 150, 6)
    assert all(run.start and run.start["threads"] == 1 for run in histories(tmp_path))
    nodes = ask("squeue", "--states=all", "--noheader", "--array", "--format=%N").split()
    assert {"n1", "n2"} <= set(nodes)
    done = command_in(tmp_path)("harness", "sync")
    assert "6 of 6 runs delivered in full" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_jobs_outlive_the_command_and_the_next_one_follows_them(
    tmp_path: Path, idx_folder: Path, number: int
) -> None:
    arguments = settings(idx_folder, "tracking=none", "epochs=500", "seed=1,2,3")
    process = start(tmp_path, *arguments)
    live = training(tmp_path, 2)
    jobs = [psutil.Process(Run(folder).history().start["pid"]) for folder in live]
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "3 job(s) remain in the queue; repeat the command to follow them" in stdout
    time.sleep(1)
    assert all(job.is_running() for job in jobs)
    again = start(tmp_path, *arguments)
    stdout, stderr = again.communicate(timeout=300)
    assert again.returncode == 0, stderr
    assert "job(s) are already in the queue; following them" in stdout
    assert_whole(tmp_path, 500, 3)
    for folder in run_folders(tmp_path / "outputs"):
        records = journal.read(folder / journal.FILE_NAME)[0]
        assert [record["kind"] for record in records].count("start") == 1, "never started twice"


@pytest.mark.parametrize("kind", ["sweep", "search"])
def test_two_commands_submit_each_job_once(tmp_path: Path, idx_folder: Path, kind: str) -> None:
    search = ("hydra/sweeper=optuna", "lr=interval(0.01,1)", "hydra.sweeper.n_trials=6",
              "hydra.sweeper.pruner=none")  # fmt: skip
    what = ("seed=range(6)",) if kind == "sweep" else search
    arguments = settings(idx_folder, "tracking=none", "epochs=40", *what)
    commands = [start(tmp_path, *arguments) for _ in range(2)]
    if kind == "search":
        training(tmp_path, 1)
        commands[0].kill()
    for process in commands:
        _, stderr = process.communicate(timeout=400)
        assert process.returncode in (0, -signal.SIGKILL), stderr
    assert commands[1].returncode == 0
    assert_whole(tmp_path, 40, 6)
    for folder in run_folders(tmp_path / "outputs"):
        records = journal.read(folder / journal.FILE_NAME)[0]
        assert [record["kind"] for record in records].count("start") == 1, "never started twice"


@pytest.mark.parametrize(("pruner", "count"), [("none", 6), ("asha", 24)])
def test_array_tasks_are_commands_of_one_search(
    tmp_path: Path, idx_folder: Path, pruner: str, count: int
) -> None:
    """Each task of the array runs the same command; one of them is requeued."""
    words = ("-m", *small(idx_folder, "tracking=none", "batch=10", "width=300", "epochs=60",
             "backend=numpy", "threads=1"), "hydra/sweeper=optuna", "lr=interval(0.01,1)",
             f"hydra.sweeper.n_trials={count}", f"hydra.sweeper.pruner={pruner}")  # fmt: skip
    line = "exec " + shlex.join([sys.executable, "-m", RUN, *words])
    number = ask("sbatch", "--parsable", "--array=1-2", "--mem=1G", "--requeue",
                 f"--chdir={tmp_path}", f"--wrap={line}").strip()  # fmt: skip

    def both_work() -> bool:
        states = ask("squeue", "--noheader", "--array", f"--job={number}", "--format=%T").split()
        begun = [run for run in all_runs(tmp_path / "outputs") if run.history().epochs]
        return states == ["RUNNING"] * 2 and len(begun) >= 2

    wait_for(both_work)  # two trials that run: `asha` pauses them too soon to be seen
    ask("scontrol", "requeue", f"{number}_1")

    def is_done() -> bool:
        states = ask("squeue", "--noheader", f"--job={number}_2", "--states=all", "--format=%T")
        return states.strip() == "COMPLETED"

    wait_for(is_done, 400)
    if pruner == "none":
        assert_whole(tmp_path, 60, count)
    else:
        assert_paused_and_whole(tmp_path, 60, count)
    ask("scancel", number)


def test_preempted_and_timed_out_jobs_resume_from_their_checkpoints(
    tmp_path: Path, idx_folder: Path
) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    words = "tracking=none", "epochs=600", "seed=1,2", "metrics=[waiting:waits]"
    process = start(tmp_path, *settings(idx_folder, *words))
    first, second = (job_id(folder) for folder in training(tmp_path, 2))
    ask("scontrol", "requeue", first)  # what pre-emption with PreemptMode=REQUEUE does
    ask("scancel", "--signal=USR2", second)  # what Slurm sends when the time is nearly up
    deadline = time.monotonic() + 300
    for number in (first, second):
        while ask("squeue", "--noheader", f"--job={number}", "--format=%T") != "PENDING":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        # Slurm lets a requeued job wait for two minutes.
        ask("scontrol", "update", f"JobId={number}", "StartTime=now")
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert_whole(tmp_path, 600, 2)
    for folder in run_folders(tmp_path / "outputs"):
        records = journal.read(folder / journal.FILE_NAME)[0]
        starts = [index for index, record in enumerate(records) if record["kind"] == "start"]
        assert len(starts) == 2
        before = [r["epoch"] for r in records[: starts[1]] if r["kind"] == "epoch"]
        assert len(before) >= 1, "it was resumed from there"


def test_a_job_that_reached_its_time_limit_resumes_from_its_checkpoint(
    tmp_path: Path, idx_folder: Path
) -> None:
    """Slurm stops it at its time limit; no test sends a signal."""
    (tmp_path / "waiting.py").write_text(WAITING)
    limits = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=20")
    endless = settings(idx_folder, "tracking=none", "epochs=1000000", "seed=1",
                       "metrics=[waiting:waits]", *limits)  # fmt: skip
    process = start(tmp_path, *endless)
    try:
        (folder,) = training(tmp_path, 1)
        number = job_id(folder)
        deadline = time.monotonic() + 240
        while ask("squeue", "--noheader", f"--job={number}", "--format=%T") != "PENDING":
            assert time.monotonic() < deadline
            time.sleep(0.5)
        before = Run(folder).history()
        assert (before.status, before.error) == ("KILLED", "interrupted")
        ask("scontrol", "update", f"JobId={number}", "StartTime=now")
        while len(Run(folder).history().epochs) <= len(before.epochs):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        ask("scancel", number)
        while Run(folder).history().status != "KILLED":
            assert time.monotonic() < deadline
            time.sleep(0.5)
        epochs = [record["epoch"] for record in Run(folder).history().epochs]
        assert epochs == list(range(1, len(epochs) + 1))
    finally:
        process.kill()
        process.communicate()


def test_what_slurm_refuses_is_one_line_and_creates_nothing(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    done = command(RUN, *settings(idx_folder, "hydra.launcher.partition=nowhere"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "invalid partition specified: nowhere" in done.stderr
    done = command(RUN, *settings(idx_folder, "threads=4"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "threads=4: hydra.launcher.cpus_per_task=1 gives a job 1 core(s)" in done.stderr
    assert list(tmp_path.iterdir()) == []


OWN = """
from dataclasses import dataclass
import numpy as np
from harness.nn.activations import ReLU

class Leaky(ReLU):
    def __init__(self, *, slope: float = 0.1): pass

@dataclass
class Settings:
    rate: float = 0.1

def fit(settings: Settings, run):
    labels = run.dataset.test.labels
    for epoch in run.epochs():
        run.log(epoch, {"val/error": settings.rate / epoch})
    run.final({"test/error": settings.rate})
    is_wrong = np.arange(len(labels)) < round(settings.rate * len(labels))
    classes = run.dataset.classes
    run.predictions(labels, np.eye(classes)[(labels + is_wrong) % classes])
"""


def test_own_modules_of_the_working_directory_and_of_a_folder(
    tmp_path: Path, idx_folder: Path
) -> None:
    """Jobs start in another process, on another node, which is given neither."""
    (tmp_path / "own_here.py").write_text("from own_there import Settings, fit\n")
    experiment = tmp_path / "mine/experiment/short.yaml"
    experiment.parent.mkdir(parents=True)
    experiment.write_text("epochs: 2\n")
    (tmp_path / "mine/own_there.py").write_text(OWN)
    data = ("dataset=idx", f"dataset.dir={idx_folder}", "tracking=none", "hydra.launcher.mem_gb=1")
    for more in (
        ("activation=own_there:Leaky", "activation.slope=0.2", "seed=1,2", "batch=20", "width=8"),
        ("trainer=own_here:fit", "trainer.rate=0.3,0.4"),
    ):
        process = start(
            tmp_path, "-m", "hydra/launcher=slurm", "-cd", "mine", "experiment=short", *data, *more
        )
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
        assert "2/2 done" in stdout
    assert_whole(tmp_path, 2, 4)
    first, _, third, fourth = histories(tmp_path)
    chosen = first.params["activation"], first.params["activation.slope"]
    assert chosen == ("own_there:Leaky", 0.2)
    assert [run.final["test/error"] for run in (third, fourth)] == [0.3, 0.4]
    assert [each["path"] for each in third.code] == ["own_here.py", "own_there.py"]
