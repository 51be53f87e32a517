"""From a picture of one digit to the image the network was trained on.

MNIST's digits were fitted into 20x20 pixels with their aspect ratio kept and anti-aliased, then
placed in 28x28 by their centre of mass, bright on dark (LeCun et al., 1998). A network that has
seen nothing else fails on drawings that are small, off-centre, dark on light or on gray paper, so
the same is done here to any picture:

    background    a plane fitted to the rim of the picture: paper, uneven light
    polarity      the sign in which the picture departs from it
    noise         what departs less than a few of the rim's standard deviations is background;
                  specks far smaller than the digit are dropped
    strokes       very thin or thick ones are brought to the thickness of MNIST's
    box, fit      the bounding box, resampled anti-aliased into 20/28 of the target
    placement     the centre of mass goes to the middle
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Gray = NDArray[np.uint8]
Field = NDArray[np.float32]
Box = tuple[slice, slice]

WORK = 256  # the longest side that is looked at; larger pictures are averaged down first
LEAST_CONTRAST = 24  # gray values between pen and paper
NOISES = 4.0  # standard deviations of the noise below which nothing is ink
FAINT = 0.12  # of the pen's contrast: fainter pixels are background
SPECK = 0.04  # of the largest piece's ink: smaller pieces are dropped
# Thickness of strokes is in pixels of a digit that is FINE pixels high or wide.
FINE, FRAME = 80, 12
THIN, THICK = 7.0, 13.5  # four of five digits of MNIST lie between; others are brought
AS_THIN, AS_THICK = 9.6, 10.4  # to these
SOFT = 4.0  # width of the drawn edge
BLOT = 0.38  # of FINE: where a disc of this radius fits into the ink, it is not a stroke
FILTER = Image.Resampling.LANCZOS
EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Seen:
    """What was found in a picture.

    image: the digit as the network takes it, uint8, bright on dark; None when there is none.
    problem: why there is none, for people; "" when there is one. box: (top, left, bottom, right) of
    the digit as fractions of the picture.
    """

    image: Gray | None
    problem: str = ""
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def find(picture: NDArray[Any], shape: tuple[int, int] = (28, 28)) -> Seen:
    """Find the one digit of a picture (rows, columns) of gray values 0..255, and prepare it.

    The pen may be darker or lighter than the paper; both may be any gray. Raises `ValueError` for
    an array that is not a picture.
    """
    gray = _work_size(_checked(picture))
    whole, departure, noise = _flattened(gray)
    ink = _ink(departure, noise)
    if ink is None:
        return Seen(None, "no digit found: the picture is empty")
    outer = _box(ink)  # labelling pieces is dear; the box of all ink is smaller than the picture
    piece = _largest(ink[outer])
    inner = _box(piece)
    fine = _restroked(piece[inner])
    if fine is None:
        return Seen(None, "no digit found: the picture shows a blot, not strokes")
    image = _placed(_fitted(fine[_box(fine)], shape), shape)
    return Seen(image, "", _fractions(gray.shape, whole, outer, inner))


def _checked(picture: NDArray[Any]) -> Gray:
    if picture.ndim != 2 or 0 in picture.shape or picture.dtype.kind not in "uif":
        raise ValueError(
            f"picture: expected an array (rows, columns) of gray values 0 to 255, found shape "
            f"{picture.shape} of {picture.dtype}"
        )
    if picture.dtype == np.uint8:
        return picture
    if not (np.isfinite(picture).all() and picture.min() >= 0 and picture.max() <= 255):
        raise ValueError(
            f"picture: expected gray values 0 to 255, found {picture.min()} to {picture.max()}"
        )
    return picture.astype(np.uint8)


def _work_size(gray: Gray) -> Gray:
    """At most WORK pixels along each side, by averaging."""
    factor = -(-max(gray.shape) // WORK)
    return np.asarray(Image.fromarray(gray).reduce(factor)) if factor > 1 else gray


def _flattened(gray: Gray) -> tuple[Box, Field, float]:
    """The picture less its background, and the standard deviation of the background's noise.

    Of a clean canvas only the box in which anything departs from it; else the whole.
    """
    height, width = gray.shape
    rim = max(1, min(height, width) // 24)
    edges = (gray[:rim], gray[-rim:], gray[:, :rim].T, gray[:, -rim:].T)
    values = np.concatenate([edge.ravel() for edge in edges]).astype(np.float32)
    middle = _quantile(values, 0.5)
    spread = np.abs(values - np.float32(middle))
    if spread.max() < 4:  # nothing to fit
        reach = int(LEAST_CONTRAST / 2)
        area = (gray > min(middle + reach, 255)) | (gray < max(middle - reach, 0))
        box = _bounds(area) if area.any() else (slice(0, 1), slice(0, 1))
        return box, gray[box].astype(np.float32) - np.float32(middle), 0.0
    y, x = np.mgrid[:height, :width].astype(np.float32)
    at = [
        np.concatenate(
            [
                part[:rim].ravel(),
                part[-rim:].ravel(),
                part[:, :rim].T.ravel(),
                part[:, -rim:].T.ravel(),
            ]
        )
        for part in (y, x)
    ]
    plane = np.stack([np.ones_like(at[0]), *at], axis=1)
    for _ in range(3):  # strokes on the rim are outliers, and are left out the next time
        kept = spread <= 3 * 1.4826 * _quantile(spread, 0.5) + 1
        found = np.linalg.lstsq(plane[kept], values[kept], rcond=None)[0]
        spread = np.abs(values - plane @ found)
    departure = gray - (found[0] + found[1] * y + found[2] * x)
    return (slice(0, height), slice(0, width)), departure, 1.4826 * _quantile(spread, 0.5)


def _ink(departure: Field, noise: float) -> Field | None:
    """How much pen is in each pixel, 0..1; None where there is none."""
    smooth = departure
    if noise > 1:  # averaging a neighbourhood leaves a third of the noise
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
    contrast = _quantile(pen, 0.9)
    if contrast < LEAST_CONTRAST:
        return None
    ink: Field = smooth / np.float32(contrast)
    ink[ink < max(FAINT, threshold / contrast if noise > 0.3 else 0)] = 0
    np.minimum(ink, 1, out=ink)
    return ink


def _quantile(values: Field, share: float) -> float:
    """The value below which this share of all lies, without NumPy's interpolation."""
    place = int(share * (values.size - 1))
    return float(np.partition(values, place, axis=None)[place])


def _box(ink: Field) -> Box:
    """The bounding box of the ink that is not faint."""
    return _bounds(ink > FAINT)


def _bounds(area: NDArray[np.bool_]) -> Box:
    """The bounding box of an area that is not empty."""
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _largest(ink: Field) -> Field:
    """The ink without the pieces that are specks beside the largest one."""
    labels, count = ndimage.label(ink, EIGHT)
    if count < 2:
        return ink
    sizes = np.bincount(labels.ravel(), ink.ravel())
    kept = sizes >= SPECK * sizes[1:].max()
    kept[0] = False
    return np.where(kept[labels], ink, np.float32(0))


def _fractions(size: tuple[int, ...], *boxes: Box) -> tuple[float, float, float, float]:
    """The last box, each being given within the one before, as fractions of the picture."""
    (height, width), (rows, columns) = size, boxes[-1]
    top = sum(box[0].start for box in boxes[:-1])
    left = sum(box[1].start for box in boxes[:-1])
    return (
        (top + rows.start) / height,
        (left + columns.start) / width,
        (top + rows.stop) / height,
        (left + columns.stop) / width,
    )


def _restroked(inside: Field) -> Field | None:
    """The digit at FINE pixels along its longer side, its strokes brought to a usual thickness.

    None for a blot. Only unusual strokes are changed: the signed distance to their edge is shifted.
    """
    scale = FINE / max(inside.shape)
    height, width = (max(1, round(side * scale)) for side in inside.shape)
    method = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
    fine = np.asarray(Image.fromarray(inside).resize((width, height), method))
    thickness = _thickness(fine > 0.5)
    if THIN <= thickness <= THICK:
        return fine
    # The edge of a thin stroke is taken far out, that of a thick one far in: faint gray between two
    # thick strokes is paper, faint gray where a thin one breaks is pen.
    is_thin = thickness < THIN
    framed = np.pad(fine, FRAME)
    pen = framed > (0.25 if is_thin else 0.7)
    depth = ndimage.distance_transform_edt(pen)
    if depth.max() > BLOT * FINE:
        return None
    shift = (AS_THIN - thickness if is_thin else 0.8 * (AS_THICK - thickness)) / 2
    edge = np.where(pen, depth - 0.5, 0.5 - ndimage.distance_transform_edt(~pen))
    changed = np.clip((edge + shift) / SOFT + 0.5, 0, 1).astype(np.float32)
    return changed if changed.max() > 0.5 else fine


def _thickness(pen: NDArray[np.bool_]) -> float:
    """Of strokes, in pixels: twice the area by the length of the edge.

    Counting steps between pixels overstates the length of an edge by 4/pi on average.
    """
    framed = np.pad(pen, 1)
    steps = np.count_nonzero(framed[1:] != framed[:-1])
    steps += np.count_nonzero(framed[:, 1:] != framed[:, :-1])
    return 2 * np.count_nonzero(pen) / max(1.0, steps * np.pi / 4)


def _fitted(fine: Field, shape: tuple[int, int]) -> Field:
    """The digit so that it just fits into 20/28 of `shape`, brightest at 1."""
    room = [max(1, round(side * 20 / 28)) for side in shape]
    scale = min(room[0] / fine.shape[0], room[1] / fine.shape[1])
    height, width = (max(1, round(side * scale)) for side in fine.shape)
    fitted = np.asarray(Image.fromarray(fine).resize((width, height), FILTER))
    return np.clip(fitted / max(_quantile(fitted, 0.99), 0.2), 0, 1)


def _placed(fitted: Field, shape: tuple[int, int]) -> Gray:
    """The fitted digit with its centre of mass in the middle of `shape`, as gray values."""
    image = np.zeros(shape, np.uint8)
    total = fitted.sum()
    begins = []
    for axis, side in enumerate(shape):
        length = fitted.shape[axis]
        mass = float(fitted.sum(axis=1 - axis) @ (np.arange(length) + 0.5) / total)
        # MNIST has it half a pixel right of and below the middle, 14.5 of 28.
        begins.append(min(max(round(side / 2 + 0.5 - mass), 0), side - length))
    top, left = begins
    height, width = fitted.shape
    image[top : top + height, left : left + width] = np.rint(fitted * 255)
    return image
