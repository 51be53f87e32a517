"""The checkpoints of a run: whole or not there, verified, and only those that are needed."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from harness.runfolder import checkpoint
from harness.runfolder.checkpoints import INDEX, STATE, Checkpoints, milestones, spare
from harness.runfolder.run import WEIGHTS
from tests.conftest import new_run, record_training

METRICS = {"val/error": 0.5}


def write(folder: Path) -> None:
    (folder / "w.bin").write_bytes(b"weights")
    (folder / "more").mkdir()
    (folder / "more/state.json").write_text("{}")


def epochs(folder: Path) -> list[int]:
    return [int(path.name[-6:]) for path in sorted(folder.iterdir())]


def test_what_is_kept(tmp_path: Path) -> None:
    """The newest two, the best, and every fifth."""
    best = {1: 1, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 7}
    write_half = tmp_path / ".epoch-000009"
    write_half.mkdir()
    write(write_half)  # of a process that was killed
    (tmp_path / ".epoch-000008.safetensors.xyz").touch()  # of one of version 0.1
    checkpoints = Checkpoints(tmp_path, every=1, keep=2, milestones=5)
    for epoch in range(1, 13):
        checkpoints.save(epoch, best.get(epoch, 7), METRICS, write)
    assert epochs(tmp_path) == [5, 7, 10, 11, 12]
    assert milestones(tmp_path, 5) == {checkpoints.paths()[0], checkpoints.paths()[2]}
    newest = checkpoints.newest()
    assert newest is not None
    assert (newest.epoch, newest.metrics) == (12, METRICS)
    assert (newest.folder / "w.bin").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("has_weights", "every", "milestones", "kept"),
    [(True, 1, 0, []), (True, 1, 2, [2, 4]), (False, 1, 0, [3]), (False, 1, 2, [2, 3, 4]),
     (False, 2, 0, [4])],
)  # fmt: skip
def test_what_a_finished_run_needs(
    tmp_path: Path, has_weights: bool, every: int, milestones: int, kept: list[int]
) -> None:
    """The best epoch is 3, of 5; nothing but a checkpoint may have a model without weights."""
    run = new_run(tmp_path, f"checkpoint.milestones={milestones}")
    folder = run.folder / "checkpoints"
    checkpoints = Checkpoints(folder, every=every, keep=0)
    for epoch in range(1, 6):
        checkpoints.save(epoch, 3, METRICS, write)
    record_training(run, 0.5, 0.4, 0.1, 0.3, 0.2)
    if has_weights:
        run.weights.parent.mkdir()
        run.weights.write_bytes(b"weights")
        run.add_artifacts([WEIGHTS])
    left = sorted(set(checkpoints.paths()) - set(spare(run)))
    assert [int(path.name[-6:]) for path in left] == kept


def test_every_third(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every=3, keep=0)
    for epoch in range(1, 8):
        checkpoints.save(epoch, 1, METRICS, write)
    assert [path.name for path in checkpoints.paths()] == ["epoch-000003", "epoch-000006"]


@pytest.mark.parametrize("name", ["w.bin", "more/state.json", INDEX])
@pytest.mark.parametrize("damage", ["changed", "missing", "folder"])
def test_a_damaged_one_is_named_and_an_older_one_taken(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path, every=1, keep=0)
    for epoch in (1, 2):
        checkpoints.save(epoch, 1, METRICS, write)
    file = tmp_path / "epoch-000002" / name
    if damage == "changed":
        file.write_bytes(b"x" + file.read_bytes())
    else:
        file.unlink()
        if damage == "folder":
            file.mkdir()
    with caplog.at_level(logging.WARNING):
        newest = checkpoints.newest()
    assert newest is not None
    assert newest.epoch == 1
    assert "epoch-000002" in caplog.text
    assert "taking an older checkpoint" in caplog.text
    checkpoints.save(2, 1, METRICS, write)  # trained again from the older one
    again = checkpoints.newest()
    assert again is not None
    assert again.epoch == 2


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", every=1, keep=2)

    def fail(folder: Path) -> None:
        write(folder)
        raise ValueError("the state cannot be saved")

    with pytest.raises(ValueError, match="cannot be saved"):
        checkpoints.save(1, 1, METRICS, fail)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert checkpoints.newest() is None


def test_a_checkpoint_of_version_0_1_becomes_a_folder(tmp_path: Path) -> None:
    arrays = {"parameters": np.arange(3, dtype=np.float32)}
    description = {"epoch": 4, "metrics": METRICS, "state": {"finished": 4}}
    checkpoint.save(tmp_path / "epoch-000004.safetensors", arrays, description)
    checkpoints = Checkpoints(tmp_path, every=1, keep=2)
    newest = checkpoints.newest()
    assert newest is not None
    assert (newest.epoch, newest.metrics) == (4, METRICS)
    loaded, rest = checkpoint.load(newest.folder / STATE)
    np.testing.assert_array_equal(loaded["parameters"], arrays["parameters"])
    assert rest["state"] == {"finished": 4}
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-000004"]
    assert json.loads((newest.folder / INDEX).read_text())["epoch"] == 4
