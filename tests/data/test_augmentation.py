"""Augmentation: known deformations, seeds, ranges."""

import numpy as np
import pytest

from harness.data.augmentation import Augmentation
from harness.data.batches import Blocks
from harness.data.dataset import Part
from harness.data.normalization import Affine

EVERYTHING = {"rotation": 9, "scale": 0.1, "shear": 0.1, "shift": 2, "strength": 0.8, "grid": 5}


class Fixed:
    """A generator of fixed numbers, so that the deformation is known.

    angle, horizontal, vertical, slant: in standard deviations; a shift is the largest there is.
    """

    def __init__(self, *drawn: float) -> None:
        self._drawn = np.array([*drawn, 0.0, 0.0, 0.0, 0.0])[:4]

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 2:
            return np.broadcast_to(self._drawn[:, None], shape).copy()
        return np.zeros(shape)

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, high)


def images(count: int = 7, rows: int = 12, columns: int = 12) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, rows, columns)).astype(np.uint8)


def deformed(pixels: np.ndarray, generator: object, **strengths: float) -> np.ndarray:
    out = np.empty((len(pixels), pixels[0].size), np.float32)
    augmentation = Augmentation(pixels.shape[1:], **strengths)
    augmentation(pixels.reshape(len(pixels), -1), generator, out)
    return out.reshape(pixels.shape)


def test_zero_strength_is_the_identity() -> None:
    pixels = images(300, 9, 14)  # more than a chunk, and not square
    np.testing.assert_array_equal(deformed(pixels, np.random.default_rng(1)), pixels)


def test_a_whole_shift_moves_pixels_and_brings_background_in() -> None:
    pixels = images(3, 9, 14)
    expected = np.zeros(pixels.shape)
    expected[:, :-2, :-2] = pixels[:, 2:, 2:]
    # Beyond the frame a thousandth of the border's gray remains.
    np.testing.assert_allclose(deformed(pixels, Fixed(), shift=2), expected, atol=0.256)


def test_half_a_shift_is_the_mean_of_four_pixels() -> None:
    pixels = images()
    framed = np.pad(pixels.astype(float), ((0, 0), (0, 1), (0, 1)))
    corners = [framed[:, y : y + 12, x : x + 12] for y in (0, 1) for x in (0, 1)]
    np.testing.assert_allclose(deformed(pixels, Fixed(), shift=0.5), sum(corners) / 4, atol=1e-3)


@pytest.mark.parametrize("size", [11, 12])
def test_a_quarter_turn_equals_rot90(size: int) -> None:
    pixels = images(5, size, size)
    turned = deformed(pixels, Fixed(1), rotation=90)
    np.testing.assert_allclose(turned, np.rot90(pixels, -1, axes=(1, 2)), atol=0.01)


def test_scaling_looks_further_out() -> None:
    """Horizontally by a factor of 3: column x shows what was 3 x away from the middle."""
    pixels = images(4, 5, 13)
    result = deformed(pixels, Fixed(0, 1), scale=float(np.log(3)))
    np.testing.assert_allclose(result[:, :, 4:9], pixels[:, :, 0::3], atol=0.01)
    assert not result[:, :, :3].any()


def test_shear_moves_rows_by_their_distance_from_the_middle() -> None:
    pixels = images(4, 5, 13)
    result = deformed(pixels, Fixed(0, 0, 0, 1), shear=1)
    for row, moved in enumerate((-2, -1, 0, 1, 2)):
        np.testing.assert_allclose(
            result[:, row, 2:-2], pixels[:, row, 2 + moved : 11 + moved], atol=0.01
        )


def test_elastic_displacements_have_their_strength_everywhere() -> None:
    augmentation = Augmentation((28, 28), strength=0.7, grid=6)
    where = augmentation._coefficients(4000, np.random.default_rng(5))
    for along, axis in zip(where, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), strict=True):
        moved = (along - np.pad(axis, (0, 36)).astype(np.float32)) @ augmentation.basis
        np.testing.assert_allclose(moved.std(axis=0), 0.7, rtol=0.06)
        assert np.abs(moved.mean(axis=0)).max() < 0.06
        # Smooth: neighbors move together.
        steps = np.diff(moved.reshape(-1, 28, 28), axis=2)
        assert steps.std() < 0.35 * 0.7


def test_seeded_and_different_each_time() -> None:
    pixels = images()
    first, again, other = (
        deformed(pixels, np.random.default_rng(seed), **EVERYTHING) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], deformed(pixels[[0, 0]], np.random.default_rng(1))[1])


def test_values_stay_grays() -> None:
    pixels = images(600)
    pixels[:300] = 255
    result = deformed(pixels, np.random.default_rng(1), **EVERYTHING | {"strength": 5})
    assert result.min() >= 0
    assert result.max() <= 255
    assert result.dtype == np.float32


def test_blocks_deform_again_each_epoch_then_normalize() -> None:
    pixels = images(50).reshape(50, 144)
    part = Part(pixels, np.arange(50, dtype=np.uint8) % 4)
    blocks = Blocks(part, Affine("unit", 1 / 255, 0.0), classes=4, batch=10)
    generator, order = np.random.default_rng(1), np.arange(50, dtype=np.uint32)
    augmentation = Augmentation((12, 12), **EVERYTHING)
    epochs = [
        np.concatenate([block.inputs.copy() for block in blocks(order, augmentation, generator)])
        for _ in range(2)
    ]
    expected = np.empty_like(epochs[0])
    augmentation(pixels, np.random.default_rng(1), expected)
    np.testing.assert_allclose(epochs[0], expected / 255, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(epochs[0], epochs[1])
