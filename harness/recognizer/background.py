"""Separate the ink of a picture from its background.

The background is a plane of gray values: paper of any gray, lit unevenly. Ink differs from it in
either direction by more than the noise.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Gray = NDArray[np.uint8]
Field = NDArray[np.float32]
Box = tuple[slice, slice]  # rows, columns

LEAST_CONTRAST = 24  # gray values between pen and paper
NOISES = 4.0  # standard deviations of the noise below which nothing is ink
FAINT = 0.12  # of the pen's contrast: fainter pixels are background
NORMAL_MAD = 1.4826  # standard deviation of a normal distribution / median absolute deviation
FLAT = 4  # gray values: a border that varies less is a clean canvas


def extract_ink(gray: Gray) -> tuple[Field, Box] | None:
    """Find the ink of a picture (rows, columns), 0 to 255; None if there is none.

    Returns the ink per pixel, 0 to 1, in a part of the picture, and the box of that part.
    """
    box, departure, noise = _subtract_background(gray)
    ink = _threshold(departure, noise)
    return None if ink is None else (ink, box)


def ink_box(ink: Field) -> Box:
    """The bounding box of the ink that is not faint."""
    return _bounding_box(ink > FAINT)


def quantile(values: Field, share: float) -> float:
    """The value below which this share of all values lies, without NumPy's interpolation."""
    index = int(share * (values.size - 1))
    return float(np.partition(values, index, axis=None)[index])


def _bounding_box(area: NDArray[np.bool_]) -> Box:
    """The bounding box of an area that is not empty."""
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _subtract_background(gray: Gray) -> tuple[Box, Field, float]:
    """The picture minus its background, and the standard deviation of the background's noise.

    On a clean canvas, only the box in which anything departs from the background; otherwise the
    whole picture.
    """
    height, width = gray.shape
    rim = max(1, min(height, width) // 24)
    values = _border(gray, rim).astype(np.float32)
    middle = quantile(values, 0.5)
    spread = np.abs(values - np.float32(middle))
    if spread.max() < FLAT:  # there is no plane to fit
        reach = int(LEAST_CONTRAST / 2)
        area = (gray > min(middle + reach, 255)) | (gray < max(middle - reach, 0))
        box = _bounding_box(area) if area.any() else (slice(0, 1), slice(0, 1))
        return box, gray[box].astype(np.float32) - np.float32(middle), 0.0
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rows, columns = _border(y, rim), _border(x, rim)
    plane = np.stack([np.ones_like(rows), rows, columns], axis=1)
    for _ in range(3):  # strokes on the border are outliers: leave them out of the next fit
        kept = spread <= 3 * NORMAL_MAD * quantile(spread, 0.5) + 1
        fit = np.linalg.lstsq(plane[kept], values[kept], rcond=None)[0]
        spread = np.abs(values - plane @ fit)
    departure = gray - (fit[0] + fit[1] * y + fit[2] * x)
    return (slice(0, height), slice(0, width)), departure, NORMAL_MAD * quantile(spread, 0.5)


def _border(values: NDArray[Any], rim: int) -> NDArray[Any]:
    """The pixels within `rim` of an edge, flat; those of the corners twice."""
    edges = (values[:rim], values[-rim:], values[:, :rim].T, values[:, -rim:].T)
    return np.concatenate([edge.ravel() for edge in edges])


def _threshold(departure: Field, noise: float) -> Field | None:
    """The amount of pen in each pixel, 0 to 1; None if there is no ink."""
    smooth = departure
    if noise > 1:  # averaging 3x3 pixels leaves a third of the noise
        smooth = ndimage.uniform_filter(departure, 3)
        noise /= 3
    threshold = max(LEAST_CONTRAST / 2, NOISES * noise)
    light = float(np.maximum(smooth - threshold, 0).sum())
    dark = float(np.maximum(-smooth - threshold, 0).sum())
    if dark > light:
        smooth = -smooth
    pen = smooth[smooth > threshold]
    if not len(pen):
        return None
    contrast = quantile(pen, 0.9)
    if contrast < LEAST_CONTRAST:
        return None
    ink: Field = smooth / np.float32(contrast)
    ink[ink < max(FAINT, threshold / contrast if noise > 0.3 else 0)] = 0
    np.minimum(ink, 1, out=ink)
    return ink
