"""The list of networks: the default first, then local runs, then those of a store."""

from pathlib import Path

import pytest

from harness.nn import metrics
from harness.recognizer import loading
from harness.recognizer.library import Library
from harness.recognizer.recognizer import Recognizer
from harness.runfolder.history import ARCHIVED
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from harness.tracking.errors import StoreError
from harness.tracking.recorded import Recorded
from tests.recognizer.conftest import copy_run


class Store:
    """A tracking store with these runs, oldest first; an error if they are None."""

    def __init__(self, runs: list[Recorded] | None) -> None:
        self.runs = runs

    def finished(self) -> list[Recorded]:
        """The runs. Raises `StoreError`."""
        if self.runs is None:
            raise StoreError("http://store: no answer")
        return self.runs


def recorded(run: str, tag: str) -> Recorded:
    final = {metrics.BEST_VAL_ERROR: 0.25}
    return Recorded(run, f"stored {run}", RunStatus.FINISHED, {}, {"run.id": tag}, final, {}, "")


@pytest.fixture
def library(tmp_path: Path, run_folder: Path, trained: Recognizer) -> Library:
    """A library with three local runs, the second of them unfinished."""
    for number, finished in enumerate((True, False, True)):
        run_id = f"{number}-2026112{number}-000000"
        copy_run(run_folder, tmp_path, run_id, val_error=0.1 * (1 + number), finished=finished)
    return Library(tmp_path, trained)


def test_a_run_is_named_with_the_value_of_its_objective(
    library: Library, run_folder: Path, tmp_path: Path
) -> None:
    copy_run(run_folder, tmp_path, "3-x", val_error=0.125, objective="val/loss")
    names = {each["id"]: each["name"] for each in library.list_networks()}
    assert names["3-x"] == "copy 3-x, validation loss 0.125"


def test_the_default_comes_first_and_then_the_newest(library: Library, trained: Recognizer) -> None:
    assert library.list_networks() == [
        {"id": trained.run_id, "name": f"run {trained.run_id}"},
        {"id": "2-20261122-000000",
         "name": "copy 2-20261122-000000, validation error 30.00%"},
        {"id": "0-20261120-000000",
         "name": "copy 0-20261120-000000, validation error 10.00%"},
    ]  # fmt: skip


def test_what_was_archived_is_not_listed(library: Library, tmp_path: Path) -> None:
    put = recorded("put", "put")
    library._reader = Store([recorded("new", "new"), put])
    put.tags[ARCHIVED] = "true"
    archived = tmp_path / "runs" / "2-20261122-000000"
    Run(archived).add_tags({ARCHIVED: "true"})
    listed = [network["id"] for network in library.list_networks()]
    assert listed[1:] == ["0-20261120-000000", "new"]
    assert library.load(archived.name).run_id == archived.name


def test_runs_of_a_store_come_last_and_once(library: Library) -> None:
    runs = [
        recorded("old", "old"),
        recorded("foreign", "another"),
        recorded("0-20261120-000000", "0-20261120-000000"),
        recorded("new", "new"),
    ]
    local = [network["id"] for network in library.list_networks()]
    library._reader = Store(runs)
    networks = {network["id"]: network["name"] for network in library.list_networks()}
    assert list(networks) == [*local, "new", "old"]
    assert networks["new"] == "stored new, validation error 25.00%"


def test_local_runs_are_listed_without_the_store(
    library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    networks = library.list_networks()
    library._reader = Store(None)
    assert library.list_networks() == networks
    assert capsys.readouterr().err == "http://store: no answer\n"


def test_a_run_of_a_store_is_loaded_from_it(
    library: Library, trained: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store([])
    monkeypatch.setattr(
        loading, "load_stored", lambda reader, run: {(store, "new"): trained}[reader, run]
    )
    library._reader = store
    assert library.load("new") is trained
    assert library.load("2-20261122-000000").run_id == "2-20261122-000000"
