"""Reading `delivered.json`; whatever is wrong with it, everything is delivered again."""

import json
from pathlib import Path

import pytest

from harness.runfolder import delivered
from harness.runfolder.run import Run


def test_the_state_is_read(tmp_path: Path) -> None:
    state = {"store": "local", "mlflow_id": "abc", "offset": 12, "refused": {"3": "why"}}
    (tmp_path / "delivered.json").write_text(json.dumps(state))
    assert delivered.read(tmp_path) == state
    assert Run(tmp_path).delivered() == state


@pytest.mark.parametrize("content", [None, "", '{"store": "loc', "\0\0\0\0"])
def test_a_missing_or_unreadable_file_is_no_state(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "delivered.json").write_text(content)
    assert delivered.read(tmp_path) == {}


def test_a_missing_folder_is_no_state(tmp_path: Path) -> None:
    assert delivered.read(tmp_path / "removed") == {}


def test_runs_that_were_deleted_in_the_store_are_named(tmp_path: Path) -> None:
    folders = [tmp_path / "runs" / f"r{number}" for number in range(5)]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / "delivered.json").write_text(json.dumps({"was_deleted": number > 0}))
    assert delivered.deleted(folders[:1]) == []
    (line,) = delivered.deleted(folders)
    assert line == (
        "4 run(s) were deleted in MLflow and still count here: r1, r2, r3 and 1 more; "
        f"`python -m harness rm --outputs {tmp_path}` removes them here too"
    )
