"""Turn a picture of one digit into an image like those the network was trained on.

MNIST's digits were scaled to 20x20 pixels with their aspect ratio kept, anti-aliased, and centered
in 28x28 by their center of mass, bright on dark (LeCun et al., 1998). A network trained on nothing
else fails on drawings that are small, off-center, dark on light or on gray paper, so any picture is
prepared in the same way:

    background    fit a plane to the border of the picture: paper, uneven light
    polarity      take the sign in which the picture departs from the background
    noise         ignore what departs by less than a few standard deviations of the border's noise;
                  drop specks far smaller than the digit
    strokes       bring very thin or thick strokes to the thickness of MNIST's
    box, scale    resample the bounding box, anti-aliased, to 20/28 of the target
    center        move the center of mass to the middle
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from harness.recognizer import strokes
from harness.recognizer.background import Box, Field, Gray, extract_ink, ink_box, quantile
from harness.recognizer.picture import Pixels

MAX_WORK_SIDE = 256  # pixels; larger pictures are averaged down first
SPECK = 0.04  # of the largest piece's ink: smaller pieces are dropped
FILTER = Image.Resampling.LANCZOS
EIGHT = np.ones((3, 3), bool)  # pixels that touch at a corner are connected


@dataclass(frozen=True)
class Preprocessed:
    """A picture after preprocessing.

    image: the network's input (rows, columns), uint8, bright on dark, or (rows, columns, 3), in the
    colors of the picture; None if the picture has no digit. problem: why there is none; "" if there
    is one. box: (top, left, bottom, right) of the digit as fractions of the picture. as_is: whether
    it was resized only; else its gray values go from 0 to about 255.
    """

    image: Pixels | None
    problem: str = ""
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    as_is: bool = False


def prepare(picture: NDArray[Any], shape: tuple[int, ...], *, as_is: bool = False) -> Preprocessed:
    """A picture, (rows, columns) or (rows, columns, 3) of 0 to 255, as the input of a network.

    shape: of the input. Of a gray one the digit is found and normalized; a color one, and every one
    with `as_is`, is resized only. Raises `ValueError` if the array is not a picture.
    """
    if len(shape) == 2 and not as_is:
        return preprocess(_gray_of(picture), (shape[0], shape[1]))
    return Preprocessed(resized(picture, shape), "", (0.0, 0.0, 1.0, 1.0), as_is=True)


def resized(picture: NDArray[Any], shape: tuple[int, ...]) -> Pixels:
    """A picture at the rows and columns of `shape`, gray or in color as that says, anti-aliased."""
    image = Image.fromarray(_checked(picture)).convert("RGB" if len(shape) == 3 else "L")
    if image.size != (shape[1], shape[0]):
        image = image.resize((shape[1], shape[0]), FILTER)
    return np.asarray(image)


def _gray_of(picture: NDArray[Any]) -> NDArray[Any]:
    """A picture as gray values (rows, columns)."""
    if picture.ndim == 2:
        return picture
    return np.asarray(Image.fromarray(_checked(picture)).convert("L"))


def preprocess(picture: NDArray[Any], shape: tuple[int, int] = (28, 28)) -> Preprocessed:
    """Find the digit in a picture (rows, columns) of gray values 0 to 255 and normalize it.

    The pen may be darker or lighter than the paper, and both may be any gray. Raises `ValueError`
    if the array is not a picture.
    """
    if picture.ndim != 2:
        raise _no_picture(picture)
    gray = _reduced(_checked(picture))
    extracted = extract_ink(gray)
    if extracted is None:
        return Preprocessed(None, "no digit found: the picture is empty")
    ink, whole = extracted
    outer = ink_box(ink)  # labeling pieces is slow; the box of all ink is smaller than the picture
    pieces = _without_specks(ink[outer])
    inner = ink_box(pieces)
    fine = strokes.normalize(pieces[inner])
    if fine is None:
        return Preprocessed(None, "no digit found: the picture shows a blot, not strokes")
    image = _centered(_scaled(fine[ink_box(fine)], shape), shape)
    return Preprocessed(image, "", _fractions(gray.shape, whole, outer, inner))


def _no_picture(picture: NDArray[Any]) -> ValueError:
    return ValueError(
        f"picture: expected an array (rows, columns) of gray values 0 to 255, found shape "
        f"{picture.shape} of {picture.dtype}"
    )


def _checked(picture: NDArray[Any]) -> Pixels:
    has_axes = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
    if not has_axes or 0 in picture.shape or picture.dtype.kind not in "uif":
        raise _no_picture(picture)
    if picture.dtype == np.uint8:
        return picture
    if not (np.isfinite(picture).all() and picture.min() >= 0 and picture.max() <= 255):
        raise ValueError(
            f"picture: expected gray values 0 to 255, found {picture.min()} to {picture.max()}"
        )
    if picture.dtype.kind == "f" and 0 < picture.max() <= 1:
        raise ValueError(
            "picture: expected gray values 0 to 255, found fractions of 1; multiply them by 255"
        )
    return picture.astype(np.uint8)


def _reduced(gray: Gray) -> Gray:
    """The picture averaged down to at most MAX_WORK_SIDE pixels along each side."""
    factor = -(-max(gray.shape) // MAX_WORK_SIDE)
    return np.asarray(Image.fromarray(gray).reduce(factor)) if factor > 1 else gray


def _without_specks(ink: Field) -> Field:
    """The ink without the pieces that are far smaller than the largest one."""
    labels, count = ndimage.label(ink, EIGHT)
    if count < 2:
        return ink
    sizes = np.bincount(labels.ravel(), ink.ravel())
    kept = sizes >= SPECK * sizes[1:].max()
    kept[0] = False
    return np.where(kept[labels], ink, np.float32(0))


def _fractions(size: tuple[int, ...], *boxes: Box) -> tuple[float, float, float, float]:
    """The last box as fractions of the picture; each box is relative to the one before."""
    (height, width), (rows, columns) = size, boxes[-1]
    top = sum(box[0].start for box in boxes[:-1])
    left = sum(box[1].start for box in boxes[:-1])
    return (
        (top + rows.start) / height,
        (left + columns.start) / width,
        (top + rows.stop) / height,
        (left + columns.stop) / width,
    )


def _scaled(fine: Field, shape: tuple[int, int]) -> Field:
    """The digit scaled to fit 20/28 of `shape`, its brightest pixels at 1."""
    room = [max(1, round(side * 20 / 28)) for side in shape]
    scale = min(room[0] / fine.shape[0], room[1] / fine.shape[1])
    height, width = (max(1, round(side * scale)) for side in fine.shape)
    scaled = np.asarray(Image.fromarray(fine).resize((width, height), FILTER))
    return np.clip(scaled / max(quantile(scaled, 0.99), 0.2), 0, 1)


def _centered(digit: Field, shape: tuple[int, int]) -> Gray:
    """The digit with its center of mass in the middle of `shape`, as gray values."""
    image = np.zeros(shape, np.uint8)
    total = digit.sum()
    starts = []
    for axis, side in enumerate(shape):
        length = digit.shape[axis]
        mass = float(digit.sum(axis=1 - axis) @ (np.arange(length) + 0.5) / total)
        # MNIST's center of mass is half a pixel right of and below the middle: 14.5 of 28.
        starts.append(min(max(round(side / 2 + 0.5 - mass), 0), side - length))
    top, left = starts
    height, width = digit.shape
    image[top : top + height, left : left + width] = np.rint(digit * 255)
    return image
