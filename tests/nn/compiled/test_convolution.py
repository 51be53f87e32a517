"""Compiled convolutions and pooling against those in NumPy.

Covers: harness/nn/compiled/patches.py, harness/nn/compiled/pooling.py,
harness/nn/compiled/unpooled.py
"""

from collections.abc import Callable

import numpy as np
import pytest

from harness.nn.activations import ACTIVATIONS, LeakyReLU, ReLU, Sigmoid, Tanh
from harness.nn.convolution import Conv2D, Flatten, MaxPool2D, Reshape
from harness.nn.layers import Activate, Dense, Dropout, Layer
from harness.nn.network import Network

pytest.importorskip("numba", reason="python -m pip install numba")

BATCH, OUTPUTS = 5, 3
Stack = Callable[[], list[Layer]]


class OwnScale(Layer):
    """A layer that has no compiled twin: y = g x."""

    g: np.ndarray

    def build(self, input_shape):
        self.shapes = {"g": input_shape}
        return input_shape

    def initialize(self, generator):
        self.g[:] = generator.uniform(0.5, 1.5, self.g.shape)

    def forward(self, inputs, training):
        self.inputs = inputs
        return np.multiply(inputs, self.g, out=self.buffer("outputs", inputs.shape))

    def backward(self, delta):
        return np.multiply(delta, self.g, out=self.buffer("below", delta.shape))

    def gradient(self, delta, out):
        np.add.reduce(self.inputs * delta, axis=0, out=out["g"])


def kernels(kernel: int, padding: str) -> Stack:
    return lambda: [
        Conv2D(3, kernel, padding=padding), Activate(ReLU()), MaxPool2D(2),
        Conv2D(4, kernel, padding=padding), Activate(Tanh()),
    ]  # fmt: skip


def channels(first: int, second: int) -> Stack:
    return lambda: [Conv2D(first, 3), Activate(ReLU()), Conv2D(second, 2), MaxPool2D(2)]


STACKS: dict[str, Stack] = {
    **{
        f"kernel {kernel} {padding}": kernels(kernel, padding)
        for kernel in (1, 2, 3, 5)
        for padding in ("valid", "same")
        if kernel % 2 or padding == "valid"
    },
    **{f"{a} and {b} channels": channels(a, b) for a, b in ((1, 1), (8, 16), (9, 7), (17, 33))},
    **{
        name: lambda make=make: [Conv2D(2), Activate(make()), MaxPool2D(2), Conv2D(2, 2)]
        for name, make in ACTIVATIONS.items()
    },
    "pool of three": lambda: [Conv2D(8, 2), Activate(LeakyReLU()), MaxPool2D(3), Conv2D(2, 1)],
    "pool of one": lambda: [Conv2D(2), Activate(Sigmoid()), MaxPool2D(1), Conv2D(2, 2)],
    "no activation": lambda: [Conv2D(5, 2), Conv2D(4, 3, padding="same"), Conv2D(3, 2)],
    "pool, then activation": lambda: [Conv2D(5), MaxPool2D(2), Activate(Tanh()), Conv2D(2, 1)],
    "pool alone": lambda: [Conv2D(2), MaxPool2D(2), MaxPool2D(2)],
    "pool first": lambda: [MaxPool2D(2), Conv2D(3, 2)],
    "own layers": lambda: [Conv2D(3), OwnScale(), Activate(ReLU()), MaxPool2D(2), OwnScale(),
                           Conv2D(2, 2), OwnScale()],
    "dropout": lambda: [Conv2D(3), Dropout(0.0), MaxPool2D(2), Conv2D(2, 2), Dropout(0.0)],
}  # fmt: skip


def made(stack: Stack, shape: tuple[int, int, int]) -> Network:
    """A network of random weights and biases."""
    generator = np.random.default_rng(1)
    layers = [Reshape(*shape), *stack(), Flatten(), Dense(OUTPUTS)]
    network = Network.create(layers, shape[0] * shape[1] * shape[2], generator)
    network.parameters.flat += generator.normal(0, 0.1, network.parameters.flat.shape)
    return network


def results(network: Network, inputs: np.ndarray, delta: np.ndarray) -> list[np.ndarray]:
    """Outputs, gradient, twice the gradient, and gradient of the inputs."""
    network.draw(BATCH, np.random.default_rng(0))
    outputs = network.forward(inputs, training=True).copy()
    gradient = network.backward(delta)
    flat, twice = np.empty_like(network.parameters.flat), np.empty_like(network.parameters.flat)
    gradient.into(flat)
    gradient.into(twice, 2.0)
    below = network.input_gradient(delta).copy()
    gradient.into(flat)  # again, after a backward pass of the first layer
    return [outputs, flat, twice, below]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", STACKS)
def test_equal_to_numpy_within_rounding(name: str, threads: int) -> None:
    """For images of odd sides; then for fewer and for more images than before."""
    from harness.nn.compiled.network import compiled
    from harness.nn.compiled.workers import Workers

    generator, shape = np.random.default_rng(2), (15, 14, 2)
    network = made(STACKS[name], shape)
    twin = compiled(network, None, BATCH, Workers(threads))
    for batch in (BATCH - 1, 1, BATCH):
        inputs = generator.normal(size=(batch, network.inputs)).astype(np.float32)
        delta = generator.normal(size=(batch, OUTPUTS)).astype(np.float32)
        expected, actual = results(network, inputs, delta), results(twin, inputs, delta)
        for one, other in zip(expected, actual, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize("with_convolution", [True, False])
def test_of_equal_values_the_first_one_gets_the_derivative(with_convolution: bool) -> None:
    from harness.nn.compiled.network import compiled
    from harness.nn.compiled.workers import Workers

    first = Conv2D(1, 1) if with_convolution else OwnScale()
    network = Network([Reshape(3, 4, 1), first, MaxPool2D(2), Flatten(), Dense(1)], 12)
    network.parameters.flat[:] = 1
    twin = compiled(network, None, BATCH, Workers(1))
    image = np.array([[1.0, 5, 2, 2], [5, 0, 2, 1], [9, 9, 9, 9]], np.float32).reshape(1, 12)
    twin.forward(image)
    below = twin.input_gradient(np.ones((1, 1), np.float32)).reshape(3, 4)
    np.testing.assert_array_equal(below, [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_the_same_bits_for_the_same_number_of_threads() -> None:
    """A sum over the batch is split by the threads, and by nothing else."""
    from harness.nn.compiled.network import compiled
    from harness.nn.compiled.workers import Workers

    generator = np.random.default_rng(3)
    network = made(STACKS["8 and 16 channels"], (15, 14, 2))
    inputs = generator.normal(size=(BATCH, network.inputs)).astype(np.float32)
    delta = generator.normal(size=(BATCH, OUTPUTS)).astype(np.float32)
    for threads in (1, 2, 3):
        runs = [
            results(compiled(network, None, BATCH, Workers(threads)), inputs, delta) for _ in "ab"
        ]
        for one, other in zip(*runs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_layers_of_a_convolution_are_one_kernel_where_they_can_be() -> None:
    from harness.nn.compiled import convolution, pooling, rows, unpooled
    from harness.nn.compiled.network import compiled
    from harness.nn.compiled.workers import Workers

    def kinds(name: str) -> list[type]:
        network = compiled(made(STACKS[name], (15, 14, 2)), None, 8, Workers(1))
        return [type(layer) for layer in network.layers[1:-2]]

    twin, pool, alone = convolution.Conv2D, pooling.MaxPool2D, unpooled.Unpooled
    assert kinds("relu") == [twin, alone]
    assert kinds("gelu") == [alone, rows.Rows, pool, alone]
    assert kinds("own layers")[:2] == [alone, OwnScale]
