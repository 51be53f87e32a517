"""The division into examples of training and of validation."""

import numpy as np
import pytest

from harness.data.sources import measure
from harness.data.split import Split, draw


def test_rows_depend_on_its_seed_only() -> None:
    labels = np.random.default_rng(0).integers(0, 5, 1000).astype(np.uint8)
    first, again, other = (draw(labels, 100, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    kept, drawn = draw(labels, 0, 1)
    assert (len(kept), len(drawn)) == (1000, 0)


def test_counts() -> None:
    sizes = measure("mnist")
    assert (sizes.train, sizes.test) == (60_000, 10_000)
    with pytest.raises(ValueError, match="num_val=60000: expected 0 to 59999"):
        Split(60_000).check(sizes)
    with pytest.raises(ValueError, match="num_train=2: expected 1 to 1"):
        Split(59_999, 2).check(sizes)
