"""Activation functions and their derivatives: one class each, in one name table.

With a = f(z), elementwise:

    sigmoid      a = 1 / (1 + exp(-z))           da/dz = a (1 - a)
    tanh         a = tanh(z)                     da/dz = 1 - a^2
    relu         a = max(z, 0)                   da/dz = 1 where a > 0, else 0
    leaky_relu   a = max(z, slope z)             da/dz = 1 where a > 0, else slope
    gelu         a = z (1 + tanh u) / 2          see `GELU`     (Hendrycks and Gimpel, 2016)
    silu         a = z sigmoid(z)                see `SiLU`, also called swish

The first four derivatives follow from the output a; `gelu` and `silu` are not monotonic, so theirs
need z (`needs_input`). Logged models carry a copy of this file, so it imports nothing from harness.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, Protocol

import numpy as np
from annotated_types import Ge, Lt
from numpy.typing import NDArray

__all__ = ["ACTIVATIONS", "GELU", "Activation", "LeakyReLU", "ReLU", "SiLU", "Sigmoid", "Tanh"]

Array = NDArray[np.floating[Any]]


class Activation(Protocol):
    """The interface of an activation. Its factory is called without positional arguments.

    Arrays have any shape, float32 or float64. In one call, z, a and out have the same shape and
    dtype and are different arrays. initialization: "glorot" or "he" (a key of `INITIALIZATIONS`),
    for the weights of the layer below. needs_input: whether `derivative` reads z.
    """

    initialization: str
    needs_input: bool

    def forward(self, z: Array, out: Array) -> Any:
        """Write a = f(z) into `out`."""

    def derivative(self, z: Array | None, a: Array, out: Array) -> Any:
        """Write da/dz into `out`. z, a: those of `forward`; z is None unless `needs_input`."""


def sigmoid(z: Array, out: Array) -> None:
    """Write 1 / (1 + exp(-z)) into `out`; z is clipped at -87 so that exp cannot overflow."""
    np.maximum(z, -87, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    np.reciprocal(out, out=out)


class Sigmoid:
    """a = 1 / (1 + exp(-z)), da/dz = a (1 - a)."""

    initialization, needs_input = "glorot", False

    def forward(self, z: Array, out: Array) -> None:
        """See `sigmoid`."""
        sigmoid(z, out)

    def derivative(self, z: Array | None, a: Array, out: Array) -> None:
        """a (1 - a)."""
        np.subtract(1, a, out=out)
        np.multiply(out, a, out=out)


class Tanh:
    """a = tanh(z), da/dz = 1 - a^2."""

    initialization, needs_input = "glorot", False

    def forward(self, z: Array, out: Array) -> None:
        """tanh(z)."""
        np.tanh(z, out=out)

    def derivative(self, z: Array | None, a: Array, out: Array) -> None:
        """1 - a^2."""
        np.multiply(a, a, out=out)
        np.subtract(1, out, out=out)


class ReLU:
    """a = max(z, 0), da/dz = 1 where a > 0, else 0."""

    initialization, needs_input = "he", False

    def forward(self, z: Array, out: Array) -> None:
        """max(z, 0)."""
        np.maximum(z, 0, out=out)

    def derivative(self, z: Array | None, a: Array, out: Array) -> None:
        """The sign of a; the derivative at 0 is taken as 0."""
        np.sign(a, out=out)


class LeakyReLU:
    """a = z where z > 0, else slope z; da/dz = 1 where a > 0, else slope."""

    initialization, needs_input = "he", False

    def __init__(
        self, *, slope: Annotated[float, Ge(0), Lt(1), "derivative where z is negative"] = 0.01
    ) -> None:
        self.slope = slope

    def forward(self, z: Array, out: Array) -> None:
        """max(z, slope z)."""
        np.multiply(z, self.slope, out=out)
        np.maximum(z, out, out=out)

    def derivative(self, z: Array | None, a: Array, out: Array) -> None:
        """1 where a > 0, else slope; a has the sign of z."""
        np.sign(a, out=out)
        np.maximum(out, self.slope, out=out)


class Scratch:
    """Memory for intermediate results; allocated again only when it is too small."""

    def __init__(self) -> None:
        self._memory: Array = np.empty(0)

    def like(self, array: Array) -> Array:
        """An array of the shape and dtype of `array`, with any content."""
        if self._memory.size < array.size or self._memory.dtype != array.dtype:
            self._memory = np.empty(array.size, array.dtype)
        return self._memory[: array.size].reshape(array.shape)


class GELU:
    """a = z (1 + tanh u) / 2 with u = c (z + k z^3), c = sqrt(2 / pi), k = 0.044715.

    This is PyTorch's `GELU(approximate="tanh")`. It differs from z times the normal cumulative
    distribution function by at most 5e-4. By the product rule, with t = tanh u,

        da/dz = (1 + t) / 2 + z (1 - t^2) u' / 2 = (1 + t) (1 + z u' (1 - t)) / 2
        z u'  = c z (1 + 3 k z^2)

    Beyond |z| = 10, t is 1 or -1 to the last bit, so z is clipped there before u is computed. This
    way z^3 cannot overflow.
    """

    initialization, needs_input = "he", True
    c, k = math.sqrt(2 / math.pi), 0.044715

    def __init__(self) -> None:
        self._z, self._t = Scratch(), Scratch()

    def forward(self, z: Array, out: Array) -> None:
        """z (1 + tanh u) / 2."""
        _, t = self._clipped_and_tanh(z)
        np.add(t, 1, out=t)
        np.multiply(t, 0.5, out=t)
        np.multiply(z, t, out=out)

    def derivative(self, z: Array | None, a: Array, out: Array) -> None:
        """(1 + t) (1 + z u' (1 - t)) / 2."""
        assert z is not None
        clipped, t = self._clipped_and_tanh(z)
        _cubic(clipped, self.c, 3 * self.k, out)
        np.subtract(1, t, out=clipped)
        np.multiply(out, clipped, out=out)
        np.add(out, 1, out=out)
        np.add(t, 1, out=t)
        np.multiply(out, t, out=out)
        np.multiply(out, 0.5, out=out)

    def _clipped_and_tanh(self, z: Array) -> tuple[Array, Array]:
        """Return z clipped to [-10, 10] and its t = tanh u, both in scratch arrays."""
        clipped, t = self._z.like(z), self._t.like(z)
        np.minimum(z, 10, out=clipped)
        np.maximum(clipped, -10, out=clipped)
        _cubic(clipped, self.c, self.k, t)
        np.tanh(t, out=t)
        return clipped, t


def _cubic(z: Array, c: float, k: float, out: Array) -> None:
    """Write c z (1 + k z^2) into `out`."""
    np.multiply(z, z, out=out)
    np.multiply(out, k, out=out)
    np.add(out, 1, out=out)
    np.multiply(out, z, out=out)
    np.multiply(out, c, out=out)


class SiLU:
    """a = z s with s = sigmoid(z).

    By the product rule, with ds/dz = s (1 - s): da/dz = s + z s (1 - s) = a + s (1 - a).
    """

    initialization, needs_input = "he", True

    def __init__(self) -> None:
        self._scratch = Scratch()

    def forward(self, z: Array, out: Array) -> None:
        """z sigmoid(z); below z = -87 the value at -87, which is 0 within rounding."""
        clipped = self._scratch.like(z)
        np.maximum(z, -87, out=clipped)
        sigmoid(z, out)
        np.multiply(out, clipped, out=out)

    def derivative(self, z: Array | None, a: Array, out: Array) -> None:
        """a + s (1 - a)."""
        assert z is not None
        rest = self._scratch.like(z)
        sigmoid(z, out)
        np.subtract(1, a, out=rest)
        np.multiply(out, rest, out=out)
        np.add(out, a, out=out)


ACTIVATIONS: dict[str, Callable[..., Activation]] = {
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "gelu": GELU,
    "silu": SiLU,
}
