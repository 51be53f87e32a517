"""Count the examples (input and label) that are in more than one part of a data set."""

import numpy as np
from numpy.typing import NDArray

from harness.data.arrays import Array, Arrays, blocks

MOST = 4_000_000  # examples to compare at most; a million take about a second
PAIRS = (
    ("test", "train", "test examples are also training examples"),
    ("val", "train", "validation examples are also training examples"),
    ("test", "val", "test examples are also validation examples"),
)
FACTOR = 1_000_003  # odd, so that the product keeps every bit of a hash


def lines(found: Arrays) -> list[str]:
    """A line for each pair of parts that share examples, `30 of 30 test examples are also ...`.

    found: the arrays of a data set by name, as `arrays.prepared` returns them. Compares 64-bit
    hashes, 8 bytes per example. Also empty for more than MOST examples.
    """
    parts = [name[2:] for name in found if name.startswith("x_")]
    if sum(len(found[f"x_{part}"]) for part in parts) > MOST:
        return []
    hashes = {part: _hashes(found[f"x_{part}"]) * FACTOR + _hashes(found[f"y_{part}"])
              for part in parts}  # fmt: skip
    counted = []
    for one, other, words in PAIRS:
        if one in hashes and other in hashes:
            count = int(np.isin(hashes[one], hashes[other]).sum())
            if count:
                counted.append(f"{count:,} of {len(hashes[one]):,} {words}")
    return counted


def _hashes(array: Array) -> NDArray[np.int64]:
    """A hash of each example, (N,)."""
    hashes = np.empty(len(array), np.int64)
    for begin, block in blocks(array):
        content, size = memoryview(block.tobytes()), block[0].nbytes
        hashes[begin : begin + len(block)] = [
            hash(content[at : at + size]) for at in range(0, len(content), size)
        ]
    return hashes
