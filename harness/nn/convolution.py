"""Layers for images (B, rows, columns, channels): convolution, max-pooling, and reshaping.

B examples, R x S pixels of C channels before a layer, P x Q positions of O channels after it.
"""

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from harness.nn.initialization import INITIALIZATIONS, check_initialization
from harness.nn.layers import Layer, check_count
from harness.nn.parameters import Shape

__all__ = ["Conv2D", "Flatten", "MaxPool2D", "Reshape"]

Array = NDArray[np.floating[Any]]
CHUNK_BYTES = 8 << 20  # of patches unfolded at a time; fits in the last-level cache


class Conv2D(Layer):
    """z_bpqo = sum_ijc x_b,p+i,q+j,c W_ijco + b_o: the same dense layer at every position.

    Unfold the k x k x C patch under each position into a row of X (BPQ, kkC); the kernel is stored
    as W (kkC, O). Then z = X W + b is a product of matrices, and with delta = dL/dz (BPQ, O)

        dL/dW = X^T delta        dL/db = sum_BPQ delta        dL/dX = delta W^T

    A pixel is in up to k k patches; by the chain rule its derivative is the sum over all of its
    copies in X ("fold"). The stride is 1. padding: "valid" for positions inside the image only,
    P = R - k + 1; or "same" for P = R, with a frame of (k - 1) / 2 zeros on each side, for odd k.
    """

    weights: Array
    bias: Array

    def __init__(
        self,
        channels: int,
        kernel: int = 3,
        *,
        padding: str = "valid",
        initialization: str = "glorot",
    ) -> None:
        check_initialization("Conv2D", initialization)
        check_count("Conv2D", "channels", channels)
        check_count("Conv2D", "kernel", kernel)
        if padding not in ("valid", "same"):
            raise ValueError(f"Conv2D: padding={padding!r}: expected 'valid' or 'same'")
        if padding == "same" and kernel % 2 == 0:
            raise ValueError(f"Conv2D: kernel={kernel}: padding='same' expects an odd kernel")
        self.channels, self.kernel, self.padding = channels, kernel, padding
        self.initialization = initialization
        self._frame = (kernel - 1) // 2 if padding == "same" else 0

    def build(self, input_shape: Shape) -> Shape:
        """(R, S, C) -> (P, Q, O)."""
        if len(input_shape) != 3:
            raise ValueError(
                f"Conv2D: expected images (rows, columns, channels), found examples of shape "
                f"{input_shape}; put Reshape(rows, columns, channels) before it"
            )
        rows, columns, inside = input_shape
        self._framed = rows + 2 * self._frame, columns + 2 * self._frame, inside
        self._positions = tuple(side - self.kernel + 1 for side in self._framed[:2])
        if min(self._positions) < 1:
            raise ValueError(
                f"Conv2D: expected images of at least {self.kernel}x{self.kernel} for "
                f"kernel={self.kernel}, found {rows}x{columns}"
            )
        patch = self.kernel * self.kernel * inside
        self.shapes = {"weights": (patch, self.channels), "bias": (self.channels,)}
        positions = self._positions[0] * self._positions[1]
        # Measured: unfolding makes it take 2.2 times as long as a dense layer's multiplications.
        self.relative_work = 2 * positions
        row_bytes = 4 * patch * positions
        self._chunk = max(1, CHUNK_BYTES // row_bytes)
        return (*self._positions, self.channels)

    def initialize(self, generator: np.random.Generator) -> None:
        """Random weights, for k k C inputs and k k O outputs of a unit, and zero biases."""
        fan_out = self.kernel * self.kernel * self.channels
        half_width = INITIALIZATIONS[self.initialization](len(self.weights), fan_out)
        self.weights[:] = generator.uniform(-half_width, half_width, self.weights.shape)

    def forward(self, inputs: Array, training: bool) -> Array:
        """X W + b, some examples at a time."""
        images = self._images = self._with_frame(inputs)
        outputs = self.buffer("outputs", (len(inputs), *self._positions, self.channels))
        for part in self._parts(len(inputs)):
            product = outputs[part].reshape(-1, self.channels)
            np.matmul(self._unfold(images[part]), self.weights, out=product)
        columns = self._positions[1]  # add whole rows, because adding a few channels is slow
        rows = outputs.reshape(-1, columns * self.channels)
        np.add(rows, np.tile(self.bias, columns), out=rows)
        return outputs

    def backward(self, delta: Array) -> Array:
        """delta W^T, folded."""
        k, (rows, columns) = self.kernel, self._positions
        below = self.buffer("below", self._images.shape)
        below.fill(0)
        for part in self._parts(len(delta)):
            above = delta[part].reshape(-1, self.channels)
            unfolded = self.buffer("delta patches", (len(above), len(self.weights)))
            np.matmul(above, self.weights.T, out=unfolded)
            patches = unfolded.reshape(-1, rows, columns, k, k, self._framed[2])
            for i, j in np.ndindex(k, k):
                under = below[part, i : i + rows, j : j + columns]
                np.add(under, patches[:, :, :, i, j], out=under)
        frame = slice(self._frame, -self._frame or None)
        return below[:, frame, frame]

    def gradient(self, delta: Array, out: dict[str, Array]) -> None:
        """X^T delta, and the sum of delta over the batch and all positions."""
        parts = self._parts(len(delta))
        for part in parts:
            # After a forward pass in one part, the patches are still in the buffer.
            images = self._images[part]
            patches = self._patches if len(parts) == 1 else self._unfold(images)
            above = delta[part].reshape(-1, self.channels)
            if part.start == 0:
                np.matmul(patches.T, above, out=out["weights"])
            else:
                product = self.buffer("product", self.weights.shape)
                np.matmul(patches.T, above, out=product)
                np.add(out["weights"], product, out=out["weights"])
        np.add.reduce(delta.reshape(-1, self.channels), axis=0, out=out["bias"])

    def _parts(self, batch: int) -> list[slice]:
        """Slices of the batch; the patches of one slice are unfolded at a time."""
        return [slice(begin, begin + self._chunk) for begin in range(0, batch, self._chunk)]

    def _with_frame(self, inputs: Array) -> Array:
        """The images (B, R, S, C), contiguous, with their frame of zeros."""
        if not self._frame:
            return np.ascontiguousarray(inputs)
        framed = self.buffer("framed", (len(inputs), *self._framed))
        framed.fill(0)
        framed[:, self._frame : -self._frame, self._frame : -self._frame] = inputs
        return framed

    def _unfold(self, images: Array) -> Array:
        """The patches of images (n, R, S, C) as rows, (nPQ, kkC)."""
        k, (rows, columns) = self.kernel, self._positions
        positions = len(images) * rows * columns
        self._patches = self.buffer("patches", (positions, len(self.weights)))
        example, row, pixel, one = images.strides
        # One row of a patch, k pixels of C channels, is contiguous.
        view = as_strided(
            images,
            (len(images), rows, columns, k, k * self._framed[2]),
            (example, row, pixel, row, one),
            writeable=False,
        )
        np.copyto(self._patches.reshape(view.shape), view)
        return self._patches


class MaxPool2D(Layer):
    """y_bpqc = the largest x in the s x s window at position (p, q), for each channel.

    Windows do not overlap; leftover rows and columns are ignored: P = R // s. y depends only on the
    largest x, with derivative 1, so dL/dx is delta there and 0 elsewhere. Among equal values, the
    first counts.
    """

    def __init__(self, size: int = 2) -> None:
        check_count("MaxPool2D", "size", size)
        self.size = size

    def build(self, input_shape: Shape) -> Shape:
        """(R, S, C) -> (P, Q, C)."""
        if len(input_shape) != 3 or min(input_shape[:2]) < self.size:
            raise ValueError(
                f"MaxPool2D: expected images (rows, columns, channels) of at least "
                f"{self.size}x{self.size}, found {input_shape}"
            )
        rows, columns, channels = input_shape
        self._pooled = rows // self.size, columns // self.size, channels
        return self._pooled

    def forward(self, inputs: Array, training: bool) -> Array:
        """The maximum of each window."""
        self._inputs, self._outputs = inputs, self.buffer("outputs", (len(inputs), *self._pooled))
        for number, pixels in enumerate(self._corners(inputs)):
            if number == 0:
                np.copyto(self._outputs, pixels)
            else:
                np.maximum(self._outputs, pixels, out=self._outputs)
        return self._outputs

    def backward(self, delta: Array) -> Array:
        """delta at the first maximum of each window."""
        below = self.buffer("below", self._inputs.shape)
        left, here = self.buffer("left", delta.shape), self.buffer("here", delta.shape)
        np.copyto(left, delta)  # the part of delta that no pixel of the window has yet
        if self._inputs.shape[1:3] != tuple(side * self.size for side in self._pooled[:2]):
            below.fill(0)
        for pixels, out in zip(self._corners(self._inputs), self._corners(below), strict=True):
            np.equal(pixels, self._outputs, out=here)
            np.multiply(left, here, out=out)
            np.subtract(left, out, out=left)
        return below

    def _corners(self, images: Array) -> list[Array]:
        """The first pixel of every window, the second one, and so on: s s views (B, P, Q, C)."""
        s, (rows, columns, _) = self.size, self._pooled
        return [
            images[:, i : rows * s : s, j : columns * s : s] for i, j in np.ndindex(self.size, s)
        ]


class Reshape(Layer):
    """The same numbers in the same order in another shape, so dL/dx is delta reshaped.

    shape: of one example. A network's first layer gets (B, D); images need Reshape(rows, columns,
    channels) before their first convolution.
    """

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def build(self, input_shape: Shape) -> Shape:
        """Any shape -> `shape`, with as many numbers."""
        if math.prod(input_shape) != math.prod(self.shape):
            raise ValueError(
                f"Reshape{self.shape}: expected {math.prod(self.shape)} numbers, found "
                f"{math.prod(input_shape)} in examples of shape {input_shape}"
            )
        self._below = input_shape
        return self.shape

    def forward(self, inputs: Array, training: bool) -> Array:
        """A view of the inputs."""
        return inputs.reshape(len(inputs), *self.shape)

    def backward(self, delta: Array) -> Array:
        """A view of delta."""
        return delta.reshape(len(delta), *self._below)


class Flatten(Reshape):
    """(B, ...) -> (B, D), for dense layers after convolutions."""

    def __init__(self) -> None:
        super().__init__()

    def build(self, input_shape: Shape) -> Shape:
        """Any shape -> (D,)."""
        self.shape = (math.prod(input_shape),)
        return super().build(input_shape)
