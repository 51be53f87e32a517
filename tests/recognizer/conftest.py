"""One small network, trained once for all tests of this folder by the real command."""

from pathlib import Path

import pytest

from harness.recognizer import loading
from harness.recognizer.recognizer import Recognizer
from harness.runfolder.run import Run
from tests.conftest import command_in, run_folders

FAST = ("width=128", "epochs=4")


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outputs folder with one finished run on MNIST; about 4 % error."""
    place = tmp_path_factory.mktemp("trained")
    done = command_in(place)("harness.run", *FAST, "tracking=none", timeout=900)
    assert done.returncode == 0, done.stderr
    return place / "outputs"


@pytest.fixture(scope="session")
def run_folder(outputs: Path) -> Path:
    """The folder of that run."""
    (folder,) = run_folders(outputs)
    return folder


@pytest.fixture(scope="session")
def trained(run_folder: Path) -> Recognizer:
    """The recognizer of that run."""
    return loading.load_run(Run(run_folder))
