"""Layers with compiled kernels: twins of `nn/layers.py`, whose parameters they share.

The bias of a dense layer is added in the pass of the activation above it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from harness.nn import layers
from harness.nn.activations import Activation, LeakyReLU, ReLU, Sigmoid, Tanh
from harness.nn.compiled.dense import KERNEL, F, activate
from harness.nn.compiled.workers import Workers
from harness.nn.parameters import Shape, aligned
from harness.nn.regularization import draw_bits, threshold

Array = NDArray[np.floating[Any]]
CHUNK = 1 << 17  # weights whose gradient is computed and applied at a time
CODES: dict[type, int] = {Sigmoid: 0, Tanh: 1, ReLU: 2, LeakyReLU: 3}


class RowLayer(layers.Layer):
    """A layer that computes each row, an example of the batch, by itself.

    So several such layers in a row can be computed by threads that share the examples, without
    waiting for each other in between (`Rows`). A subclass has `open` and `open_below`, which take
    the whole arrays and return those to be written, and `up` and `down`, which write some rows.
    """

    workers: Workers

    def open(self, inputs: Array, training: bool) -> Array:
        """Take the inputs (B, ...). Returns the array of the outputs, not yet written."""
        raise NotImplementedError

    def up(self, number: int, begin: int, end: int) -> None:
        """Write the outputs of the examples from `begin` to `end`."""
        raise NotImplementedError

    def open_below(self, delta: Array) -> Array:
        """Take the delta (B, ...). Returns the array of that of the layer below."""
        raise NotImplementedError

    def down(self, number: int, begin: int, end: int) -> None:
        """Write the delta of the layer below for the examples from `begin` to `end`."""
        raise NotImplementedError

    def forward(self, inputs: Array, training: bool) -> Array:
        """The outputs."""
        outputs = self.open(inputs, training)
        self.workers.run(len(inputs), self.up)
        return outputs

    def backward(self, delta: Array) -> Array:
        """The delta of the layer below."""
        below = self.open_below(delta)
        self.workers.run(len(delta), self.down)
        return below


class Rows(layers.Chain):
    """Layers one after the other; each thread computes some examples through all of them."""

    layers: Sequence[RowLayer]

    def __init__(self, layers: Sequence[RowLayer], workers: Workers) -> None:
        super().__init__(*layers)
        self._workers = workers

    def forward(self, inputs: Array, training: bool) -> Array:
        """From the first layer to the last."""
        for layer in self.layers:
            inputs = layer.open(inputs, training)
        self._workers.run(len(inputs), self._up)
        return inputs

    def backward(self, delta: Array) -> Array:
        """From the last layer to the first."""
        for layer in reversed(self.layers):
            layer.delta = delta
            delta = layer.open_below(delta)
        self._workers.run(len(delta), self._down)
        return delta

    def _up(self, *numbers: int) -> None:
        for layer in self.layers:
            layer.up(*numbers)

    def _down(self, *numbers: int) -> None:
        for layer in reversed(self.layers):
            layer.down(*numbers)


class Dense(RowLayer, layers.Dense):
    """z = x W + b. adds_bias: whether the layer adds its bias, else the next one does."""

    def __init__(self, outputs: int, *, adds_bias: bool, workers: Workers) -> None:
        super().__init__(outputs)
        self._adds_bias, self.workers = adds_bias, workers

    def build(self, input_shape: Shape) -> Shape:
        """(I,) -> (O,)."""
        (inputs,) = input_shape
        count = self.workers.count
        rows = min(max(1, CHUNK // self.outputs), -(-inputs // count))
        self._chunks, self._rows = -(-inputs // rows), rows
        self._gradients = aligned((count, rows, self.outputs), F)
        return super().build(input_shape)

    def open(self, inputs: Array, training: bool) -> Array:
        """z, not yet written."""
        self._inputs, self._z = inputs, self.buffer("outputs", (len(inputs), self.outputs))
        return self._z

    def up(self, number: int, begin: int, end: int) -> None:
        """x W + b."""
        z = self._z[begin:end]
        np.matmul(self._inputs[begin:end], self.weights, out=z)
        if self._adds_bias:
            np.add(z, self.bias, out=z)

    def open_below(self, delta: Array) -> Array:
        """dL/dx, not yet written."""
        self._above, self._below = delta, self.buffer("below", self._inputs.shape)
        return self._below

    def down(self, number: int, begin: int, end: int) -> None:
        """delta W^T."""
        np.matmul(self._above[begin:end], self.weights.T, out=self._below[begin:end])

    def gradient(self, delta: Array, out: dict[str, Array]) -> None:
        """x^T delta, and the sum of delta over the batch."""
        self.workers.run(self._chunks, self._gradient, delta, out["weights"])
        sum_rows(delta, out["bias"])

    def update(self, step: Callable[..., None], *state: Array) -> None:
        """Apply an optimizer's step to the weights, some rows at a time.

        The gradient of the rows is still in the cache when the step reads it. step: called with
        the rows of the weights and of each of `state`, and the gradient.
        """
        arrays = self._inputs, self.delta, step, self.weights, *state
        self.workers.run(self._chunks, self._update, *arrays)

    def _gradient(self, delta: Array, out: Array, _: int, begin: int, end: int) -> None:
        rows = slice(begin * self._rows, end * self._rows)
        np.matmul(self._inputs[:, rows].T, delta, out=out[rows])

    def _update(self, inputs: Array, delta: Array, step: Callable[..., None], *rest: Any) -> None:
        *arrays, number, begin, end = rest
        for chunk in range(begin, end):
            rows = slice(chunk * self._rows, (chunk + 1) * self._rows)
            x = inputs[:, rows]
            gradient = self._gradients[number, : x.shape[1]]
            np.matmul(x.T, delta, out=gradient)
            step(*(array[rows] for array in arrays), gradient)


class Activate(RowLayer):
    """a = f(z + bias). bias: of the dense layer below, None for none."""

    def __init__(
        self, activation: Activation, below: layers.Dense | None, workers: Workers
    ) -> None:
        self._code, self._dense = CODES[type(activation)], below
        self._slope, self.workers = F(getattr(activation, "slope", 0)), workers

    def build(self, input_shape: Shape) -> Shape:
        """The shape of the inputs."""
        if self._dense is None:
            self._zeros = np.zeros(input_shape[-1], np.float32)
        return input_shape

    def open(self, inputs: Array, training: bool) -> Array:
        """a, not yet written."""
        self._z, self._a = inputs, self.buffer("outputs", inputs.shape)
        return self._a

    def up(self, number: int, begin: int, end: int) -> None:
        """f(z + bias)."""
        bias = self._zeros if self._dense is None else self._dense.bias
        z, a = (each[begin:end].reshape(-1, bias.size) for each in (self._z, self._a))
        _forward(z, a, bias, self._code, self._slope)

    def open_below(self, delta: Array) -> Array:
        """dL/dz, not yet written."""
        self._above, self._below = delta, self.buffer("below", delta.shape)
        return self._below

    def down(self, number: int, begin: int, end: int) -> None:
        """delta f'(z)."""
        arrays = (each[begin:end].reshape(-1) for each in (self._above, self._a, self._below))
        _backward(*arrays, self._code, self._slope)


class Dropout(RowLayer, layers.Dropout):
    """y = m x, with the mask m as random bits."""

    def __init__(self, rate: float, workers: Workers) -> None:
        super().__init__(rate)
        self.workers = workers

    def draw(self, batch: int, generator: np.random.Generator) -> None:
        """Draw the bits of a training step, for the largest batch."""
        self._bits = draw_bits((batch, *self._shape), generator)
        self._limit, self._factor = threshold(self.rate), F(1 / (1 - self.rate))

    def open(self, inputs: Array, training: bool) -> Array:
        """y, not yet written."""
        self._pair = inputs, self.buffer("outputs", inputs.shape) if training else inputs
        return self._pair[1]

    def open_below(self, delta: Array) -> Array:
        """m delta, not yet written."""
        self._pair = delta, self.buffer("below", delta.shape)
        return self._pair[1]

    def up(self, number: int, begin: int, end: int) -> None:
        """m x, or x."""
        values, out = self._pair
        if values is not out:
            arrays = (each[begin:end].reshape(-1) for each in (values, self._bits, out))
            _mask(*arrays, self._limit, self._factor)

    down = up


@numba.njit(**KERNEL)
def _mask(values: Any, bits: Any, out: Any, limit: int, factor: Any) -> None:
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
def sum_rows(rows: Any, out: Any) -> None:
    """Write the sum of `rows` (B, H) into `out` (H,)."""
    for j in range(out.size):
        out[j] = F(0)
    for i in range(len(rows)):
        for j in range(out.size):
            out[j] += rows[i, j]
