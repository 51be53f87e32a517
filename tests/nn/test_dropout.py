"""Dropout: what it does on average, and its gradient through the network."""

import numpy as np
import pytest

from harness.nn.dropout import draw_mask
from harness.nn.losses import cross_entropy, softmax_cross_entropy_gradient
from harness.nn.network import Network


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_expectation(rate: float, dtype: type) -> None:
    """Two values, 0 at probability `rate` and 1 / (1 - rate); on average 1."""
    mask = np.empty((400, 500), dtype)
    draw_mask(rate, np.random.default_rng(1), mask)
    assert set(np.unique(mask)) <= {dtype(0), dtype(1 / (1 - rate))}
    # Within four standard deviations of the mean; each number has variance rate / (1 - rate).
    assert mask.mean() == pytest.approx(1, abs=4 * (rate / (1 - rate) / mask.size) ** 0.5 + 1e-6)
    assert (mask == 0).mean() == pytest.approx(rate, abs=0.005)


def test_seeded() -> None:
    masks = np.empty((3, 50, 40), np.float32)
    for mask, seed in zip(masks, (1, 1, 2), strict=True):
        draw_mask(0.5, np.random.default_rng(seed), mask)
    np.testing.assert_array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2])


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_gradient_through_the_network_with_a_fixed_mask(activation: str) -> None:
    """Inputs and both hidden layers dropped by the same masks in every forward pass."""
    generator = np.random.default_rng(6)
    network = Network.create((6, 8, 7, 3), activation, generator, np.float64)
    network.parameters.flat += generator.normal(size=len(network.parameters.flat)) * 0.3
    workspace = network.workspace(5, dropout=True)
    for mask in workspace.masks:
        draw_mask(0.4, generator, mask)
    noise = np.empty((5, 6))
    draw_mask(0.2, generator, noise)
    inputs = generator.normal(size=(5, 6)) * noise
    targets = np.eye(3)[generator.integers(0, 3, 5)]
    logits, deltas = np.empty_like(targets), np.empty_like(targets)

    def loss() -> float:
        network.forward(inputs, workspace, logits)
        return float(cross_entropy(logits, targets).mean())

    loss()
    softmax_cross_entropy_gradient(logits, targets, deltas, np.empty((5, 1)))
    gradient = network.parameters.zeros_like()
    for factors, out in zip(
        network.backward(inputs, deltas, workspace), gradient.layers, strict=True
    ):
        factors.write(out)
    flat, numeric = network.parameters.flat, gradient.flat.copy()
    for position in range(len(flat)):
        ends = []
        for step in (1e-6, -2e-6):
            flat[position] += step
            ends.append(loss())
        flat[position] += 1e-6
        numeric[position] = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(gradient.flat, numeric, rtol=1e-5, atol=1e-8)
    assert (workspace.masks[0] == 0).any()
    assert (workspace.masks[1] == 0).any()


def test_a_silenced_unit_learns_nothing_from_the_example() -> None:
    network = Network.create((4, 3, 2), "sigmoid", np.random.default_rng(2), np.float64)
    workspace = network.workspace(1, dropout=True)
    workspace.masks[0][:] = [[2.0, 0.0, 2.0]]
    logits, inputs = np.empty((1, 2)), np.ones((1, 4))
    network.forward(inputs, workspace, logits)
    deltas = np.array([[0.3, -0.3]])
    first, second = network.parameters.zeros_like().layers
    for factors, out in zip(
        network.backward(inputs, deltas, workspace), (first, second), strict=True
    ):
        factors.write(out)
    assert not first.weights[:, 1].any()
    assert first.bias[1] == 0
    assert not second.weights[1].any()
    assert first.weights[:, [0, 2]].all()
