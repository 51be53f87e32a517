"""One small network, trained once for all tests of this folder by the real command."""

import shutil
from pathlib import Path

import pytest

from harness.recognizer import loading
from harness.recognizer.recognizer import Recognizer
from harness.runfolder import journal
from harness.runfolder.objective import Objective
from harness.runfolder.run import Run
from tests.conftest import command_in, run_folders

FAST = ("width=128", "epochs=4")


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outputs folder with one finished run on MNIST; about 4 % error."""
    folder = tmp_path_factory.mktemp("trained")
    done = command_in(folder)("harness.run", *FAST, "tracking=none", timeout=900)
    assert done.returncode == 0, done.stderr
    return folder / "outputs"


@pytest.fixture(scope="session")
def run_folder(outputs: Path) -> Path:
    """The folder of that run."""
    (folder,) = run_folders(outputs)
    return folder


@pytest.fixture(scope="session")
def trained(run_folder: Path) -> Recognizer:
    """The recognizer of that run."""
    return loading.load_run(Run(run_folder))


def copy_run(
    run_folder: Path,
    outputs: Path,
    run_id: str,
    *,
    val_error: float = 0.5,
    dataset: str = "mnist",
    finished: bool = True,
    objective: str = "val/error",
) -> Run:
    """Copy a finished run into `outputs` under another id, with these facts in its journal."""
    copy = outputs / "runs" / run_id
    shutil.copytree(run_folder, copy)
    records = journal.read(copy / journal.FILE_NAME)[0]
    for record in records:
        if record["kind"] == "create":
            record |= {"run": run_id, "name": f"copy {run_id}"}
            record["dataset"]["name"] = dataset
            record["params"]["objective"] = objective
        if record["kind"] == "final":
            record["metrics"][Objective.parse(objective).best_key] = val_error
    kept = [record for record in records if finished or record["kind"] != "end"]
    (copy / journal.FILE_NAME).write_bytes(b"".join(map(journal.encode, kept)))
    return Run(copy)
