"""Deform training images in one pass over them: the twin of `data/augmentation.py`."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from harness.data.augmentation import WARPED, Augmentation
from harness.nn.compiled.blas import AS_IS, product, sgemm
from harness.nn.compiled.dense import KERNEL, F
from harness.nn.compiled.workers import Workers
from harness.nn.parameters import aligned


class Deformation:
    """Deforms images like a built-in augmentation, with the same random numbers."""

    def __init__(self, augmentation: Augmentation, workers: Workers) -> None:
        self._augmentation, self._workers, self._address = augmentation, workers, sgemm()
        rows, columns = augmentation.image_shape
        self._coordinates = aligned((workers.count, 2, WARPED * rows * columns), F)
        self._frames = np.zeros((workers.count, rows + 2, columns + 2), F)

    def __call__(
        self, pixels: NDArray[np.uint8], generator: np.random.Generator, out: NDArray[np.float32]
    ) -> None:
        """Deform `pixels` (n, D) uint8 into `out` (n, D) float32, gray values 0..255."""
        scratch = self._coordinates, self._frames, self._address
        for begin, where in self._augmentation.drawn(len(pixels), generator):
            part, count = slice(begin, begin + len(where[0])), len(where[0])
            coefficients = map(np.ascontiguousarray, where)
            arrays = pixels[part], *coefficients, self._augmentation.basis, out[part]
            self._workers.run(count, _deform, *arrays, *scratch)


@numba.njit(**KERNEL)
def _deform(
    pixels: Any, along_x: Any, along_y: Any, basis: Any, out: Any, coordinates: Any, frames: Any,
    address: int, number: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Deform some images.

    along_x, along_y: (n, K), the coefficients of the basis (K, D). coordinates, frames: scratch
    space of each thread; a frame has a border of one background pixel around the image.
    """
    kinds, size = basis.shape
    x, y = coordinates[number, 0], coordinates[number, 1]
    frame = frames[number].reshape(frames[number].size)
    rows, columns = frames.shape[1] - 2, frames.shape[2] - 2
    width = np.int32(columns + 2)
    flat = basis.reshape(basis.size)
    right, bottom = F(columns + 0.999), F(rows + 0.999)
    middle, center = F((columns + 1) / 2), F((rows + 1) / 2)
    places = np.empty(size, np.uint32)
    for first in range(begin, end, WARPED):
        count = min(WARPED, end - first)
        for where, to in ((along_x, x), (along_y, y)):
            product(
                address, AS_IS, AS_IS, count, size, kinds, F(1), where.reshape(where.size),
                first * kinds, kinds, flat, 0, size, F(0), to, 0, size,
            )  # fmt: skip
        for i in range(count):
            image = pixels[first + i]
            for r in range(rows):
                line = frame[(r + 1) * width + 1 : (r + 2) * width - 1]
                for c in range(columns):
                    line[c] = image[r * columns + c]
            right_of, below = x[i * size : (i + 1) * size], y[i * size : (i + 1) * size]
            for p in range(size):
                across = min(max(right_of[p] + middle, F(0)), right)
                down = min(max(below[p] + center, F(0)), bottom)
                left, top = np.int32(across), np.int32(down)
                right_of[p] = across - F(left)
                below[p] = down - F(top)
                places[p] = top * width + left
            deformed = out[first + i]
            for p in range(size):
                at = places[p]
                upper = frame[at] + right_of[p] * (frame[at + np.uint32(1)] - frame[at])
                at += np.uint32(width)
                lower = frame[at] + right_of[p] * (frame[at + np.uint32(1)] - frame[at])
                deformed[p] = upper + below[p] * (lower - upper)
