"""What several tests share: a small data set on disk, and the harness as a real command."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.data import idx
from harness.data.sources import FILES
from harness.runfolder.folder import all_runs

# Compiled once for all tests, not once per outputs folder.
os.environ.setdefault("NUMBA_CACHE_DIR", tempfile.mkdtemp(prefix="harness-numba-"))

Command = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).resolve().parents[1]


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
def command(tmp_path: Path) -> Command:
    """Run `python -m MODULE ARGUMENTS...` in an empty folder; nothing is checked."""
    return command_in(tmp_path)


def command_in(folder: Path) -> Command:
    """The `command` fixture for any folder."""

    def run(
        module: str, *arguments: str, timeout: float = 120, **environment: str
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


def run_folders(outputs: Path) -> list[Path]:
    """The run folders of `outputs`, oldest first."""
    return [run.folder for run in all_runs(outputs)]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With HARNESS_NO_SKIP, a skipped test is a failure: everything it needs should be here."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("HARNESS_NO_SKIP") and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
