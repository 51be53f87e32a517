"""Convolution and pooling with compiled kernels: twins of `nn/convolution.py`.

A convolution is trained together with the activation and the pooling above it, image by image, so
its outputs z never leave the first-level cache. With v = max z over a window and a = f(v), f
monotonic,

    max f(z) = f(max z)          dL/dz = dL/da f'(v) at the largest z of the window, else 0

so the activation is computed once per window, and dL/dz is stored as the positions `where` (offsets
of patches) and the values there (windows, O). Patches are not unfolded: the forward pass multiplies
pixels in place, the gradient adds up the patches at these positions, and the backward pass adds the
weights to the pixels under them. Convolutions without pooling are in `unpooled.py`.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from harness.nn import convolution
from harness.nn.activations import Activation
from harness.nn.compiled.dense import COMPILED, KERNEL, F
from harness.nn.compiled.elementwise import CODES, activate, multiply_slope
from harness.nn.compiled.patches import (
    FULL,
    HALF,
    TILE,
    gather3,
    gather9,
    pool_full,
    pool_half,
    scatter3,
    scatter9,
    tile_full,
    tile_half,
)
from harness.nn.compiled.workers import Workers
from harness.nn.parameters import Shape, aligned

Array = NDArray[np.floating[Any]]
NO_ACTIVATION = -1
GROUP = 9  # vectors of a patch that are summed at a time; then come groups of 3


class Conv2D(convolution.Conv2D):
    """f(X W + b), pooled.

    layer: the layer that it replaces. activation: f, one of `CODES`; None for none. pool: rows and
    columns of a window. The threads of `workers` split the sum of a gradient, so its last bits
    depend on the number of threads.
    """

    def __init__(
        self,
        layer: convolution.Conv2D,
        activation: Activation | None,
        pool: int,
        *,
        workers: Workers,
    ) -> None:
        super().__init__(layer.channels, layer.kernel, padding=layer.padding)
        self._code = NO_ACTIVATION if activation is None else CODES[type(activation)]
        self._slope = F(getattr(activation, "slope", 0))
        self._pool, self._workers = pool, workers

    def build(self, input_shape: Shape) -> Shape:
        """(R, S, C) -> (P, Q, O), after the pooling."""
        super().build(input_shape)
        k, s = self.kernel, self._pool
        rows, columns, inside = self._framed
        self._pooled = self._positions[0] // s, self._positions[1] // s, self.channels
        windows, width = self._pooled[0] * self._pooled[1], padded(self.channels)
        offsets = np.arange(rows * columns * inside, dtype=np.int32).reshape(rows, columns, inside)
        # The position of each patch, window by window, padded to whole tiles.
        corners = offsets[: self._pooled[0] * s, : self._pooled[1] * s, 0]
        corners = corners.reshape(self._pooled[0], s, self._pooled[1], s).transpose(0, 2, 1, 3)
        self._corners = np.pad(corners.reshape(-1), (0, -corners.size % TILE), mode="edge")
        # The distances of the numbers in a patch, and of its parts of whole vectors.
        self._numbers = np.ascontiguousarray(offsets[:k, :k].reshape(-1))
        self._per_row = -(-k * inside // HALF)
        parts = offsets[:k, 0, :1] + np.arange(self._per_row, dtype=np.int32) * HALF
        self._distances = np.pad(parts.reshape(-1), (0, -parts.size % 3), mode="edge")
        count, patch = self._workers.count, self._distances.size * HALF
        self._image = aligned((count, offsets.size + FULL), F)  # a vector can begin at the end
        self._z = aligned((count, self._corners.size, width), F)
        self._top = aligned((count, windows, width), F)
        self._kernel, self._offset = aligned((len(self._numbers), width), F), aligned((width,), F)
        self._turned, self._total = aligned((width, patch), F), aligned((width, patch), F)
        self._sums, self._of_bias = aligned((count, width, patch), F), aligned((count, width), F)
        self._where = np.zeros((0, windows, width), np.int32)
        return self._pooled

    def forward(self, inputs: Array, training: bool) -> Array:
        """f(X W + b), pooled, (B, P, Q, O)."""
        self._inputs = np.ascontiguousarray(inputs)
        if len(inputs) > len(self._where):
            self._where = np.zeros((len(inputs), *self._where.shape[1:]), np.int32)
        self._outputs = self.buffer("outputs", (len(inputs), *self._pooled))
        self._kernel[:, : self.channels] = self.weights
        self._offset[: self.channels] = self.bias
        self._workers.run(
            len(inputs), _forward, self._inputs, self._image, self._frame, self._kernel,
            self._offset, self._corners, self._numbers, self._pool**2, self._z, self._top,
            self._where, self._outputs.reshape(len(inputs), -1, self.channels), self._code,
            self._slope,
        )  # fmt: skip
        return self._outputs

    def backward(self, delta: Array) -> Array:
        """delta f'(v) W^T, folded."""
        kernel, used = self._rows(self.weights, self._turned)
        np.copyto(used, kernel)
        below = self.buffer("below", self._inputs.shape)
        delta = np.ascontiguousarray(delta)
        self._workers.run(
            len(delta), _backward, below, self._image, self._frame, self._turned, self._distances,
            self._where, *self._for_values(delta),
        )  # fmt: skip
        return below

    def gradient(self, delta: Array, out: dict[str, Array]) -> None:
        """X^T (delta f'(v)), and the sum of delta f'(v)."""
        self._sums.fill(0)
        self._of_bias.fill(0)
        delta = np.ascontiguousarray(delta)
        self._workers.run(
            len(delta), _gradient, self._inputs, self._image, self._frame, self._sums,
            self._of_bias, self._distances, self._where, *self._for_values(delta),
        )  # fmt: skip
        np.add.reduce(self._sums, axis=0, out=self._total)
        gradient, used = self._rows(out["weights"], self._total)
        np.copyto(gradient, used)
        np.add.reduce(self._of_bias[:, : self.channels], axis=0, out=out["bias"])

    def _rows(self, weights: Array, turned: Array) -> tuple[Array, Array]:
        """Views (O, k, kC) of weights (kkC, O), and of `turned` (O, patch) without padding."""
        k, row = self.kernel, self._numbers.size // self.kernel
        patches = turned[: self.channels, : k * self._per_row * HALF]
        patches = patches.reshape(self.channels, k, self._per_row * HALF)
        return weights.reshape(k, row, self.channels).transpose(2, 0, 1), patches[:, :, :row]

    def _for_values(self, delta: Array) -> tuple[Any, ...]:
        """The arguments of `find_values`, with arrays (B, windows, O)."""
        shape = len(delta), -1, self.channels
        delta, outputs = delta.reshape(shape), self._outputs.reshape(shape)
        return delta, outputs, self._top, self._z, self._code, self._slope


def padded(channels: int) -> int:
    """The number of channels, rounded up to whole vectors."""
    return -(-channels // HALF) * HALF


@numba.njit(**COMPILED)
def multiply(out: Any, image: Any, weights: Any, bias: Any, positions: Any, distances: Any) -> None:
    """out[n] = bias + sum over t of image[positions[n] + distances[t]] weights[t]; see `tiler`."""
    for column in range(0, weights.shape[1], FULL):
        for first in range(0, len(positions), TILE):
            if column + FULL <= weights.shape[1]:
                tile_full(out, image, weights, bias, positions, first, distances, column)
            else:
                tile_half(out, image, weights, bias, positions, first, distances, column)


@numba.njit(**KERNEL)
def _forward(
    inputs: Any, images: Any, frame: int, weights: Any, bias: Any, corners: Any, numbers: Any,
    window: int, scratch: Any, tops: Any, where: Any, outputs: Any, code: int, slope: Any,
    number: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Compute the outputs of some images, and where each window is largest.

    window: the number of positions in a window.
    """
    image, z, top = images[number], scratch[number], tops[number]
    width, windows = weights.shape[1], len(top)
    for b in range(begin, end):
        load(inputs[b], image, frame)
        multiply(z, image, weights, bias, corners, numbers)
        for column in range(0, width, FULL):
            for w in range(windows):
                if column + FULL <= width:
                    pool_full(top, where[b], w, z, corners, w * window, window, column)
                else:
                    pool_half(top, where[b], w, z, corners, w * window, window, column)
        out = outputs[b]
        if out.shape[1] == width:
            _apply(top.reshape(top.size), out.reshape(out.size), code, slope)
        else:
            flat = z.reshape(z.size)[: top.size]
            _apply(top.reshape(top.size), flat, code, slope)
            for w in range(windows):
                for o in range(out.shape[1]):
                    out[w, o] = flat[w * width + o]


@numba.njit(**KERNEL)
def _backward(
    below: Any, images: Any, frame: int, weights: Any, distances: Any, where: Any,
    delta: Any, outputs: Any, values: Any, scratch: Any, code: int, slope: Any, number: int,
    begin: int, end: int,
) -> None:  # fmt: skip
    """Compute dL/d inputs of some images. weights: (O, patch) in whole vectors."""
    image, value, count = images[number], values[number], distances.size
    for b in range(begin, end):
        find_values(delta[b], outputs[b], value, scratch[number], code, slope)
        for j in range(image.size):
            image[j] = F(0)
        for channel in range(delta.shape[2]):
            part = 0
            while part + GROUP <= count:
                scatter9(image, where[b], value, channel, weights, distances, part)
                part += GROUP
            while part < count:
                scatter3(image, where[b], value, channel, weights, distances, part)
                part += 3
        _unload(image, below[b], frame)
    if frame > 0:  # `load` expects zeros there
        for j in range(image.size):
            image[j] = F(0)


@numba.njit(**KERNEL)
def _gradient(
    inputs: Any, images: Any, frame: int, sums: Any, of_bias: Any, distances: Any, where: Any,
    delta: Any, outputs: Any, values: Any, scratch: Any, code: int, slope: Any, number: int,
    begin: int, end: int,
) -> None:  # fmt: skip
    """Add the gradient of some images to sums (O, patch) and of_bias (O,)."""
    image, value, count = images[number], values[number], distances.size
    out, bias, channels = sums[number], of_bias[number], delta.shape[2]
    for b in range(begin, end):
        find_values(delta[b], outputs[b], value, scratch[number], code, slope)
        for w in range(len(value)):
            for o in range(bias.size):
                bias[o] += value[w, o]
        load(inputs[b], image, frame)
        part = 0
        while part + GROUP <= count:
            for channel in range(channels):
                gather9(out, image, where[b], value, channel, distances, part)
            part += GROUP
        while part < count:
            for channel in range(0, channels, 4):
                gather3(out, image, where[b], value, channel, distances, part)
            part += 3


@numba.njit(**COMPILED)
def load(image: Any, out: Any, frame: int) -> None:
    """Copy an image (R, S, C) into `out`, inside its existing frame of zeros."""
    rows, columns, channels = image.shape
    if frame == 0:
        flat = image.reshape(image.size)
        for j in range(flat.size):
            out[j] = flat[j]
        return
    width = (columns + 2 * frame) * channels
    for r in range(rows):
        begin, row = (r + frame) * width + frame * channels, image[r].reshape(columns * channels)
        for j in range(row.size):
            out[begin + j] = row[j]


@numba.njit(**COMPILED)
def _unload(image: Any, out: Any, frame: int) -> None:
    """Copy an image without its frame into `out` (R, S, C)."""
    rows, columns, channels = out.shape
    width = (columns + 2 * frame) * channels
    for r in range(rows):
        begin, row = (r + frame) * width + frame * channels, out[r].reshape(columns * channels)
        for j in range(row.size):
            row[j] = image[begin + j]


@numba.njit(**COMPILED)
def _apply(z: Any, a: Any, code: int, slope: Any) -> None:
    """a = f(z), for all elements of a."""
    for j in range(a.size):
        a[j] = z[j]
    if code != NO_ACTIVATION:
        activate(a.reshape(1, a.size), code, slope)


@numba.njit(**COMPILED)
def find_values(delta: Any, a: Any, out: Any, scratch: Any, code: int, slope: Any) -> None:
    """out = delta f'(z) for arrays (windows, O); the columns of `out` beyond O are zero."""
    size, width = delta.size, out.shape[1]
    if delta.shape[1] == width:
        _differentiate(delta.reshape(size), a.reshape(size), out.reshape(size), code, slope)
        return
    flat = scratch.reshape(scratch.size)[:size]
    _differentiate(delta.reshape(size), a.reshape(size), flat, code, slope)
    for w in range(len(delta)):
        for o in range(delta.shape[1]):
            out[w, o] = flat[w * delta.shape[1] + o]
        for o in range(delta.shape[1], width):
            out[w, o] = F(0)


@numba.njit(**COMPILED)
def _differentiate(delta: Any, a: Any, out: Any, code: int, slope: Any) -> None:
    """out = delta f'(z), for all elements of delta."""
    for j in range(delta.size):
        out[j] = delta[j]
    if code != NO_ACTIVATION:
        multiply_slope(out, a, code, slope)
