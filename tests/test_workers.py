"""Four equal commands at the same time, killed at random: each job once, and the total kept.

A command, or a command with its jobs, is killed about four times in each test; more often by

    HARNESS_KILLS=50 python -m pytest tests/test_workers.py -m "fault or service"
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import optuna
import psutil
import pytest

from harness.runfolder import journal
from harness.runfolder.plan import all_plans
from harness.runfolder.run import Run
from tests.conftest import ROOT, RUN, command_in, python_path, run_folders, small, start
from tests.tracking.test_faults import PostgreSQL, postgres_is_here

KILLS = int(os.environ.get("HARNESS_KILLS", "4"))
COMMANDS = 4
EPOCHS = 12
# A metric that waits: the jobs take long enough to be killed, and leave the core to the commands.
WAITING = "import time\n\ndef waits(probabilities, labels):\n    time.sleep(0.03)\n    return 0.5\n"


def settings(cwd: Path, folder: Path, *more: str) -> tuple[str, ...]:
    """The command line of jobs of about two seconds."""
    (cwd / "waiting.py").write_text(WAITING)
    own = ("tracking=none", f"epochs={EPOCHS}", "threads=1", "backend=numpy")
    return ("-m", *small(folder, *own), "metrics=[waiting:waits]", *more)


class Commands:
    """Several equal commands; each has a file for what it prints."""

    def __init__(self, cwd: Path, arguments: tuple[str, ...]) -> None:
        self._cwd, self._arguments = cwd, arguments
        self._started = self.killed = 0
        self.running = [self.start() for _ in range(COMMANDS)]

    def start(self) -> subprocess.Popen[bytes]:
        self._started += 1
        with self.log(self._started).open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", RUN, *self._arguments],
                cwd=self._cwd, stdout=log, stderr=log, env=os.environ | python_path(self._cwd),
            )  # fmt: skip

    def log(self, number: int) -> Path:
        return self._cwd / f"command-{number}.log"

    def replace(self, place: int, *, with_jobs: bool) -> None:
        """Kill a command that still runs, and start another one in its place."""
        process = self.running[place]
        if process.poll() is not None:
            return
        self.killed += 1
        killed = [psutil.Process(process.pid)]
        if with_jobs:
            killed += killed[0].children(recursive=True)
        for each in killed:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()
        self.running[place] = self.start()

    def outputs(self) -> str:
        return "\n".join(self.log(n + 1).read_text() for n in range(self._started))


@contextmanager
def killed_at_random(cwd: Path, arguments: tuple[str, ...], seed: int) -> Iterator[Commands]:
    """Four commands that ended, after random ones of them were killed and replaced."""
    chance = random.Random(seed)
    commands = Commands(cwd, arguments)
    try:
        wait_for_epochs(cwd, 1)
        for _ in range(KILLS):
            wait_for_epochs(cwd, recorded(cwd) + chance.randint(0, 2 * EPOCHS), 10)
            time.sleep(chance.uniform(0, 0.3))
            commands.replace(chance.randrange(COMMANDS), with_jobs=chance.random() < 0.5)
        for process in commands.running:
            process.wait(300)
        yield commands
    finally:
        for process in commands.running:
            process.kill()
            process.wait()


def recorded(cwd: Path) -> int:
    """How many records all journals have together, but for folders that are being created."""
    return sum(f.read_bytes().count(b"\n") for f in cwd.glob("outputs/runs/[!.]*/journal.jsonl"))


def wait_for_epochs(cwd: Path, goal: int, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while recorded(cwd) < goal and time.monotonic() < deadline:
        time.sleep(0.05)


def assert_trained_once(folder: Path) -> None:
    """Each epoch is there once: no job began while another one was training the run."""
    assert Run(folder).history().status == "FINISHED"
    records = journal.read(folder / journal.FILE_NAME)[0]
    assert [each["epoch"] for each in records if each["kind"] == "epoch"] == list(
        range(1, EPOCHS + 1)
    )
    ends = [each["status"] for each in records if each["kind"] == "end"]
    assert ends.count("FINISHED") == 1
    assert "FAILED" not in ends


@pytest.mark.fault
@pytest.mark.service
@pytest.mark.parametrize(
    ("launcher", "sampler"), [("basic", "qmc"), ("joblib", "tpe"), ("basic", "seeds")]
)
def test_a_search_of_four_killed_commands(
    tmp_path: Path, idx_folder: Path, launcher: str, sampler: str
) -> None:
    total = 8 + 2 * KILLS
    search = [f"hydra/launcher={launcher}", "lr=tag(log, interval(0.01, 1))"]
    if sampler == "seeds":
        total, sampler = total // 2, "random"
        search += ["seed=range(1,4)"]
    arguments = settings(
        tmp_path, idx_folder, "hydra/sweeper=optuna", f"hydra.sweeper.n_trials={total}",
        f"hydra.sweeper.sampler={sampler}", "hydra.sweeper.pruner=none", *search,
    )  # fmt: skip
    with killed_at_random(tmp_path, arguments, seed=2) as commands:
        outputs = commands.outputs()
        assert [process.returncode for process in commands.running] == [0] * COMMANDS, outputs
    assert commands.killed >= KILLS / 2
    assert "Traceback" not in outputs
    assert_search_is_whole(tmp_path, f"sqlite:///{tmp_path}/outputs/optuna.db", total)
    assert outputs.count("report:   ") == COMMANDS, "all end with the table of all runs"


@pytest.mark.fault
@pytest.mark.service
def test_a_search_that_pauses_of_four_killed_commands(tmp_path: Path, idx_folder: Path) -> None:
    total = 8 + 2 * KILLS
    arguments = settings(
        tmp_path, idx_folder, "hydra/sweeper=optuna", f"hydra.sweeper.n_trials={total}",
        "hydra.sweeper.pruner=asha", "hydra.sweeper.warmup_epochs=1",
        "lr=tag(log, interval(0.01, 1))",
    )  # fmt: skip
    with killed_at_random(tmp_path, arguments, seed=4) as commands:
        outputs = commands.outputs()
        assert [process.returncode for process in commands.running] == [0] * COMMANDS, outputs
    assert commands.killed >= KILLS / 2
    assert "Traceback" not in outputs
    runs = [Run(folder).history() for folder in run_folders(tmp_path / "outputs")]
    assert len(runs) == total, "one for each setting"
    for run in runs:
        assert [each["epoch"] for each in run.epochs] == list(range(1, len(run.epochs) + 1))
        assert len(run.epochs) in (1, 3, EPOCHS), "at a rung"
        assert run.how_pruned == ("paused" if len(run.epochs) < EPOCHS else "")
    reached = [sum(len(run.epochs) >= rung for run in runs) for rung in (1, 3, EPOCHS)]
    assert reached[1] >= total // 3
    assert reached[2] >= reached[1] // 3
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/outputs/optuna.db")
    began = [each for each in study.trials if "continues" not in each.user_attrs]
    began = [each for each in began if each.state.name != "FAIL"]
    assert len({str(each.params) for each in began}) == len(began) == total
    assert {each.state.name for each in study.trials} <= {"COMPLETE", "PRUNED", "FAIL"}
    study._storage.remove_session()


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The address of a real PostgreSQL."""
    if not postgres_is_here():
        pytest.skip("PostgreSQL is missing: apt-get install postgresql")
    database = PostgreSQL()
    try:
        yield database.uri
    finally:
        database.stop()


@pytest.mark.fault
@pytest.mark.service
def test_a_search_of_four_killed_commands_in_postgresql(
    tmp_path: Path, idx_folder: Path, postgresql: str
) -> None:
    total = 8 + 2 * KILLS
    arguments = settings(
        tmp_path, idx_folder, "hydra/sweeper=optuna", f"hydra.sweeper.n_trials={total}",
        f"hydra.sweeper.storage={postgresql}", "hydra.sweeper.pruner=none",
        "lr=tag(log, interval(0.01, 1))",
    )  # fmt: skip
    with killed_at_random(tmp_path, arguments, seed=3) as commands:
        outputs = commands.outputs()
        assert [process.returncode for process in commands.running] == [0] * COMMANDS, outputs
    assert commands.killed >= KILLS / 2
    assert "Traceback" not in outputs
    assert_search_is_whole(tmp_path, postgresql, total)
    assert not (tmp_path / "outputs/optuna.db").exists()


@pytest.mark.service
def test_a_search_in_two_folders(tmp_path: Path, idx_folder: Path, postgresql: str) -> None:
    """The machines share the study only; one with other settings is refused."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        arguments = settings(
            tmp_path / name, idx_folder, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=6",
            f"hydra.sweeper.storage={postgresql}", "lr=tag(log, interval(0.01, 1))",
            "hydra.sweeper.study=both", "hydra.sweeper.pruner=none",
        )  # fmt: skip
    here, there = (command_in(tmp_path / name) for name in ("here", "there"))
    path = {"PYTHONPATH": f"{tmp_path / 'here'}{os.pathsep}{ROOT}"}
    refused = there(RUN, *arguments, "batch=10", "hydra.sweeper.n_trials=1", **path)
    assert refused.returncode == 0, refused.stderr
    refused = here(RUN, *arguments, **path)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert "search both: batch was 10 when it started and is 20 now" in refused.stderr
    (tmp_path / "there/outputs").rename(tmp_path / "other")
    named = [each.replace("study=both", "study=two") for each in arguments]
    first = here(RUN, *named, "hydra.sweeper.n_trials=2", **path)
    assert first.returncode == 0, first.stderr
    both = [start(tmp_path / name, *named, **path) for name in ("here", "there")]
    for process in both:
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
        assert " of 6 trials have no run here; " in stdout
    counts = [len(run_folders(tmp_path / name / "outputs")) for name in ("here", "there")]
    assert sum(counts) == 6
    assert min(counts) > 0
    merged = here("harness", "merge", str(tmp_path / "there/outputs"))
    assert merged.returncode == 0, merged.stderr
    again = here(RUN, *named, **path)
    assert again.returncode == 0, again.stderr
    assert "have no run here" not in again.stdout
    assert again.stdout.count("FINISHED") == 6


def assert_search_is_whole(cwd: Path, storage: str, total: int) -> None:
    """Each trial counts once, and has the value of runs that were trained once."""
    study = optuna.load_study(study_name=None, storage=storage)
    complete = [each for each in study.trials if each.state.name == "COMPLETE"]
    others = [each for each in study.trials if each.state.name != "COMPLETE"]
    assert len(complete) == total
    assert {each.state.name for each in others} <= {"FAIL"}
    assert not any("error" in each.user_attrs for each in others)
    resumed = [each.user_attrs["resumes"] for each in study.trials if "resumes" in each.user_attrs]
    assert sorted(resumed) == sorted(each.number for each in others), "each one is taken over once"
    assert len({str(each.params) for each in complete}) == total, "no value was tried twice"
    assert len({each.user_attrs["worker"] for each in complete}) > 1
    (plan,) = all_plans(cwd / "outputs")
    runs = {run.folder.name: run for run in plan.runs(cwd / "outputs")}
    assert sorted(runs) == sorted(each.name for each in run_folders(cwd / "outputs"))
    for run in runs.values():
        assert_trained_once(run.folder)
    for each in complete:
        values = each.user_attrs["values"]
        assert runs[each.user_attrs["run"]].history().final["best/val_error"] == values[-1]
    study._storage.remove_session()


@pytest.mark.fault
@pytest.mark.service
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep_of_four_killed_commands(tmp_path: Path, idx_folder: Path, launcher: str) -> None:
    jobs = 8 + 2 * KILLS
    arguments = settings(tmp_path, idx_folder, f"seed=range({jobs})", f"hydra/launcher={launcher}")
    with killed_at_random(tmp_path, arguments, seed=1) as commands:
        outputs = commands.outputs()
        assert [process.returncode for process in commands.running] == [0] * COMMANDS, outputs
    assert commands.killed >= KILLS / 2
    assert "Traceback" not in outputs
    folders = run_folders(tmp_path / "outputs")
    assert len(folders) == jobs
    for folder in folders:
        assert_trained_once(folder)
    assert outputs.count("each run:   ") == COMMANDS, "all end with the table of all runs"
