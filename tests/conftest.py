"""Shared by the tests: a small data set, run folders, and the harness as a real command."""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from harness.data import idx
from harness.data.sources import FILES
from harness.nn import metrics
from harness.run import compose
from harness.runfolder import folder as folders
from harness.runfolder import liveness
from harness.runfolder.folder import Identity, all_runs
from harness.runfolder.history import History
from harness.runfolder.objective import Objective
from harness.runfolder.plan import Plan, SweepJob
from harness.runfolder.run import Run
from harness.runfolder.schema import Config
from harness.tracking import environment

environment.set_up(os.environ)  # as commands do
if "NUMBA_CACHE_DIR" not in os.environ:  # compiled once for the tests of all workers
    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(prefix="harness-numba-")
    atexit.register(shutil.rmtree, os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)

Command = Callable[..., subprocess.CompletedProcess[str]]
Found = TypeVar("Found")
ROOT = Path(__file__).resolve().parents[1]
RUN = "harness.run"
DATASET = {
    "name": "mnist", "sha256": "ab" * 32, "source": "mnist", "train": 1, "val": 2, "test": 3,
    "image_shape": [28, 28], "classes": 10,
}  # fmt: skip


def write_idx_folder(
    folder: Path,
    *,
    train: int = 300,
    test: int = 100,
    shape: tuple[int, int] = (6, 5),
    classes: int = 4,
    suffix: str = "",
) -> Path:
    """Four IDX files of a problem that can be learnt: the class is the brightest band."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(7)
    for (images, labels), count in ((FILES[:2], train), (FILES[2:], test)):
        truth = np.arange(count) % classes
        pixels = generator.integers(0, 80, (count, shape[0] * shape[1]))
        band = shape[0] * shape[1] // classes
        for row, label in enumerate(truth):
            pixels[row, label * band : (label + 1) * band] += 150
        idx.write(folder / (images + suffix), pixels.reshape(count, *shape).astype(np.uint8))
        idx.write(folder / (labels + suffix), truth.astype(np.uint8))
    return folder


@pytest.fixture(scope="session")
def idx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of 6x5 images in 4 classes: 300 for training, 100 for testing."""
    return write_idx_folder(tmp_path_factory.mktemp("idx"))


@pytest.fixture
def heard_sigint() -> Iterator[None]:
    """As in a terminal: a shell's background job, and what it starts, ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `python -m MODULE ARGUMENTS...` in an empty folder; nothing is checked."""
    return command_in(tmp_path)


def command_in(folder: Path) -> Command:
    """The `command` fixture for any folder."""

    def run(
        module: str, *arguments: str, timeout: float = 300, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


def start(cwd: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start `python -m harness.run ARGUMENTS...` in a folder; its output goes to pipes."""
    process = subprocess.Popen(
        [sys.executable, "-m", RUN, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _started.append(process)
    return process


_started: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def end_what_was_started() -> Iterator[None]:
    """A test that fails leaves no command behind, which later tests would have beside them."""
    yield
    while _started:
        process = _started.pop()
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def as_user(user: int, group: int) -> list[str]:
    """The beginning of a command that runs as another user, without a name or other groups.

    It may read every file, because Python may be installed in a folder of root; it writes where
    the user may write. Alembic asks with `access`, to which the capability means nothing: so
    `needs_root` wants an environment that everybody may read.
    """
    capability = "+dac_read_search"
    return [
        "setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups",
        f"--inh-caps={capability}", f"--ambient-caps={capability}",
    ]  # fmt: skip


needs_root = pytest.mark.skipif(
    os.name == "nt"
    or os.getuid() != 0
    or shutil.which("setpriv") is None
    or not all(
        path.stat().st_mode & 0o001 for path in [*Path(sys.prefix).parents, Path(sys.prefix)]
    ),
    reason="needs root, setpriv, and a virtual environment in a folder that everybody may enter",
)


def python_path(folder: Path) -> dict[str, str]:
    """The environment in which Python finds the modules of a folder first."""
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def bash(cwd: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of Bash with this checkout's package; nothing is checked."""
    return subprocess.run(
        ["bash", "-c", line],
        cwd=cwd,
        env=os.environ | python_path(ROOT),
        capture_output=True,
        text=True,
        timeout=300,
    )


def small(folder: Path, *more: str) -> tuple[str, ...]:
    """Overrides of a run that trains on `idx_folder` within milliseconds per epoch."""
    own = ("dataset=idx", f"dataset.dir={folder}", "dataset.num_val=40", "batch=20", "width=8")
    return (*own, *more)


def run_folders(outputs: Path) -> list[Path]:
    """The run folders of `outputs`, oldest first."""
    return [run.folder for run in all_runs(outputs)]


def only_folder(cwd: Path) -> Path:
    """The run folder of the one run in `cwd`/outputs."""
    (folder,) = run_folders(cwd / "outputs")
    return folder


def histories(cwd: Path) -> list[History]:
    """The histories of the runs in `cwd`/outputs, oldest first."""
    return [run.history() for run in all_runs(cwd / "outputs")]


def wait_for(find: Callable[[], Found], seconds: float = 300) -> Found:
    """Call `find` until its result is true, and return the result."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = find()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"nothing within {seconds:.0f} s")


def free_port() -> int:
    """A TCP port of loopback on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@cache
def composed(*overrides: str) -> Config:
    """The configuration of a command with these overrides."""
    return compose.compose_one(list(overrides))


def new_run(outputs: Path, *overrides: str, name: str = "batch=16", **tags: str) -> Run:
    """A run folder that is frozen and not started; its data set is not in the cache."""
    config = replace(composed(*overrides), outputs=str(outputs))
    identity = Identity(name, {"run_key": "key", **tags}, DATASET)
    return folders.create(outputs, config, identity)


def plan_of(*runs: Run) -> Plan:
    """The plan of a sweep over the batch size."""
    jobs = tuple(
        SweepJob(run.id, f"batch={number}", {"batch": str(number)}, "key")
        for number, run in enumerate(runs, 1)
    )
    return Plan("0123456789", ("-m", "batch=1,2"), jobs)


def record_training(
    run: Run, *measured: float, status: str | None = "FINISHED", error: str | None = None
) -> Run:
    """Append the records of a job: start, one epoch for each value of its objective, final, end.

    status: None for a run without an end record.
    """
    objective = Objective.of(run.create["params"])
    with run.writing() as journal:
        journal.append("start", **liveness.this_process(), threads=1, backend="numpy")
        for epoch, value in enumerate(measured, 1):
            values = {objective.metric: value, metrics.EPOCH_S: 0.5}
            journal.append("epoch", epoch=epoch, metrics=values)
        best = objective.best(measured)
        if status == "FINISHED" and best is not None:
            values = {
                objective.best_key: best,
                metrics.BEST_EPOCH: 1.0 + measured.index(best),
                objective.test_key: best + 0.01,
            }
            journal.append("final", epoch=len(measured), metrics=values)
        if status is not None:
            journal.append("end", status=status, error=error)
    return run


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With HARNESS_NO_SKIP, a skipped test is a failure: everything it needs should be here."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("HARNESS_NO_SKIP") and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
