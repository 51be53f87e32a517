"""Deformed images: the compiled twin against NumPy."""

from typing import Any

import numpy as np
import pytest

from harness.data.augmentation import AUGMENTATIONS
from harness.nn.compiled.deformation import Deformation
from harness.nn.compiled.workers import Workers


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    ("kind", "shape", "changed"),
    [
        ("affine", (28, 28), {}),
        ("elastic", (28, 28), {}),
        ("elastic", (9, 14), {"grid": 3}),
        ("affine", (5, 3), {"shift": 9.0}),  # all that is read lies outside of some images
    ],
)
def test_the_images_and_the_random_numbers_are_those_of_numpy(
    kind: str, shape: tuple[int, int], changed: dict[str, Any], dtype: Any, threads: int
) -> None:
    augmentation = AUGMENTATIONS[kind](shape, **changed)
    assert augmentation is not None
    count, size = 300, shape[0] * shape[1]  # more than are drawn at a time
    pixels = np.random.default_rng(1).integers(0, 256, (count, size)).astype(dtype)
    expected, found = np.empty((2, count, size), np.float32)
    generators = np.random.default_rng(2), np.random.default_rng(2)
    augmentation(pixels, generators[0], expected)
    Deformation(augmentation, Workers(threads))(pixels, generators[1], found)
    # Gray values; an error of 1e-5 pixels in a coordinate is one of 0.003.
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.01)
    assert generators[0].bit_generator.state == generators[1].bit_generator.state
