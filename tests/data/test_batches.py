"""Batches: the order of an epoch, smoothed targets, blocks."""

from typing import Any

import numpy as np
import pytest

from harness.data.batches import Blocks, shuffled
from harness.data.dataset import Part
from harness.data.normalization import Affine, Unchanged


def part() -> Part:
    pixels = np.repeat(np.arange(30, dtype=np.uint8)[:, None], 6, axis=1)
    return Part(pixels, np.arange(30, dtype=np.uint8) % 4)


@pytest.mark.parametrize("count", [1, 2, 1000, 70_000])
def test_the_order_is_numpys_permutation_in_half_the_memory(count: int) -> None:
    order = shuffled(count, np.random.default_rng(3))
    np.testing.assert_array_equal(order, np.random.default_rng(3).permutation(count))
    assert order.dtype == np.uint32


def test_every_order_is_equally_likely() -> None:
    generator = np.random.default_rng(1)
    orders, times = np.unique(
        [shuffled(3, generator) for _ in range(6000)], axis=0, return_counts=True
    )
    assert len(orders) == 6
    assert np.abs(times - 1000).max() < 5 * (6000 * 1 / 6 * 5 / 6) ** 0.5


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_smoothed_targets(smoothing: float) -> None:
    """(1 - s) one-hot + s / C: with s = 0.1 and 4 classes 0.925 and 0.025."""
    normal = Affine("none", 1.0, 0.0)
    blocks = Blocks(part(), normal, classes=4, batch=7, smoothing=smoothing)
    (block,) = [block for block in blocks() if len(block.labels)]
    expected = np.full((30, 4), smoothing / 4)
    expected[np.arange(30), np.arange(30) % 4] += 1 - smoothing
    np.testing.assert_allclose(block.targets, expected, rtol=1e-6)
    np.testing.assert_allclose(block.targets.sum(axis=1), 1, rtol=1e-6)


def test_blocks_follow_the_order_within_the_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.data.batches.BLOCK_BYTES", 4 * 6 * 10)  # ten rows
    whole = part()
    odd = Part(whole.inputs, whole.labels, np.arange(1, 30, 2, dtype=np.uint32))
    blocks = Blocks(odd, Affine("none", 1.0, 0.0), classes=4, batch=4)
    order = shuffled(15, np.random.default_rng(2))
    collected = [(block.inputs[:, 0].copy(), block.labels) for block in blocks(order)]
    assert [len(labels) for _, labels in collected] == [8, 7]
    rows = 2 * order.astype(int) + 1
    np.testing.assert_array_equal(np.concatenate([inputs for inputs, _ in collected]), rows)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in collected]), rows % 4)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_other_numbers_and_targets(kind: type) -> None:
    """The inputs of the part are not changed, and the targets are its labels."""
    generator = np.random.default_rng(4)
    inputs, targets = generator.normal(size=(30, 6)).astype(kind), generator.normal(size=(30, 2))
    before = inputs.copy()
    rows = np.arange(1, 30, 2, dtype=np.uint32)
    part = Part(inputs, targets.astype(np.float32), rows)
    blocks = Blocks(part, Affine("x", 2.0, 1.0), classes=0, batch=4)
    order = shuffled(15, generator)
    for _ in range(2):
        (block,) = blocks(order)
        np.testing.assert_allclose(block.inputs, 2 * inputs[rows[order]] + 1, rtol=1e-6)
        np.testing.assert_array_equal(block.targets, part.labels[rows[order]])
        assert (block.inputs.dtype, block.targets.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(inputs, before)


def test_an_augmentation_never_reads_what_it_writes() -> None:
    """Also of float32 data, which need no buffer of their own otherwise."""
    inputs = np.arange(24, dtype=np.float32).reshape(4, 6)
    part = Part(inputs, np.zeros(4, np.uint8))
    blocks = Blocks(part, Unchanged(), classes=2, batch=4)

    def shifted(pixels: Any, generator: Any, out: Any) -> None:
        out[:] = 0
        out[:, 1:] = pixels[:, :-1]

    (block,) = blocks(None, shifted, np.random.default_rng(1))  # type: ignore[arg-type]
    np.testing.assert_array_equal(block.inputs[:, 1:], inputs[:, :-1])
