"""Layers: one class each, with its forward pass, its derivative, and its parameters.

A custom layer is a subclass of `Layer`. This one multiplies every input by a trained factor,
y = g x, so dL/dx = g dL/dy and dL/dg = sum_B x dL/dy:

    class Scale(Layer):
        def build(self, input_shape):
            self.shapes = {"g": input_shape}
            return input_shape

        def initialize(self, generator):
            self.g[:] = 1

        def forward(self, inputs, training):
            self.inputs = inputs
            return np.multiply(inputs, self.g, out=self.buffer("outputs", inputs.shape))

        def backward(self, delta):
            return np.multiply(delta, self.g, out=self.buffer("below", delta.shape))

        def gradient(self, delta, out):
            np.add.reduce(self.inputs * delta, axis=0, out=out["g"])

A block of layers is a subclass of `Chain`; `Residual` in docs/your-own.md is an example.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from types import FunctionType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from harness.nn.activations import Activation
from harness.nn.initialization import INITIALIZATIONS, check_initialization
from harness.nn.parameters import Shape, aligned
from harness.nn.regularization import draw_mask

__all__ = ["Activate", "Chain", "Dense", "Dropout", "Layer"]

Array = NDArray[np.floating[Any]]
UNWRITTEN = 1.25e30  # fills arrays to check that a method writes to them


class Layer:
    """The interface of a layer, and its defaults: no parameters, nothing random.

    Inputs and outputs are (B, ...) for batches of any B, in the network's dtype. No method changes
    its arguments. Results are the layer's own arrays (`buffer`), valid until it is called again.
    A layer belongs to one network.

    shapes: its parameter shapes by name, set by `build`. The network makes each parameter an
    attribute, a view into its flat vector. relative_work: the time of `forward` per example and
    parameter, in multiplications of a dense layer. layers: the layers inside a block. delta: the
    argument of the last `backward`, which is passed to `gradient`.
    """

    shapes: Mapping[str, Shape] = {}
    relative_work: int = 1
    layers: Sequence["Layer"] = ()
    dtype: np.dtype[Any]
    delta: Array
    _memory: dict[str, Array]
    _views: dict[tuple[str, Shape], Array]

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Create the tables of buffers here, so subclasses need not call `super().__init__`."""
        layer = super().__new__(cls)
        layer._memory, layer._views = {}, {}
        return layer

    def build(self, input_shape: Shape) -> Shape:
        """Take the shape of one example, set `shapes`, return the shape of one output.

        Called once, before any other method. Raises `ValueError` for a shape that does not fit.
        """
        return input_shape

    def initialize(self, generator: np.random.Generator) -> None:
        """Set the parameters, which are zero, to their initial values."""

    def draw(self, batch: int, generator: np.random.Generator) -> None:
        """Draw the random numbers of a training step of up to `batch` examples.

        This is not done in `forward`, which runs twice in a step of adversarial training.
        """

    def forward(self, inputs: Array, training: bool) -> Array:
        """The outputs (B, ...) of `inputs` (B, ...). Every layer must define it."""
        raise ValueError(f"{type(self).__name__}: expected a layer with forward(inputs, training)")

    def backward(self, delta: Array) -> Array:
        """dL/d inputs, from delta = dL/d outputs of the last `forward`. Must be defined, too."""
        raise ValueError(f"{type(self).__name__}: expected a layer with backward(delta)")

    def backward_inside(self, delta: Array) -> None:
        """Like `backward`, for the lowest layer with parameters; dL/d inputs is not needed."""
        if self.layers:
            self.backward(delta)

    def gradient(self, delta: Array, out: dict[str, Array]) -> None:
        """Write dL/d parameters into `out`, which has the names and shapes of `shapes`.

        delta: that of the last `backward`, possibly times a factor.
        """

    def buffer(self, name: str, shape: Shape) -> Array:
        """An array of this shape with any content, the same array for the same name and shape."""
        try:
            return self._views[name, shape]
        except KeyError:
            memory = self._memory.get(name)
        if memory is None or len(memory) < shape[0] or memory.shape[1:] != shape[1:]:
            memory = self._memory[name] = aligned(shape, self.dtype)
            self._views = {key: view for key, view in self._views.items() if key[0] != name}
        view = self._views[name, shape] = memory[: shape[0]]
        return view


def walk(layers: Iterable[Layer]) -> Iterator[Layer]:
    """Yield the layers and the layers inside them, each block before its own layers."""
    for layer in layers:
        yield layer
        yield from walk(layer.layers)


def is_built_in(value: Any) -> bool:
    """Whether a class or function, or the class of another value, is not user-defined."""
    module = value.__module__ if isinstance(value, type | FunctionType) else type(value).__module__
    return module.partition(".")[0] in ("harness", "numpy", "builtins")


def check_count(place: str, name: str, value: Any) -> None:
    """Raise `ValueError` unless `value` is a whole number of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{place}: {name}={value!r}: expected a whole number of at least 1")


class Chain(Layer):
    """Layers one after the other, as one layer: the base of blocks.

    A block with several branches has one chain in `layers` for each of them.
    """

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    def build(self, input_shape: Shape) -> Shape:
        """The shape after the last layer."""
        for layer in self.layers:
            input_shape = layer.build(input_shape)
        return input_shape

    def forward(self, inputs: Array, training: bool) -> Array:
        """Run the layers from the first to the last."""
        for layer in self.layers:
            inputs = layer.forward(inputs, training)
        return inputs

    def backward(self, delta: Array) -> Array:
        """Back-propagate from the last layer to the first."""
        for layer in reversed(self.layers):
            layer.delta = delta
            delta = layer.backward(delta)
        return delta


class Dense(Layer):
    """z = x W + b with x (B, I), W (I, O), b (O,).

    z_bj = sum_i x_bi W_ij + b_j, so with delta = dL/dz (B, O) the chain rule gives (Nielsen, Neural
    Networks and Deep Learning, 2015, chapter 2, equations BP2 to BP4)

        dL/dx = delta W^T        dL/dW = x^T delta        dL/db = sum_B delta
    """

    weights: Array
    bias: Array

    def __init__(self, outputs: int, *, initialization: str = "glorot") -> None:
        check_initialization("Dense", initialization)
        check_count("Dense", "outputs", outputs)
        self.outputs: int = outputs
        self.initialization: str = initialization

    def build(self, input_shape: Shape) -> Shape:
        """(I,) -> (O,)."""
        if len(input_shape) != 1:
            raise ValueError(
                f"Dense: expected examples of one dimension, found {input_shape}; put Flatten() "
                "before it"
            )
        self.shapes = {"weights": (*input_shape, self.outputs), "bias": (self.outputs,)}
        return (self.outputs,)

    def initialize(self, generator: np.random.Generator) -> None:
        """Random weights and zero biases."""
        half_width = INITIALIZATIONS[self.initialization](*self.weights.shape)
        self.weights[:] = generator.uniform(-half_width, half_width, self.weights.shape)

    def forward(self, inputs: Array, training: bool) -> Array:
        """x W + b."""
        self._inputs = inputs
        outputs = self.buffer("outputs", (len(inputs), self.outputs))
        np.matmul(inputs, self.weights, out=outputs)
        np.add(outputs, self.bias, out=outputs)
        return outputs

    def backward(self, delta: Array) -> Array:
        """delta W^T."""
        below = self.buffer("below", self._inputs.shape)
        np.matmul(delta, self.weights.T, out=below)
        return below

    def gradient(self, delta: Array, out: dict[str, Array]) -> None:
        """x^T delta, and the sum of delta over the batch."""
        np.matmul(self._inputs.T, delta, out=out["weights"])
        np.add.reduce(delta, axis=0, out=out["bias"])


class Activate(Layer):
    """a = f(z), elementwise, so dL/dz = dL/da f'(z)."""

    def __init__(self, activation: Activation) -> None:
        self.activation = activation

    def build(self, input_shape: Shape) -> Shape:
        """The shape of the inputs. Raises `ValueError` for an activation that writes nothing."""
        name = type(self.activation).__name__
        z, a, slope = np.linspace(-1, 1, 8), np.full(8, UNWRITTEN), np.full(8, UNWRITTEN)
        self.activation.forward(z, a)
        given = a.copy()
        self.activation.derivative(z if self.activation.needs_input else None, a, slope)
        for method, out in (("forward(z, out)", given), ("derivative(z, a, out)", slope)):
            if (out == UNWRITTEN).any():
                raise ValueError(
                    f"{name}.{method}: expected it to write to `out`, but `out` is unchanged"
                )
            if not np.isfinite(out).all():
                raise ValueError(f"{name}.{method}: expected finite numbers, found {out} for {z}")
        if (z != np.linspace(-1, 1, 8)).any():
            raise ValueError(f"{name}: must not modify z")
        if (a != given).any():  # it is the input of the layer above
            raise ValueError(f"{name}.derivative: must not modify a; modify a copy")
        return input_shape

    def forward(self, inputs: Array, training: bool) -> Array:
        """f(z)."""
        self._inputs, self._outputs = inputs, self.buffer("outputs", inputs.shape)
        self.activation.forward(inputs, self._outputs)
        return self._outputs

    def backward(self, delta: Array) -> Array:
        """delta f'(z)."""
        below = self.buffer("below", delta.shape)
        z = self._inputs if self.activation.needs_input else None
        self.activation.derivative(z, self._outputs, below)
        return np.multiply(delta, below, out=below)


class Dropout(Layer):
    """y = m x in training, y = x otherwise; m is 0 with probability `rate`, else 1 / (1 - rate).

    The expectation of y is x, so evaluation needs no dropout ("inverted" dropout; Srivastava et
    al., 2014). m does not depend on x, so dL/dx = m dL/dy.
    """

    def __init__(self, rate: float) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"Dropout({rate}): expected a rate from 0 to below 1")
        self.rate = rate

    def build(self, input_shape: Shape) -> Shape:
        """The shape of the inputs."""
        self._shape = input_shape
        return input_shape

    def draw(self, batch: int, generator: np.random.Generator) -> None:
        """Draw the mask m of a training step, for the largest batch."""
        self._drawn = self.buffer("mask", (batch, *self._shape))
        draw_mask(self.rate, generator, self._drawn)

    def forward(self, inputs: Array, training: bool) -> Array:
        """m x, or x."""
        self._mask = self._drawn[: len(inputs)] if training else None
        if self._mask is None:
            return inputs
        return np.multiply(inputs, self._mask, out=self.buffer("outputs", inputs.shape))

    def backward(self, delta: Array) -> Array:
        """m delta, or delta."""
        if self._mask is None:
            return delta
        return np.multiply(delta, self._mask, out=self.buffer("below", delta.shape))
