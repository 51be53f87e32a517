"""Regularization: dropout on average, the adversarial direction, norms, and their gradients."""

import math

import numpy as np
import pytest

from harness.nn.losses import cross_entropy, softmax_cross_entropy_gradient
from harness.nn.network import Network, Parameters
from harness.nn.regularization import Average, draw_mask, limit_norms, move_uphill


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


def test_a_zeroed_unit_gets_no_gradient() -> None:
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


class Case:
    """A network in float64 with inputs (7, 6) and targets (7, 3)."""

    def __init__(self, activation: str = "tanh") -> None:
        generator = np.random.default_rng(4)
        self.network = Network.create((6, 8, 7, 3), activation, generator, np.float64)
        self.network.parameters.flat += generator.normal(size=self.network.parameters.flat.size)
        self.inputs = generator.normal(size=(7, 6))
        self.targets = np.eye(3)[generator.integers(0, 3, 7)]
        self.workspace = self.network.workspace(7)
        self.logits = np.empty_like(self.targets)

    def losses(self) -> np.ndarray:
        self.network.forward(self.inputs, self.workspace, self.logits)
        return cross_entropy(self.logits, self.targets)

    def gradient(self) -> np.ndarray:
        self.losses()
        deltas, out = np.empty_like(self.targets), np.empty_like(self.inputs)
        softmax_cross_entropy_gradient(self.logits, self.targets, deltas, np.empty((7, 1)))
        self.network.input_gradient(self.network.backward(self.inputs, deltas, self.workspace), out)
        return out


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_the_gradient_to_the_inputs_against_central_differences(activation: str) -> None:
    case = Case(activation)
    gradient = case.gradient()
    for position in np.ndindex(*case.inputs.shape):
        before = case.inputs[position]
        case.inputs[position] = before + 1e-6
        above = case.losses().mean()
        case.inputs[position] = before - 1e-6
        below = case.losses().mean()
        case.inputs[position] = before
        assert gradient[position] == pytest.approx((above - below) / 2e-6, rel=1e-5, abs=1e-8)


def test_no_direction_of_the_same_length_raises_a_loss_more() -> None:
    """A small radius, where the loss is nearly linear; each example against 200 directions."""
    case, radius = Case(), 1e-3
    start, before = case.inputs.copy(), case.losses()
    move_uphill(case.inputs, case.gradient(), radius)
    np.testing.assert_allclose(np.linalg.norm(case.inputs - start, axis=1), radius)
    increase = case.losses() - before
    assert (increase > 0).all()
    directions = np.random.default_rng(5).normal(size=(200, *start.shape))
    for each in directions / np.linalg.norm(directions, axis=2, keepdims=True):
        case.inputs[:] = start + radius * each
        assert (case.losses() - before <= increase * 1.01).all()


def test_a_zero_gradient_moves_nothing() -> None:
    inputs = np.ones((2, 3), np.float32)
    move_uphill(inputs, np.array([[0, 0, 0], [0, 3, 4]], np.float32), 2.0)
    np.testing.assert_allclose(inputs, [[1, 1, 1], [1, 1 + 1.2, 1 + 1.6]], rtol=1e-6)


@pytest.mark.parametrize("size", [1e-38, 1e-23, 1e-12, 1e12, 1e30])
def test_the_radius_holds_for_gradients_of_any_size(size: float) -> None:
    gradient = np.random.default_rng(2).normal(size=(5, 700)).astype(np.float32) * np.float32(size)
    inputs = np.zeros((5, 700), np.float32)
    move_uphill(inputs, gradient, 1.5)
    np.testing.assert_allclose(np.linalg.norm(inputs, axis=1), 1.5, rtol=1e-5)


def test_a_linear_boundary_worked_by_hand() -> None:
    """z = (x, -x): the loss of class 0 rises toward smaller x, that of class 1 toward larger."""
    network = Network.create((1, 2), "relu", np.random.default_rng(1), np.float64)
    network.parameters.layers[0].weights[:] = [[1.0, -1.0]]
    inputs, targets = np.array([[2.0], [2.0]]), np.eye(2)
    workspace, logits, deltas = network.workspace(2), np.empty((2, 2)), np.empty((2, 2))
    network.forward(inputs, workspace, logits)
    softmax_cross_entropy_gradient(logits, targets, deltas, np.empty((2, 1)))
    uphill = np.empty_like(inputs)
    network.input_gradient(network.backward(inputs, deltas, workspace), uphill)
    move_uphill(inputs, uphill, 0.5)
    np.testing.assert_allclose(inputs, [[1.5], [2.5]])


def test_max_norm_limits_each_hidden_unit_and_nothing_else() -> None:
    at = Parameters.zeros((2, 3, 2), np.float64)
    hidden, last = at.layers
    hidden.weights[:] = [[3.0, 0.3, 0.0], [4.0, 0.4, 2.0]]  # columns of norm 5, 0.5 and 2
    hidden.bias[:] = 9
    last.weights[:] = 9
    limit_norms(at, 2.0, at.zeros_like())
    np.testing.assert_allclose(hidden.weights, [[1.2, 0.3, 0.0], [1.6, 0.4, 2.0]], rtol=1e-12)
    assert math.hypot(*hidden.weights[:, 0]) == pytest.approx(2)
    assert (hidden.bias == 9).all()
    assert (last.weights == 9).all()


def test_the_average_worked_by_hand() -> None:
    """Decays min(0.5, (1 + t) / (10 + t)): 0.1 at t = 0, then 2/11, and 0.5 from t = 8 on."""
    network = Network(Parameters((1, 1), np.array([1.0, 2.0])), "relu")
    average = Average(network, 0.5)
    after = [Parameters((1, 1), np.array(values)) for values in ([11.0, 2.0], [0.0, 0.0])]
    average.update(after[0], 0)
    np.testing.assert_allclose(average.network.parameters.flat, [10.0, 2.0], rtol=1e-12)
    average.update(after[1], 1)
    np.testing.assert_allclose(average.network.parameters.flat, [20 / 11, 4 / 11], rtol=1e-12)
    average.update(after[1], 8)
    np.testing.assert_allclose(average.network.parameters.flat, [10 / 11, 2 / 11], rtol=1e-12)
    np.testing.assert_array_equal(network.parameters.flat, [1, 2])
