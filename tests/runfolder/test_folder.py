"""Listing the run folders."""

from pathlib import Path

from harness.runfolder import journal
from harness.runfolder.folder import all_runs


def test_folders_that_are_still_being_made_are_not_listed(tmp_path: Path) -> None:
    for name in ("abc123", ".abc124"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / journal.FILE_NAME).touch()
        (tmp_path / "runs" / name / "config.yaml").touch()
    assert [run.id for run in all_runs(tmp_path)] == ["abc123"]


def test_the_order_of_runs_survives_copying(tmp_path: Path) -> None:
    """A plain copy has new times of files; the ids have the old ones."""
    names = ["ffffff-20260101-120000", "000000-20260101-120001", "aaaaaa-20260102-000000"]
    for name in reversed(names):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / journal.FILE_NAME).touch()
        (tmp_path / "runs" / name / "config.yaml").touch()
    assert [run.id for run in all_runs(tmp_path)] == names
