"""Convolutions without pooling above them: all positions have a derivative.

The same kernel, `multiply`, computes all three products. With delta' = delta f'(z) (PQ, O),

    dL/dW_t  = sum over n of image[positions[n] + t] delta'[n]         for each number t of a patch

and dL/d inputs is itself a convolution, of delta' framed by k - 1 zeros with the flipped kernel.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from harness.nn.compiled.convolution import Conv2D, find_values, load, multiply, padded
from harness.nn.compiled.dense import KERNEL, F
from harness.nn.compiled.patches import TILE
from harness.nn.parameters import Shape, aligned

Array = NDArray[np.floating[Any]]


class Unpooled(Conv2D):
    """`Conv2D` with pool=1."""

    def build(self, input_shape: Shape) -> Shape:
        """(R, S, C) -> (P, Q, O)."""
        shape, (rows, columns, inside) = super().build(input_shape), input_shape
        k, width, count = self.kernel, padded(self.channels), self._workers.count
        self._positions_used = self._corners[: shape[0] * shape[1]]
        self._tiled = np.pad(self._numbers, (0, -self._numbers.size % TILE), mode="edge")
        self._product = aligned((count, self._tiled.size, width), F)
        self._sums, self._zeros = aligned(self._product.shape, F), aligned((width,), F)
        # The same for delta' in its frame, and for the pixels of an image without a frame.
        framed = shape[0] + 2 * (k - 1), shape[1] + 2 * (k - 1), width
        offsets = np.arange(np.prod(framed), dtype=np.int32).reshape(framed)
        pixels = offsets[self._frame :, self._frame :, 0][:rows, :columns].reshape(-1)
        self._pixels = np.pad(pixels, (0, -pixels.size % TILE), mode="edge")
        self._units = np.ascontiguousarray(offsets[:k, :k, : self.channels].reshape(-1))
        self._delta_image = aligned((count, offsets.size), F)
        self._flipped = aligned((self._units.size, padded(inside)), F)
        self._no_bias = aligned((padded(inside),), F)
        self._below = aligned((count, self._pixels.size, padded(inside)), F)
        return shape

    def backward(self, delta: Array) -> Array:
        """delta f'(z) W^T, folded."""
        k, shape = self.kernel, self._inputs.shape
        kernel = self.weights.reshape(k, k, shape[3], self.channels)[::-1, ::-1]
        turned = kernel.transpose(0, 1, 3, 2).reshape(-1, shape[3])
        self._flipped[:, : shape[3]] = turned
        below = self.buffer("below", shape)
        delta = np.ascontiguousarray(delta)
        self._workers.run(
            len(delta), _backward, below.reshape(len(delta), -1, shape[3]), self._delta_image,
            k - 1, self._pooled[0], self._flipped, self._no_bias, self._pixels, self._units,
            self._below, *self._for_values(delta),
        )  # fmt: skip
        return below

    def gradient(self, delta: Array, out: dict[str, Array]) -> None:
        """X^T (delta f'(z)), and the sum of delta f'(z)."""
        self._sums.fill(0)
        self._of_bias.fill(0)
        delta = np.ascontiguousarray(delta)
        self._workers.run(
            len(delta), _gradient, self._inputs, self._image, self._frame, self._sums,
            self._of_bias, self._product, self._zeros, self._tiled, self._positions_used,
            *self._for_values(delta),
        )  # fmt: skip
        used = self._sums[:, : self._numbers.size, : self.channels]
        np.add.reduce(used, axis=0, out=out["weights"])
        np.add.reduce(self._of_bias[:, : self.channels], axis=0, out=out["bias"])


@numba.njit(**KERNEL)
def _backward(
    below: Any, images: Any, frame: int, rows: int, weights: Any, bias: Any, pixels: Any,
    units: Any, products: Any, delta: Any, outputs: Any, values: Any, scratch: Any, code: int,
    slope: Any, number: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Compute dL/d inputs of some images, (B, RS, C)."""
    image, value, product = images[number], values[number], products[number]
    for b in range(begin, end):
        find_values(delta[b], outputs[b], value, scratch[number], code, slope)
        load(value.reshape(rows, len(value) // rows, value.shape[1]), image, frame)
        multiply(product, image, weights, bias, pixels, units)
        out = below[b]
        for n in range(len(out)):
            for c in range(out.shape[1]):
                out[n, c] = product[n, c]


@numba.njit(**KERNEL)
def _gradient(
    inputs: Any, images: Any, frame: int, sums: Any, of_bias: Any, products: Any, zeros: Any,
    numbers: Any, positions: Any, delta: Any, outputs: Any, values: Any, scratch: Any, code: int,
    slope: Any, number: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Add the gradient of some images to sums (kkC, O) and of_bias (O,)."""
    image, value, product = images[number], values[number], products[number]
    total, bias = sums[number], of_bias[number]
    flat, flat_product = total.reshape(total.size), product.reshape(product.size)
    for b in range(begin, end):
        find_values(delta[b], outputs[b], value, scratch[number], code, slope)
        for w in range(len(value)):
            for o in range(bias.size):
                bias[o] += value[w, o]
        load(inputs[b], image, frame)
        multiply(product, image, value, zeros, numbers, positions)
        for j in range(flat.size):
            flat[j] += flat_product[j]
