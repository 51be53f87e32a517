"""The network: parameter counts, initial weights, and every derivative."""

import math

import numpy as np
import pytest

from harness.nn.losses import cross_entropy, softmax_cross_entropy_gradient
from harness.nn.network import Network, Parameters, count_parameters
from harness.nn.optimizers import SGD


def loss(network: Network, inputs: np.ndarray, targets: np.ndarray) -> float:
    logits = np.empty_like(targets)
    network.forward(inputs, network.workspace(len(inputs)), logits)
    return float(cross_entropy(logits, targets).mean())


def backpropagated(network: Network, inputs: np.ndarray, targets: np.ndarray) -> Parameters:
    workspace = network.workspace(len(inputs) + 3)  # larger than the batch, as for a last one
    logits, deltas = np.empty_like(targets), np.empty_like(targets)
    network.forward(inputs, workspace, logits)
    softmax_cross_entropy_gradient(logits, targets, deltas, np.empty((len(inputs), 1)))
    gradient = network.parameters.zeros_like()
    gradients = network.backward(inputs, deltas, workspace)
    for factors, out in zip(gradients, gradient.layers, strict=True):
        factors.write(out)
    return gradient


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("sizes", [(5, 3), (5, 4, 3), (5, 4, 6, 3), (5, 7, 4, 6, 3)])
def test_every_derivative_against_central_differences(
    activation: str, sizes: tuple[int, ...]
) -> None:
    generator = np.random.default_rng(11)
    network = Network.create(sizes, activation, generator, np.float64)
    network.parameters.flat += generator.normal(size=len(network.parameters.flat)) * 0.3
    inputs = generator.normal(size=(6, 5))
    targets = np.eye(3)[generator.integers(0, 3, 6)]
    gradient = backpropagated(network, inputs, targets).flat
    flat, step = network.parameters.flat, 1e-6
    for position in range(len(flat)):
        before = flat[position]
        flat[position] = before + step
        above = loss(network, inputs, targets)
        flat[position] = before - step
        below = loss(network, inputs, targets)
        flat[position] = before
        numeric = (above - below) / (2 * step)
        assert gradient[position] == pytest.approx(numeric, rel=1e-5, abs=1e-8), position


def test_a_step_worked_by_hand() -> None:
    """One example x = (1, 0) of class 0 through 2-2-2, all weights 0 but W2 = identity.

    Both hidden units are sigmoid(0) = 1/2, both logits 1/2, so p = (1/2, 1/2) and
    delta2 = (-1/2, 1/2). delta1 = delta2 W2^T * 1/2 * 1/2 = (-1/8, 1/8). With lr = 1:
    W2 -= (1/2, 1/2)^T delta2 = [[-1/4, 1/4], [-1/4, 1/4]];  W1 -= (1, 0)^T delta1.
    """
    parameters = Parameters.zeros((2, 2, 2), np.float64)
    first, second = parameters.layers
    second.weights[:] = np.eye(2)
    network = Network(parameters, "sigmoid")
    workspace = network.workspace(1)
    inputs, targets = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]])
    logits, deltas = np.empty((1, 2)), np.empty((1, 2))
    network.forward(inputs, workspace, logits)
    softmax_cross_entropy_gradient(logits, targets, deltas, np.empty((1, 1)))
    SGD(parameters).step(network.backward(inputs, deltas, workspace), lr=1.0)
    np.testing.assert_allclose(logits, [[0.5, 0.5]])
    np.testing.assert_allclose(second.weights, [[1.25, -0.25], [0.25, 0.75]])
    np.testing.assert_allclose(second.bias, [0.5, -0.5])
    np.testing.assert_allclose(first.weights, [[0.125, -0.125], [0, 0]])
    np.testing.assert_allclose(first.bias, [0.125, -0.125])


def test_parameter_counts() -> None:
    assert count_parameters((784, 128, 10)) == 784 * 128 + 128 + 128 * 10 + 10 == 101_770
    assert count_parameters((784, 512, 256, 10)) == 535_818
    parameters = Parameters.zeros((4, 3, 2))
    assert parameters.flat.shape == (23,)
    assert parameters.flat.dtype == np.float32
    parameters.flat[:] = 1
    assert all(
        (layer.weights == 1).all() and (layer.bias == 1).all() for layer in parameters.layers
    )
    with pytest.raises(AssertionError):
        Parameters((4, 3), np.zeros(16))


@pytest.mark.parametrize(
    ("activation", "variance"), [("sigmoid", 2 / 600), ("tanh", 2 / 600), ("relu", 2 / 400)]
)
def test_initial_weights(activation: str, variance: float) -> None:
    network = Network.create((400, 200, 10), activation, np.random.default_rng(0))
    hidden, last = network.parameters.layers
    assert hidden.weights.var() == pytest.approx(variance, rel=0.02)
    assert np.abs(hidden.weights).max() <= math.sqrt(3 * variance) * (1 + 1e-6)
    assert last.weights.var() == pytest.approx(2 / 210, rel=0.1)
    assert not hidden.bias.any()


def test_a_naive_epoch_agrees() -> None:
    """Batched float32 training against loops over single examples in float64."""
    generator = np.random.default_rng(2)
    inputs = generator.normal(size=(20, 6))
    labels = generator.integers(0, 3, 20)
    network = Network.create((6, 5, 3), "tanh", generator)
    (w1, b1), (w2, b2) = (
        (layer.weights.astype(float), layer.bias.astype(float))
        for layer in network.parameters.layers
    )
    workspace, optimizer = network.workspace(8), SGD(network.parameters)
    small, row = inputs.astype(np.float32), np.empty((8, 1), np.float32)
    for begin in range(0, 20, 8):  # the last batch has 4
        x, y = small[begin : begin + 8], labels[begin : begin + 8]
        logits, deltas = np.empty((2, len(x), 3), np.float32)
        network.forward(x, workspace, logits)
        softmax_cross_entropy_gradient(
            logits, np.eye(3, dtype=np.float32)[y], deltas, row[: len(x)]
        )
        optimizer.step(network.backward(x, deltas, workspace), 0.5)
        sums = [np.zeros_like(p) for p in (w1, b1, w2, b2)]
        for example, label in zip(inputs[begin : begin + 8], y, strict=True):
            h = np.tanh(example @ w1 + b1)
            z = h @ w2 + b2
            delta2 = np.exp(z) / np.exp(z).sum() - np.eye(3)[label]
            delta1 = (w2 @ delta2) * (1 - h**2)
            parts = (np.outer(example, delta1), delta1, np.outer(h, delta2), delta2)
            sums = [s + p for s, p in zip(sums, parts, strict=True)]
        w1, b1, w2, b2 = (p - 0.5 * s / len(x) for p, s in zip((w1, b1, w2, b2), sums, strict=True))
    expected = np.concatenate([p.ravel() for p in (w1, b1, w2, b2)])
    np.testing.assert_allclose(network.parameters.flat, expected, rtol=1e-4, atol=1e-6)
