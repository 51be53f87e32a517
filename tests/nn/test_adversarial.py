"""Adversarial training: the gradient to the inputs, and where it moves them."""

import numpy as np
import pytest

from harness.nn import adversarial
from harness.nn.losses import cross_entropy, softmax_cross_entropy_gradient
from harness.nn.network import Network


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
    """A short way, where the loss is nearly straight; each example against 200 directions."""
    case, radius = Case(), 1e-3
    start, before = case.inputs.copy(), case.losses()
    adversarial.move(case.inputs, case.gradient(), radius)
    np.testing.assert_allclose(np.linalg.norm(case.inputs - start, axis=1), radius)
    risen = case.losses() - before
    assert (risen > 0).all()
    directions = np.random.default_rng(5).normal(size=(200, *start.shape))
    for each in directions / np.linalg.norm(directions, axis=2, keepdims=True):
        case.inputs[:] = start + radius * each
        assert (case.losses() - before <= risen * 1.01).all()


def test_a_zero_gradient_moves_nothing() -> None:
    inputs = np.ones((2, 3), np.float32)
    adversarial.move(inputs, np.array([[0, 0, 0], [0, 3, 4]], np.float32), 2.0)
    np.testing.assert_allclose(inputs, [[1, 1, 1], [1, 1 + 1.2, 1 + 1.6]], rtol=1e-6)


@pytest.mark.parametrize("size", [1e-38, 1e-23, 1e-12, 1e12, 1e30])
def test_the_radius_holds_for_gradients_of_any_size(size: float) -> None:
    gradient = np.random.default_rng(2).normal(size=(5, 700)).astype(np.float32) * np.float32(size)
    inputs = np.zeros((5, 700), np.float32)
    adversarial.move(inputs, gradient, 1.5)
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
    adversarial.move(inputs, uphill, 0.5)
    np.testing.assert_allclose(inputs, [[1.5], [2.5]])
