"""Checkpoints: exact, and damage is found."""

from pathlib import Path

import numpy as np
import pytest

from harness.runfolder import checkpoint
from harness.runfolder.checkpoint import Checkpoints, milestones

ARRAYS = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.zeros(0, np.uint8)}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, ARRAYS | {"c": ARRAYS["a"].T}, {"epoch": 3, "state": [2**127]})
    arrays, description = checkpoint.load(path)
    assert description == {"epoch": 3, "state": [2**127]}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    np.testing.assert_array_equal(arrays["c"], ARRAYS["a"].T)
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, ARRAYS, {"epoch": 3})
    content = path.read_bytes()
    for position in (*range(8), len(content) - 1, len(content) - 30):
        changed = bytearray(content)
        changed[position] ^= 4
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"x\.safetensors"):
            checkpoint.load(path)
    with pytest.raises(ValueError, match="missing"):
        checkpoint.load(tmp_path / "missing")


def test_what_is_kept(tmp_path: Path) -> None:
    """The newest two, the best, and every fifth."""
    best = {1: 1, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 7}
    (tmp_path / ".epoch-000009.safetensors.xyz").touch()  # of a process that was killed
    checkpoints = Checkpoints(tmp_path, every=1, keep=2, milestones=5)
    for epoch in range(1, 13):
        checkpoints.save(epoch, best.get(epoch, 7), ARRAYS, {"epoch": epoch})
    epochs = [int(path.stem[-6:]) for path in sorted(tmp_path.iterdir())]
    assert epochs == [5, 7, 10, 11, 12]
    assert milestones(tmp_path, 5) == {checkpoints.paths()[0], checkpoints.paths()[2]}
    found = checkpoints.newest()
    assert found is not None
    assert found[1] == {"epoch": 12}


def test_every_third(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every=3, keep=0)
    for epoch in range(1, 8):
        checkpoints.save(epoch, 1, ARRAYS, {"epoch": epoch})
    assert [path.name for path in checkpoints.paths()] == [
        "epoch-000003.safetensors", "epoch-000006.safetensors",
    ]  # fmt: skip
