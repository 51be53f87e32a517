"""Layers with compiled kernels: twins of `nn/layers.py`, whose parameters they share.

The bias of a dense layer is added in the pass of the activation above it.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from harness.nn import layers
from harness.nn.activations import Activation, LeakyReLU, ReLU, Sigmoid, Tanh
from harness.nn.compiled.dense import KERNEL, F, activate
from harness.nn.parameters import Shape
from harness.nn.regularization import draw_bits, threshold

Array = NDArray[np.floating[Any]]
CODES: dict[type, int] = {Sigmoid: 0, Tanh: 1, ReLU: 2, LeakyReLU: 3}


class Dense(layers.Dense):
    """z = x W + b. adds_bias: whether the layer adds its bias, else the next one does."""

    def __init__(self, outputs: int, *, adds_bias: bool) -> None:
        super().__init__(outputs)
        self._adds_bias = adds_bias

    def forward(self, inputs: Array, training: bool) -> Array:
        """x W + b."""
        self._inputs = inputs
        outputs = self.buffer("outputs", (len(inputs), self.outputs))
        np.matmul(inputs, self.weights, out=outputs)
        if self._adds_bias:
            np.add(outputs, self.bias, out=outputs)
        return outputs

    def gradient(self, delta: Array, out: dict[str, Array]) -> None:
        """x^T delta, and the sum of delta over the batch."""
        np.matmul(self._inputs.T, delta, out=out["weights"])
        _sum_rows(delta, out["bias"])


class Activate(layers.Layer):
    """a = f(z + bias). bias: of the dense layer below, None for none."""

    def __init__(self, activation: Activation, below: layers.Dense | None) -> None:
        self._code, self._below = CODES[type(activation)], below
        self._slope = F(getattr(activation, "slope", 0))

    def build(self, input_shape: Shape) -> Shape:
        """The shape of the inputs."""
        if self._below is None:
            self._zeros = np.zeros(input_shape[-1], np.float32)
        return input_shape

    def forward(self, inputs: Array, training: bool) -> Array:
        """f(z + bias)."""
        bias = self._zeros if self._below is None else self._below.bias
        self._outputs = self.buffer("outputs", inputs.shape)
        rows = inputs.reshape(-1, bias.size), self._outputs.reshape(-1, bias.size)
        _forward(*rows, bias, self._code, self._slope)
        return self._outputs

    def backward(self, delta: Array) -> Array:
        """delta f'(z)."""
        below = self.buffer("below", delta.shape)
        _backward(delta.reshape(-1), self._outputs.reshape(-1), below.reshape(-1), self._code,
                  self._slope)  # fmt: skip
        return below


class Dropout(layers.Dropout):
    """y = m x, with the mask m as random bits."""

    def draw(self, batch: int, generator: np.random.Generator) -> None:
        """Draw the bits of a training step, for the largest batch."""
        self._bits = draw_bits((batch, *self._shape), generator).reshape(-1)
        self._limit, self._factor = threshold(self.rate), F(1 / (1 - self.rate))

    def forward(self, inputs: Array, training: bool) -> Array:
        """m x, or x."""
        return self._masked(inputs, "outputs") if training else inputs

    def backward(self, delta: Array) -> Array:
        """m delta."""
        return self._masked(delta, "below")

    def _masked(self, values: Array, name: str) -> Array:
        out = self.buffer(name, values.shape)
        _mask(values.reshape(-1), self._bits, self._limit, self._factor, out.reshape(-1))
        return out


@numba.njit(**KERNEL)
def _mask(values: Any, bits: Any, limit: int, factor: Any, out: Any) -> None:
    """out = values, times `factor` where the bits are at least `limit`, else 0; one dimension."""
    least = np.uint32(limit)
    for j in range(values.size):
        out[j] = values[j] * factor if bits[j] >= least else F(0)


@numba.njit(**KERNEL)
def _forward(z: Any, a: Any, bias: Any, code: int, slope: Any) -> None:
    """a = f(z + bias), each row of z and a (B, H)."""
    width = bias.size
    if code == 2:
        for i in range(len(z)):
            for j in range(width):
                a[i, j] = max(z[i, j] + bias[j], F(0))
        return
    if code == 3:
        for i in range(len(z)):
            for j in range(width):
                x = z[i, j] + bias[j]
                a[i, j] = max(x, slope * x)
        return
    bits = np.empty(width, np.int32)
    powers = bits.view(np.float32)
    for i in range(len(z)):
        for j in range(width):
            a[i, j] = z[i, j] + bias[j]
        activate(a[i], code, bits, powers)


@numba.njit(**KERNEL)
def _backward(delta: Any, a: Any, out: Any, code: int, slope: Any) -> None:
    """out = delta f'(z), of arrays of one dimension."""
    if code == 0:
        for j in range(a.size):
            out[j] = delta[j] * a[j] * (F(1) - a[j])
    elif code == 1:
        for j in range(a.size):
            out[j] = delta[j] * (F(1) - a[j] * a[j])
    else:
        for j in range(a.size):
            out[j] = delta[j] if a[j] > 0 else slope * delta[j]


@numba.njit(**KERNEL)
def _sum_rows(rows: Any, out: Any) -> None:
    """Write the sum of `rows` (B, H) into `out` (H,)."""
    for j in range(out.size):
        out[j] = F(0)
    for i in range(len(rows)):
        for j in range(out.size):
            out[j] += rows[i, j]
