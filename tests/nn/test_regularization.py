"""Regularization: dropout on average, the adversarial direction, norms, averages."""

import math

import numpy as np
import pytest

from harness.nn.activations import ACTIVATIONS
from harness.nn.losses import CrossEntropy
from harness.nn.models import mlp
from harness.nn.network import Network
from harness.nn.parameters import Parameters
from harness.nn.regularization import Average, NormLimit, draw_mask, move_uphill


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


@pytest.mark.parametrize("shape", [(6, 4), (5, 3), (2, 3)])
@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.2, 0.5, 1 - 2**-24])
def test_the_masks_of_random_floats(rate: float, shape: tuple[int, ...]) -> None:
    """Those of 0.1, also after an odd number of them: a resumed run goes on with them."""
    generator, floats = np.random.default_rng(3), np.random.default_rng(3)
    mask = np.empty(shape, np.float32)
    for _ in range(4):
        draw_mask(rate, generator, mask)
        expected = floats.random(shape, dtype=np.float32) >= np.float32(rate)
        np.testing.assert_array_equal(mask, expected * np.float32(1 / (1 - rate)))
    assert generator.random() == floats.random()


def test_seeded() -> None:
    masks = np.empty((3, 50, 40), np.float32)
    for mask, seed in zip(masks, (1, 1, 2), strict=True):
        draw_mask(0.5, np.random.default_rng(seed), mask)
    np.testing.assert_array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2])


class Case:
    """A network in float64 with inputs (7, 6) and targets (7, 3)."""

    def __init__(self) -> None:
        generator = np.random.default_rng(4)
        layers = mlp((6,), 3, width=(8, 7), activation=ACTIVATIONS["tanh"]())
        self.network = Network.create(layers, 6, generator, np.float64)
        self.network.parameters.flat += generator.normal(size=self.network.parameters.flat.size)
        self.inputs = generator.normal(size=(7, 6))
        self.targets = np.eye(3)[generator.integers(0, 3, 7)]

    def losses(self) -> np.ndarray:
        return CrossEntropy().value(self.network.forward(self.inputs), self.targets)

    def gradient(self) -> np.ndarray:
        return uphill(self.network, self.inputs, self.targets)


def uphill(network: Network, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    delta = np.empty_like(targets)
    CrossEntropy().gradient(network.forward(inputs), targets, delta)
    return network.input_gradient(delta)


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
    network = Network(mlp((1,), 2, width=()), 1, np.float64)
    network.parameters.weights[0][:] = [[1.0, -1.0]]
    inputs = np.array([[2.0], [2.0]])
    move_uphill(inputs, uphill(network, inputs, np.eye(2)), 0.5)
    np.testing.assert_allclose(inputs, [[1.5], [2.5]])


def test_max_norm_limits_each_hidden_unit_and_nothing_else() -> None:
    network = Network(mlp((2,), 2, width=3), 2, np.float64)
    hidden, bias, last, _ = network.parameters.arrays.values()
    hidden[:] = [[3.0, 0.3, 0.0], [4.0, 0.4, 2.0]]  # columns of norm 5, 0.5 and 2
    bias[:] = 9
    last[:] = 9
    NormLimit(network.hidden_weights, 2.0)()
    np.testing.assert_allclose(hidden, [[1.2, 0.3, 0.0], [1.6, 0.4, 2.0]], rtol=1e-12)
    assert math.hypot(*hidden[:, 0]) == pytest.approx(2)
    assert (bias == 9).all()
    assert (last == 9).all()


def test_max_norm_counts_the_last_axis_as_units() -> None:
    weights = np.ones((2, 2, 3))
    weights[..., 1] = 0.1
    NormLimit([weights], 1.0)()
    np.testing.assert_allclose(np.linalg.norm(weights.reshape(4, 3), axis=0), [1, 0.2, 1])


def test_the_average_worked_by_hand() -> None:
    """Decays min(0.5, (1 + t) / (10 + t)): 0.1 at t = 0, then 2/11, and 0.5 from t = 8 on."""

    def both(*values: float) -> Parameters:
        return Parameters({"weights": (1, 1), "bias": (1,)}, np.array(values))

    start = both(1.0, 2.0)
    average = Average(start, 0.5)
    average.update(both(11.0, 2.0), 0)
    np.testing.assert_allclose(average.flat, [10.0, 2.0], rtol=1e-12)
    average.update(both(0.0, 0.0), 1)
    np.testing.assert_allclose(average.flat, [20 / 11, 4 / 11], rtol=1e-12)
    average.update(both(0.0, 0.0), 8)
    np.testing.assert_allclose(average.flat, [10 / 11, 2 / 11], rtol=1e-12)
    np.testing.assert_array_equal(start.flat, [1, 2])
