"""Layers alone: derivatives, parameters, buffers; layers and blocks as a user writes them.

Covers: harness/nn/initialization.py
"""

import math
import re

import numpy as np
import pytest

from harness.nn import layers
from harness.nn.activations import ACTIVATIONS
from harness.nn.convolution import Flatten, Reshape
from harness.nn.layers import Activate, Chain, Dense, Dropout, Layer
from harness.nn.losses import CrossEntropy, SquaredError
from harness.nn.network import Network
from tests.nn.differences import check_network, moved


class Residual(Chain):
    """y = x + f(x), where f is a chain of layers: dL/dx = dL/dy + f'(x) dL/dy."""

    def forward(self, inputs, training):
        inside = super().forward(inputs, training)
        return np.add(inside, inputs, out=self.buffer("outputs", inputs.shape))

    def backward(self, delta):
        below = super().backward(delta)
        return np.add(below, delta, out=self.buffer("below", delta.shape))


class Branches(Layer):
    """y = f(x) + g(x), two chains that get the same delta."""

    def __init__(self, *chains):
        self.layers = chains

    def build(self, input_shape):
        first, second = (chain.build(input_shape) for chain in self.layers)
        assert first == second
        return first

    def forward(self, inputs, training):
        first, second = (chain.forward(inputs, training) for chain in self.layers)
        return np.add(first, second, out=self.buffer("outputs", first.shape))

    def backward(self, delta):
        first, second = (chain.backward(delta) for chain in self.layers)
        return np.add(first, second, out=self.buffer("below", first.shape))


def scale() -> Layer:
    """The example of the module's docstring."""
    assert layers.__doc__ is not None
    code = re.search(r"    class Scale.*?(?=\n\n\S)", layers.__doc__, re.DOTALL)
    assert code is not None
    names = {"Layer": Layer, "np": np}
    exec("\n".join(line[4:] for line in code[0].splitlines()), names)
    made: Layer = names["Scale"]()  # type: ignore[operator]
    return made


STACKS = {
    "dense": lambda: [Dense(4)],
    "activations": lambda: [
        layer for name in ACTIVATIONS for layer in (Dense(4), Activate(ACTIVATIONS[name]()))
    ],
    "activation twice": lambda: [Dense(4), *[Activate(ACTIVATIONS["tanh"]()) for _ in "12"]],
    "dropout": lambda: [Dropout(0.3), Dense(4), Dropout(0.5), Dense(4)],
    "reshape": lambda: [Reshape(3, 2), Flatten(), Dense(4)],
    "own layer": lambda: [scale(), Dense(4), scale()],
    "residual": lambda: [
        Residual(Dense(6), Activate(ACTIVATIONS["tanh"]()), Dense(6)),
        Dense(5), Residual(Activate(ACTIVATIONS["silu"]()), Dense(5)), Dense(4),
    ],
    "branches": lambda: [Branches(Chain(Dense(4)), Chain(Dense(4), scale())), Dense(4)],
    "nothing trained below": lambda: [Activate(ACTIVATIONS["tanh"]()), Chain(), Dense(4)],
}  # fmt: skip


class OnlyForward(Layer):
    """A layer that is not finished."""

    def forward(self, inputs, training):
        return inputs


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (Layer(), "Layer: expected a layer with forward(inputs, training)"),
        (OnlyForward(), "OnlyForward: expected a layer with backward(delta)"),
    ],
)
def test_what_a_layer_lacks_is_named(layer: Layer, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        Network([layer, Dense(2)], inputs=3)


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("training", [False, True])
def test_every_derivative_against_central_differences(name: str, training: bool) -> None:
    generator = np.random.default_rng(3)
    network = moved(Network.create(STACKS[name](), 6, generator, np.float64), generator)
    network.draw(7, generator)  # more than the batch, as for a last one
    inputs, targets = generator.normal(size=(5, 6)), generator.normal(size=(5, 4))
    check_network(network, inputs, targets, SquaredError(), training)


@pytest.mark.parametrize("name", STACKS)
def test_no_layer_changes_its_arguments(name: str) -> None:
    generator = np.random.default_rng(3)
    network = Network.create(STACKS[name](), 6, generator, np.float64)
    network.draw(5, generator)
    values = generator.normal(size=(5, 6))
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    for layer in network.layers:
        seen.append((values, values.copy()))
        values = layer.forward(values, True)
    values = generator.normal(size=(5, 4))
    for layer in reversed(network.layers):
        layer.delta = values
        seen.append((values, values.copy()))
        values = layer.backward(values)
    network.backward(seen[len(network.layers)][0]).into(np.empty_like(network.parameters.flat), 2.0)
    for array, copy in seen:
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize(("initialization", "variance"), [("glorot", 2 / 600), ("he", 2 / 400)])
def test_initial_weights(initialization: str, variance: float) -> None:
    layer = Dense(200, initialization=initialization)
    Network.create([layer], 400, np.random.default_rng(0))
    assert layer.weights.var() == pytest.approx(variance, rel=0.02)
    assert np.abs(layer.weights).max() <= math.sqrt(3 * variance) * (1 + 1e-6)
    assert not layer.bias.any()


def test_a_buffer_is_allocated_once() -> None:
    layer = Dense(3)
    layer.dtype = np.dtype(np.float32)
    first = layer.buffer("outputs", (8, 3))
    assert layer.buffer("outputs", (8, 3)) is first
    assert np.shares_memory(layer.buffer("outputs", (5, 3)), first)
    assert not np.shares_memory(layer.buffer("out", (8, 3)), first)
    larger = layer.buffer("outputs", (9, 3))
    assert np.shares_memory(layer.buffer("outputs", (5, 3)), larger)
    assert layer.buffer("outputs", (8, 3)).dtype == np.float32


def test_training_allocates_nothing_after_the_first_step() -> None:
    generator = np.random.default_rng(3)
    network = Network.create(STACKS["residual"](), 6, generator)
    x, delta = np.ones((5, 6), np.float32), np.ones((5, 4), np.float32)
    out = np.empty_like(network.parameters.flat)

    def arrays() -> list[int]:
        network.forward(x, True)
        network.backward(delta).into(out, -0.1)
        return sorted(
            array.ctypes.data
            for layer in layers.walk(network.layers)
            for array in layer._memory.values()
        )

    assert arrays() == arrays()


def test_dropout_does_nothing_in_evaluation() -> None:
    network = Network.create([Dropout(0.5), Dense(2)], 4, np.random.default_rng(1))
    x = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(network.layers[0].forward(x, False), x)


def test_a_zeroed_unit_gets_no_gradient() -> None:
    drop = Dropout(0.5)
    network = Network.create(
        [Dense(3), Activate(ACTIVATIONS["sigmoid"]()), drop, Dense(2)],
        4, np.random.default_rng(2), np.float64,
    )  # fmt: skip
    network.draw(1, np.random.default_rng(1))
    drop._drawn[:] = [[2.0, 0.0, 2.0]]
    network.forward(np.ones((1, 4)), training=True)
    flat = network.backward(np.array([[0.3, -0.3]])).into(np.empty_like(network.parameters.flat))
    (first, second) = network.by_layer(flat)
    assert not first["weights"][:, 1].any()
    assert first["bias"][1] == 0
    assert not second["weights"][1].any()
    assert first["weights"][:, [0, 2]].all()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Network([Reshape(3, 2), Dense(4)], 6), r"layer 2: Dense: .* found \(3, 2\)"),
        (lambda: Network([Reshape(3, 3)], 6), r"layer 1: Reshape\(3, 3\): expected 9 .* found 6"),
        (lambda: Dropout(1.0), r"Dropout\(1.0\): expected a rate from 0 to below 1"),
    ],
)
def test_what_does_not_fit_is_refused(made, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made()


def test_classification_through_a_block() -> None:
    generator = np.random.default_rng(3)
    network = moved(Network.create(STACKS["residual"](), 6, generator, np.float64), generator)
    targets = np.eye(4)[generator.integers(0, 4, 5)]
    check_network(network, generator.normal(size=(5, 6)), targets, CrossEntropy())
