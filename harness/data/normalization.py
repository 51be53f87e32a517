"""Normalization: from pixels 0..255 to inputs of the network.

Every normalization is affine, x = pixel * scale + shift, and is saved with the weights as these two
numbers, so that images are normalized in the same way wherever the weights are used.

    minmax    [-1, 1]: -1 is background, 1 is full ink (as in the tutorial)
    unit      [0, 1]
    standard  mean 0, standard deviation 1 over all pixels of the training images
    none      0..255 as they are
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096
Images = NDArray[np.uint8]
Rows = NDArray[np.uint32] | None


@dataclass(frozen=True)
class Normalization:
    """A fitted normalization: x = pixel * scale + shift."""

    name: str
    scale: float
    shift: float

    def apply(self, pixels: Images | NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Normalize `pixels` (any shape, gray values 0..255) into `out` (same shape, float32)."""
        if pixels is not out:
            out[:] = pixels
        np.multiply(out, self.scale, out=out)
        np.add(out, self.shift, out=out)


def fit(name: str, images: Images, rows: Rows = None) -> Normalization:
    """Fit the named normalization to `images[rows]`, which should be the training part only.

    images: (N, D) uint8. rows: (n,), None for all. Raises `ValueError` for an unknown name, and for
    `standard` when all pixels are equal.
    """
    if name not in NORMALIZATIONS:
        near = difflib.get_close_matches(name, NORMALIZATIONS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"normalization {name!r}: expected {', '.join(NORMALIZATIONS)}{hint}")
    return Normalization(name, *NORMALIZATIONS[name](images, rows))


def narrow_range(images: Images, rows: Rows = None) -> tuple[int, int] | None:
    """The lowest and the highest gray value, if all use less than half of the range of uint8.

    Else None, usually after a look at the first BLOCK images. `minmax` and `unit` map the whole
    range of uint8, so such images stay near one end of it.
    """
    total = len(images) if rows is None else len(rows)
    low, high = 255, 0
    for begin in range(0, total, BLOCK):
        part = slice(begin, begin + BLOCK)
        block = images[part] if rows is None else images[rows[part]]
        low, high = min(low, int(block.min())), max(high, int(block.max()))
        if high - low >= 128:
            return None
    return low, high


def minmax(images: Images, rows: Rows) -> tuple[float, float]:
    """[-1, 1] from the range of uint8, so that gray values mean the same in every data set."""
    return 2 / 255, -1.0


def unit(images: Images, rows: Rows) -> tuple[float, float]:
    """[0, 1] from the range of uint8."""
    return 1 / 255, 0.0


def standard(images: Images, rows: Rows) -> tuple[float, float]:
    """Zero mean and unit variance, from exact integer counts of the 256 gray values."""
    counts = np.zeros(256, np.int64)
    total = len(images) if rows is None else len(rows)
    for begin in range(0, total, BLOCK):
        part = slice(begin, begin + BLOCK)
        block = images[part] if rows is None else images[rows[part]]
        counts += np.bincount(block.ravel(), minlength=256)
    grays = np.arange(256)
    mean = float(counts @ grays) / int(counts.sum())
    deviation = float(np.sqrt(counts @ (grays - mean) ** 2 / counts.sum()))
    if deviation == 0:
        raise ValueError(
            f"normalization 'standard': every training pixel is {mean:.0f}, so there is no spread "
            "to divide by; use normalization=minmax or look at the images"
        )
    return 1 / deviation, -mean / deviation


def none(images: Images, rows: Rows) -> tuple[float, float]:
    """Pixels as they are."""
    return 1.0, 0.0


NORMALIZATIONS: dict[str, Callable[[Images, Rows], tuple[float, float]]] = {
    "minmax": minmax,
    "unit": unit,
    "standard": standard,
    "none": none,
}
