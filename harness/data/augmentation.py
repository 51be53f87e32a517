"""Augmentation: a new random deformation of each training image in each epoch.

A deformation maps each output pixel to a point of the input image. The coordinates of these points
are linear in a few random numbers per image, so one matrix product with a fixed basis computes all
of them. `affine` has six numbers (rotation, scale, shear, shift). `elastic` adds a coarse random
field, interpolated bicubically (after Simard, Steinkraus and Platt, 2003, whose field is smoothed
noise). Pixels are interpolated bilinearly.
"""

import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

__all__ = ["AUGMENTATIONS", "Augmentation", "affine", "elastic", "none"]

DRAWN = 256  # images per draw of random numbers
WARPED = 32  # images warped at a time: their coordinates stay in the second-level cache
Array = NDArray[np.float32]
Rotation = Annotated[float, Ge(0), "standard deviation of the rotation in degrees"]
Scale = Annotated[float, Ge(0), "standard deviation of the stretch along each axis, a fraction"]
Shear = Annotated[float, Ge(0), "standard deviation of the slant, a fraction"]
Shift = Annotated[float, Ge(0), "largest shift in pixels"]
Strength = Annotated[float, Ge(0), "standard deviation of the elastic displacements in pixels"]
Grid = Annotated[int, Ge(2), Le(28), "points of the elastic field along each side"]


class Augmentation:
    """Random affine and elastic deformations of grayscale images.

    image_shape: (rows, columns). rotation: standard deviation in degrees; scale and shear: standard
    deviations as fractions; shift: half-width in pixels; strength: standard deviation of the
    elastic displacements in pixels; grid: points of the coarse field along each side.

    basis: (K, D); the coordinates of all pixels are linear combinations of its rows.
    """

    def __init__(
        self,
        image_shape: tuple[int, int],
        *,
        rotation: float = 0.0,
        scale: float = 0.0,
        shear: float = 0.0,
        shift: float = 0.0,
        strength: float = 0.0,
        grid: int = 7,
    ) -> None:
        if len(image_shape) != 2:
            raise ValueError(
                f"expected gray images (rows, columns), found examples of shape "
                f"{tuple(image_shape)}; use augmentation=none"
            )
        self.image_shape = image_shape
        self._rotation = math.radians(rotation)
        self._scale, self._shear, self._shift = scale, shear, shift
        self._strength = strength
        self._grid = grid if strength else 0
        rows, columns = image_shape
        y, x = np.mgrid[:rows, :columns].reshape(2, -1) - np.array(
            [[(rows - 1) / 2], [(columns - 1) / 2]]
        )
        field = _interpolation(self._grid, rows, columns)
        self.basis = np.concatenate([[x, y, np.ones_like(x)], field]).astype(np.float32)

    def __call__(
        self, pixels: NDArray[np.uint8], generator: np.random.Generator, out: Array
    ) -> None:
        """Deform `pixels` (n, D) uint8 into `out` (n, D) float32, gray values 0..255."""
        for begin, (along_x, along_y) in self.drawn(len(pixels), generator):
            for first in range(0, len(along_x), WARPED):
                of_drawn = slice(first, first + WARPED)
                part = slice(begin + first, min(begin + first + WARPED, begin + len(along_x)))
                where = along_x[of_drawn], along_y[of_drawn]
                self._warp(pixels[part], where, out[part])

    def drawn(
        self, count: int, generator: np.random.Generator
    ) -> Iterator[tuple[int, tuple[Array, Array]]]:
        """Draw the deformations of `count` images, at most DRAWN at a time.

        Yields the index of the first of n images and their coefficients of the basis for x and for
        y, (n, 3 + grid^2) each: one for each of x, y, 1 and the points of the coarse field.
        """
        for begin in range(0, count, DRAWN):
            yield begin, self._coefficients(min(DRAWN, count - begin), generator)

    def _coefficients(self, count: int, generator: np.random.Generator) -> tuple[Array, Array]:
        """Random coefficients of the basis for x and for y, (n, 3 + grid^2) float32 each."""
        angle, horizontal, vertical, slant = generator.standard_normal((4, count))
        angle = angle * self._rotation
        stretch_x = np.exp(horizontal * self._scale)
        stretch_y = np.exp(vertical * self._scale)
        slant = slant * self._shear
        cos, sin = np.cos(angle), np.sin(angle)
        shift_x, shift_y = generator.uniform(-self._shift, self._shift, (2, count))
        affine_x = np.stack([cos * stretch_x, sin * stretch_y + slant, shift_x])
        affine_y = np.stack([-sin * stretch_x, cos * stretch_y, shift_y])
        field = generator.standard_normal((2, self._grid**2, count)) * self._strength
        both = [np.concatenate([affine_x, field[0]]).T, np.concatenate([affine_y, field[1]]).T]
        return both[0].astype(np.float32), both[1].astype(np.float32)

    def _warp(self, pixels: NDArray[np.uint8], where: tuple[Array, Array], out: Array) -> None:
        """Interpolate `pixels` (n, D) into `out` (n, D), with background outside the image.

        where: the coefficients of the basis for x and for y, (n, 3 + grid^2) each.
        """
        rows, columns = self.image_shape
        count, width = len(pixels), columns + 2
        framed = np.zeros((count, rows + 2, width), np.float32)  # a border of one pixel
        framed[:, 1:-1, 1:-1] = pixels.reshape(count, rows, columns)
        flat = framed.ravel()
        x, left = self._locate(where[0], columns)
        y, top = self._locate(where[1], rows)
        top *= width
        top += left
        at = top.astype(np.intp)  # `take` would convert any other type on each call
        at += (np.arange(count) * ((rows + 2) * width))[:, None]
        # No index is out of range; "wrap" is faster than the default, which checks the indices.
        above = np.take(flat, at, out=out, mode="wrap")
        at += 1
        beside = np.take(flat, at, out=left, mode="wrap")
        beside -= above
        beside *= x
        above += beside
        at += width - 1
        below = np.take(flat, at, out=top, mode="wrap")
        at += 1
        np.take(flat, at, out=beside, mode="wrap")
        beside -= below
        beside *= x
        below += beside
        below -= above
        below *= y
        above += below

    def _locate(self, where: Array, pixels: int) -> tuple[Array, Array]:
        """Coordinates (n, D) along an axis of the framed image: fractional and integer parts."""
        at = np.matmul(where, self.basis)
        at += (pixels - 1) / 2 + 1
        np.maximum(at, 0, out=at)
        np.minimum(at, np.float32(pixels + 0.999), out=at)
        whole = np.floor(at)
        at -= whole
        return at, whole


def _interpolation(grid: int, rows: int, columns: int) -> NDArray[Any]:
    """(grid^2, rows * columns): the weight of each point of the coarse field at each pixel."""
    if grid == 0:
        return np.zeros((0, rows * columns))
    along_y, along_x = _weights(grid, rows), _weights(grid, columns)
    field: NDArray[Any] = np.einsum("ar,bc->abrc", along_y, along_x)
    return field.reshape(grid**2, rows * columns)


def _weights(points: int, pixels: int) -> NDArray[Any]:
    """Catmull-Rom weights (points, pixels); the field ends where the image ends.

    The weights of each pixel have unit length, so a field of independent normal numbers gives
    displacements of the same standard deviation everywhere.
    """
    at = np.linspace(0, points - 1, pixels)
    distance = np.abs(at[None, :] - np.arange(points)[:, None])
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    weights /= np.sqrt((weights**2).sum(axis=0))
    return weights


def affine(
    image_shape: tuple[int, int],
    *,
    rotation: Rotation = 7.0,
    scale: Scale = 0.07,
    shear: Shear = 0.07,
    shift: Shift = 1.5,
) -> Augmentation:
    """Rotation, stretch, slant and shift."""
    return Augmentation(image_shape, rotation=rotation, scale=scale, shear=shear, shift=shift)


def elastic(
    image_shape: tuple[int, int],
    *,
    rotation: Rotation = 7.0,
    scale: Scale = 0.07,
    shear: Shear = 0.07,
    shift: Shift = 1.0,
    strength: Strength = 0.7,
    grid: Grid = 6,
) -> Augmentation:
    """`affine` with elastic displacements."""
    return Augmentation(
        image_shape,
        rotation=rotation,
        scale=scale,
        shear=shear,
        shift=shift,
        strength=strength,
        grid=grid,
    )


def none(image_shape: tuple[int, int]) -> None:
    """No deformation."""


AUGMENTATIONS: dict[str, Callable[..., Augmentation | None]] = {
    "none": none,
    "affine": affine,
    "elastic": elastic,
}
