"""Arrays in a file: exact, and damage is found."""

from pathlib import Path

import numpy as np
import pytest

from harness.runfolder import checkpoint

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
