"""Bring the strokes of a digit to the thickness that MNIST's digits have.

Thickness is measured in pixels of a digit that is FINE pixels high or wide. Four out of five MNIST
digits have strokes between THIN and THICK and are left alone; others are brought to AS_THIN or
AS_THICK.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from harness.recognizer.background import Field

FINE = 80  # pixels of the longer side
MARGIN = 12  # pixels around the digit, for strokes that grow
THIN, THICK = 7.0, 13.5
AS_THIN, AS_THICK = 9.6, 10.4
SOFT = 4.0  # width of the drawn edge, in pixels
BLOT = 0.38  # of FINE: ink that holds a disc of this radius is not a stroke


def normalize(ink: Field) -> Field | None:
    """Resample a digit (rows, columns), 0 to 1, to FINE pixels and correct its strokes.

    Returns None for a blot. Strokes of usual thickness are only resampled; for others, the signed
    distance to their edge is shifted.
    """
    scale = FINE / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    method = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
    fine = np.asarray(Image.fromarray(ink).resize((width, height), method))
    thickness = mean_thickness(fine > 0.5)
    if THIN <= thickness <= THICK:
        return fine
    # Put the edge of a thin stroke far out and that of a thick one far in: faint gray between two
    # thick strokes is paper, faint gray where a thin stroke breaks is pen.
    is_thin = thickness < THIN
    padded = np.pad(fine, MARGIN)
    pen = padded > (0.25 if is_thin else 0.7)
    depth = ndimage.distance_transform_edt(pen)
    if depth.max() > BLOT * FINE:
        return None
    shift = (AS_THIN - thickness if is_thin else 0.8 * (AS_THICK - thickness)) / 2
    edge = np.where(pen, depth - 0.5, 0.5 - ndimage.distance_transform_edt(~pen))
    corrected = np.clip((edge + shift) / SOFT + 0.5, 0, 1).astype(np.float32)
    return corrected if corrected.max() > 0.5 else fine


def mean_thickness(pen: NDArray[np.bool_]) -> float:
    """The mean thickness of strokes (rows, columns) in pixels: twice the area / the edge length.

    The edge length is the number of steps between pen and paper, which overstates it by 4/pi on
    average.
    """
    padded = np.pad(pen, 1)
    steps = np.count_nonzero(padded[1:] != padded[:-1])
    steps += np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    return 2 * np.count_nonzero(pen) / max(1.0, steps * np.pi / 4)
