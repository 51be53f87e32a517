"""The multi-layer perceptron: its parameters, forward pass and back-propagation.

Notation: B examples in a batch, D inputs, H hidden units, C classes. Layer l computes

    z_l = a_{l-1} W_l + b_l        a_l = f(z_l)

The last layer has no f: its z are the logits. With delta_l = d loss / d z_l (B, outputs), the chain
rule gives (Nielsen, Neural Networks and Deep Learning, 2015, chapter 2, equations BP1 to BP4):

    delta_{l-1} = (delta_l W_l^T) * f'(z_{l-1})
    dW_l        = a_{l-1}^T delta_l
    db_l        = sum_B delta_l
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from harness.nn.activations import ACTIVATIONS

Array = NDArray[np.floating[Any]]


class Layer(NamedTuple):
    """One dense layer's weights (inputs, outputs) and bias (outputs,), views into a flat vector."""

    weights: Array
    bias: Array


class Parameters:
    """All weights and biases, as one flat vector and as layers that are views into it.

    Element-wise code (optimizers, averages) uses `flat` (P,); matrix products use `layers`.
    sizes = (D, H, ..., C).
    """

    def __init__(self, sizes: Sequence[int], flat: Array) -> None:
        self.sizes = tuple(sizes)
        self.flat = flat
        self.layers: list[Layer] = []
        begin = 0
        for inputs, outputs in zip(self.sizes, self.sizes[1:], strict=False):
            middle, end = begin + inputs * outputs, begin + (inputs + 1) * outputs
            self.layers.append(Layer(flat[begin:middle].reshape(inputs, outputs), flat[middle:end]))
            begin = end
        assert begin == len(flat), "the flat vector must hold exactly the layers"

    @classmethod
    def zeros(cls, sizes: Sequence[int], dtype: DTypeLike = np.float32) -> "Parameters":
        """All-zero parameters of the given layer sizes."""
        return cls(sizes, np.zeros(count_parameters(sizes), dtype))

    def zeros_like(self) -> "Parameters":
        """Zeros of the same layout, for an optimizer's state or a gradient."""
        return Parameters.zeros(self.sizes, self.flat.dtype)


def count_parameters(sizes: Sequence[int]) -> int:
    """Weights and biases of a perceptron: sum of (inputs + 1) outputs over the layers."""
    return sum((i + 1) * o for i, o in itertools.pairwise(sizes))


def glorot(inputs: int, outputs: int) -> float:
    """Half-width of the uniform distribution of Glorot and Bengio (2010): variance 2/(in + out)."""
    return math.sqrt(6 / (inputs + outputs))


def he(inputs: int, outputs: int) -> float:
    """Half-width of the uniform distribution of He et al. (2015): variance 2/in, for rectifiers."""
    return math.sqrt(6 / inputs)


INITIALIZATIONS: dict[str, Callable[[int, int], float]] = {"glorot": glorot, "he": he}


class Gradient(NamedTuple):
    """The gradient of one layer as its two factors, so that the optimizer chooses the output array.

    inputs (B, I) and deltas (B, O); dW = inputs^T deltas, db = the sum of deltas over the batch.
    """

    inputs: Array
    deltas: Array

    def write(self, out: Layer) -> None:
        """Write the gradient of weights (I, O) and bias (O,) into `out`."""
        np.matmul(self.inputs.T, self.deltas, out=out.weights)
        np.add.reduce(self.deltas, axis=0, out=out.bias)


@dataclass(frozen=True)
class Workspace:
    """Buffers for batches of up to `batch` examples, allocated once per run.

    hidden, deltas, scratch: one (batch, H) array per hidden layer; output: (batch, C);
    row: (batch, 1). With dropout, masks and dropped: one (batch, H) each per hidden layer, the
    factors drawn for this batch and the activations times them; without it, both are empty.
    """

    hidden: list[Array]
    deltas: list[Array]
    scratch: list[Array]
    output: Array
    row: Array
    masks: list[Array]
    dropped: list[Array]


class Network:
    """A multi-layer perceptron over `parameters`, with one activation in all hidden layers."""

    def __init__(self, parameters: Parameters, activation: str) -> None:
        self.parameters = parameters
        self.activation = ACTIVATIONS[activation]

    @classmethod
    def create(
        cls,
        sizes: Sequence[int],
        activation: str,
        generator: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> "Network":
        """A network with random weights and zero biases.

        sizes: (D, H, ..., C). The activation chooses the initialization of the hidden layers; the
        output layer has no activation and always uses Glorot's.
        """
        network = cls(Parameters.zeros(sizes, dtype), activation)
        hidden = INITIALIZATIONS[network.activation.initialization]
        layers = network.parameters.layers
        for number, layer in enumerate(layers, 1):
            half_width = (glorot if number == len(layers) else hidden)(*layer.weights.shape)
            layer.weights[:] = generator.uniform(-half_width, half_width, layer.weights.shape)
        return network

    @property
    def sizes(self) -> tuple[int, ...]:
        """(D, H, ..., C)."""
        return self.parameters.sizes

    def workspace(self, batch: int, *, dropout: bool = False) -> Workspace:
        """Buffers for batches of up to `batch` examples, with or without those of dropout."""
        dtype = self.parameters.flat.dtype
        *hidden, classes = self.sizes[1:]

        def one_per_layer() -> list[Array]:
            return [np.empty((batch, width), dtype) for width in hidden]

        return Workspace(
            hidden=one_per_layer(),
            deltas=one_per_layer(),
            scratch=one_per_layer(),
            output=np.empty((batch, classes), dtype),
            row=np.empty((batch, 1), dtype),
            masks=one_per_layer() if dropout else [],
            dropped=one_per_layer() if dropout else [],
        )

    def forward(self, inputs: Array, workspace: Workspace, logits: Array) -> None:
        """Logits of `inputs` (B, D) into `logits` (B, C), the activations into `workspace`."""
        b = len(inputs)
        *hidden_layers, last = self.parameters.layers
        below = inputs
        for number, layer in enumerate(hidden_layers):
            a = workspace.hidden[number][:b]
            np.matmul(below, layer.weights, out=a)
            np.add(a, layer.bias, out=a)
            self.activation.forward(a)
            if workspace.masks:
                below = workspace.dropped[number][:b]
                np.multiply(a, workspace.masks[number][:b], out=below)
            else:
                below = a
        np.matmul(below, last.weights, out=logits)
        np.add(logits, last.bias, out=logits)

    def backward(self, inputs: Array, deltas: Array, workspace: Workspace) -> list[Gradient]:
        """Back-propagate `deltas` = d loss / d logits (B, C) after `forward` on the same inputs.

        Returns one gradient per layer, first layer first; valid until the workspace is used again.
        """
        b = len(inputs)
        gradients = []
        above = deltas
        for number in range(len(self.parameters.layers) - 1, 0, -1):
            a = workspace.hidden[number - 1][:b]
            below = workspace.deltas[number - 1][:b]
            outputs = workspace.dropped[number - 1][:b] if workspace.masks else a
            gradients.append(Gradient(outputs, above))
            np.matmul(above, self.parameters.layers[number].weights.T, out=below)
            if workspace.masks:
                np.multiply(below, workspace.masks[number - 1][:b], out=below)
            self.activation.backward(a, below, workspace.scratch[number - 1][:b])
            above = below
        gradients.append(Gradient(inputs, above))
        return gradients[::-1]

    def input_gradient(self, gradients: list[Gradient], out: Array) -> None:
        """Write d loss / d inputs into `out` (B, D). gradients: what `backward` returned."""
        np.matmul(gradients[0].deltas, self.parameters.layers[0].weights.T, out=out)
