"""A network: layers one after the other, over one flat vector of parameters.

Each layer computes its outputs from those of the layer below. With delta = dL/d outputs of a layer,
the chain rule gives the delta of the layer below and the gradient of the layer's own parameters
(Nielsen, Neural Networks and Deep Learning, 2015, chapter 2). `layers.py` derives both for each
layer.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from harness.nn.layers import UNWRITTEN, Layer, is_built_in, walk
from harness.nn.parameters import Parameters, Shape

__all__ = ["Gradient", "Network"]

Array = NDArray[np.floating[Any]]

FEW = 3  # examples that new layers are tested with


class Network:
    """A network of `layers` for examples of `inputs` numbers D, with zero parameters.

    It owns its layers: make new ones for each network. Its layers reuse their buffers, so only one
    thread may use it at a time. Raises `ValueError` naming a layer whose shapes do not fit.

    outputs: the number K of outputs. parameters: those of all layers. trained: the layers that have
    parameters, including those inside blocks, in the order of the parameters.
    """

    def __init__(self, layers: Sequence[Layer], inputs: int, dtype: DTypeLike = np.float32) -> None:
        self.layers = tuple(layers)
        self.inputs = inputs
        self._own(np.dtype(dtype))
        self._shapes = self._build()
        (self.outputs,) = self._shapes[-1]
        named = {
            f"layer{number}.{name}": shape
            for number, layer in enumerate((each for each in walk(self.layers) if each.shapes), 1)
            for name, shape in layer.shapes.items()
        }
        self.parameters = Parameters.zeros(named, dtype)
        self._connect()
        if not all(map(_is_tested, walk(self.layers))):
            self._rehearse(self._shapes)

    def _connect(self) -> None:
        """Give the layers their parameters, and collect the layers that a training step calls."""
        self.trained = [layer for layer in walk(self.layers) if layer.shapes]
        self._random = [layer for layer in walk(self.layers) if type(layer).draw is not Layer.draw]
        for layer, arrays in zip(self.trained, self.by_layer(self.parameters.flat), strict=True):
            vars(layer).update(arrays)
        # From the last layer down to the first one with parameters: nothing below it is trained.
        lowest = next(
            n for n, each in enumerate(self.layers) if any(i.shapes for i in walk([each]))
        )
        self._downward = self.layers[lowest:][::-1]
        self._gradient = Gradient(self)

    def with_layers(self, layers: Sequence[Layer]) -> "Network":
        """A network that shares this one's parameters and computes the same with other `layers`.

        Each layer is one of this network's or a new one; a new one can replace several.
        """
        other = copy(self)
        other.layers = tuple(layers)
        after = dict(zip(self.layers, self._shapes, strict=True))
        shape: Shape = (self.inputs,)
        for layer in layers:
            if layer in after:
                shape = after[layer]
            else:
                for each in walk([layer]):
                    each.dtype = self.parameters.flat.dtype
                shape = layer.build(shape)
        other._connect()
        return other

    @classmethod
    def create(
        cls,
        layers: Sequence[Layer],
        inputs: int,
        generator: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> "Network":
        """A network with initial weights, drawn layer by layer."""
        network = cls(layers, inputs, dtype)
        network.initialize(generator)
        return network

    def initialize(self, generator: np.random.Generator) -> None:
        """Set the initial weights, drawn layer by layer."""
        for layer in walk(self.layers):
            layer.initialize(generator)
        self.check_in_place()

    def check_in_place(self) -> None:
        """Raise `ValueError` naming a parameter that a layer replaced with another array."""
        for layer, arrays in zip(self.trained, self.by_layer(self.parameters.flat), strict=True):
            for name, array in arrays.items():
                found = getattr(layer, name)
                if array.size and not np.may_share_memory(found, array):
                    raise ValueError(
                        f"{type(layer).__name__}: {name} was replaced by another array, which is "
                        f"neither trained nor saved; change it in place: self.{name}[:] = ..."
                    )

    @property
    def work(self) -> int:
        """The work of a forward pass of one example, in multiplications of dense layers."""
        of_layers = ((each.relative_work, each.shapes.values()) for each in self.trained)
        return sum(work * sum(map(math.prod, shapes)) for work, shapes in of_layers)

    @property
    def hidden_weights(self) -> list[Array]:
        """The arrays of two or more dimensions of all layers but the last, the output layer."""
        arrays = [getattr(layer, name) for layer in self.trained[:-1] for name in layer.shapes]
        return [array for array in arrays if array.ndim > 1]

    def by_layer(self, flat: Array) -> list[dict[str, Array]]:
        """`flat` (P,) as arrays by name, for each layer with parameters."""
        arrays = iter(Parameters(self.parameters.shapes, flat).arrays.values())
        return [{name: next(arrays) for name in layer.shapes} for layer in self.trained]

    def draw(self, batch: int, generator: np.random.Generator) -> None:
        """Draw the random numbers of a training step, such as dropout masks.

        batch: the largest number of examples of a step; a smaller last batch draws as many numbers.
        """
        for layer in self._random:
            layer.draw(batch, generator)

    def forward(self, inputs: Array, training: bool = False) -> Array:
        """The outputs (B, K) of `inputs` (B, D); valid until the next call."""
        for layer in self.layers:
            inputs = layer.forward(inputs, training)
        return inputs

    def predict(self, inputs: Array, batch: int = 1000) -> Array:
        """The outputs (N, K) of normalized `inputs` (N, ...), in a new array.

        They are the inputs of the loss: logits for cross-entropy, not probabilities. Raises
        `ValueError` for examples of another size.
        """
        inputs = inputs.reshape(len(inputs), -1)
        if inputs.shape[1] != self.inputs:
            raise ValueError(
                f"expected examples of {self.inputs} numbers, found {inputs.shape[1]} in each"
            )
        outputs = np.empty((len(inputs), self.outputs), self.parameters.flat.dtype)
        for begin in range(0, len(inputs), batch):
            rows = slice(begin, begin + batch)
            outputs[rows] = self.forward(inputs[rows])
        return outputs

    def backward(self, delta: Array) -> "Gradient":
        """Back-propagate delta = dL/d outputs (B, K) of the last `forward`.

        The gradient is valid until the network or `delta` changes.
        """
        *upper, lowest = self._downward
        for layer in upper:
            layer.delta = delta
            delta = layer.backward(delta)
        lowest.delta = delta
        lowest.backward_inside(delta)
        return self._gradient

    def input_gradient(self, delta: Array) -> Array:
        """dL/d inputs (B, D) from delta = dL/d outputs (B, K) of the last `forward`.

        The caller may change the result.
        """
        for layer in reversed(self.layers):
            layer.delta = delta
            delta = layer.backward(delta)
        return delta

    @contextmanager
    def holding(self, flat: Array) -> Iterator[None]:
        """Give the network the parameters `flat` (P,) within a `with` statement."""
        if flat is self.parameters.flat:
            yield
            return
        own = self.parameters.flat.copy()
        self.parameters.flat[:] = flat
        try:
            yield
        finally:
            self.parameters.flat[:] = own

    def _own(self, dtype: np.dtype[Any]) -> None:
        """Give each layer its dtype. Raises `ValueError` for a layer that is used twice."""
        for layer in walk(self.layers):
            if "dtype" in vars(layer):
                raise ValueError(
                    f"{type(layer).__name__}: expected a layer that is used once, found one that "
                    "is in a network already; make a new one"
                )
            layer.dtype = dtype

    def _build(self) -> list[Shape]:
        """Build the layers. Returns each layer's output shape for one example."""
        shapes: list[Shape] = []
        shape: Shape = (self.inputs,)
        for number, layer in enumerate(self.layers, 1):
            try:
                shape = layer.build(shape)
            except ValueError as error:
                raise ValueError(f"layer {number}: {error}") from error
            shapes.append(shape)
        if len(shape) != 1 or not any(layer.shapes for layer in walk(self.layers)):
            raise ValueError(
                "network: expected a layer with parameters, and outputs of one dimension, found "
                f"{', '.join(type(layer).__name__ for layer in self.layers)} with outputs {shape}"
            )
        return shapes

    def _rehearse(self, shapes: list[Shape]) -> None:
        """Test each layer on a few examples, forward and backward.

        shapes: of the outputs of each layer. Raises `ValueError` for a result that does not fit, or
        an argument that a layer changed.
        """
        dtype = self.parameters.flat.dtype
        below = [(self.inputs,), *shapes[:-1]]
        with np.errstate(all="ignore"):
            for number, layer in enumerate(self.layers):
                values = _ramp(below[number], dtype)
                outputs = layer.forward(values, False)
                _check(outputs, number, layer, "forward", shapes[number], dtype)
                _check_kept(values, number, layer, "forward")
            for number in range(len(self.layers) - 1, -1, -1):
                layer = self.layers[number]
                layer.delta = _ramp(shapes[number], dtype)
                deltas = layer.backward(layer.delta)
                _check(deltas, number, layer, "backward", below[number], dtype)
                _check_kept(layer.delta, number, layer, "backward")
            flat = np.full_like(self.parameters.flat, UNWRITTEN)
            Gradient(self).into(flat)
        for layer, arrays in zip(self.trained, self.by_layer(flat), strict=True):
            for name, array in arrays.items():
                if array.size and (array == dtype.type(UNWRITTEN)).all():
                    raise ValueError(
                        f"{type(layer).__name__}.gradient: expected it to write to "
                        f"out[{name!r}], which is unchanged"
                    )


def _is_tested(layer: Layer) -> bool:
    """Whether a layer and its activation are built in, and so covered by the package's tests."""
    activation = getattr(layer, "activation", layer)
    return is_built_in(layer) and is_built_in(activation) and type(layer) is not Layer


def _check(
    found: Any, number: int, layer: Layer, method: str, shape: Shape, dtype: np.dtype[Any]
) -> None:
    """Raise `ValueError` unless a layer's method returned (FEW, *shape) of `dtype`."""
    expected = f"an array {(FEW, *shape)} of {dtype}"
    if not isinstance(found, np.ndarray):
        what = type(found).__name__
    elif found.shape != (FEW, *shape) or found.dtype != dtype:
        what = f"{found.shape} of {found.dtype}"
    else:
        return
    name = type(layer).__name__
    raise ValueError(f"layer {number + 1}: expected {name}.{method} to return {expected}, "
                     f"found {what}")  # fmt: skip


def _check_kept(values: Array, number: int, layer: Layer, method: str) -> None:
    """Raise `ValueError` if a layer's method changed its argument, a `_ramp`."""
    if not np.array_equal(values, _ramp(values.shape[1:], values.dtype)):
        raise ValueError(
            f"layer {number + 1}: {type(layer).__name__}.{method} must not modify its argument; "
            "modify a copy"
        )


def _ramp(shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Numbers from 0 to 1, (FEW, *shape)."""
    return np.linspace(0, 1, FEW * math.prod(shape)).astype(dtype).reshape(FEW, *shape)


class Gradient:
    """The gradient of a loss with respect to the parameters, not yet written anywhere.

    The optimizer chooses where to write it and by which factor to scale it, which avoids a copy.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._out: Array | None = None
        self._pairs: list[tuple[Layer, dict[str, Array]]] = []

    def into(self, out: Array, factor: float = 1.0) -> Array:
        """Write `factor` times the gradient into `out` (P,) and return it.

        The factor scales the deltas (B, O) of a layer, which are smaller than its weights (I, O).
        """
        if out is not self._out:
            self._out = out
            self._pairs = list(zip(self._network.trained, self._network.by_layer(out), strict=True))
        for layer, arrays in self._pairs:
            delta = layer.delta
            if factor != 1:
                delta = np.multiply(delta, factor, out=layer.buffer("scaled", delta.shape))
            layer.gradient(delta, arrays)
        return out
