"""Optimizers: known minima, their published formulas, steps worked by hand, restored state."""

from collections.abc import Callable

import numpy as np
import pytest

from harness.nn.optimizers import OPTIMIZERS, Adam, Momentum, Optimizer
from harness.nn.parameters import Parameters

Function = Callable[[np.ndarray], np.ndarray]


def parameters(*values: float) -> Parameters:
    """One layer of one input: its n weights are the first half of `values`, its biases the rest."""
    half = len(values) // 2
    return Parameters({"weights": (1, half), "bias": (half,)}, np.array(values, np.float64))


class Given:
    """A gradient whose values are known."""

    def __init__(self, flat: np.ndarray) -> None:
        self.flat = flat

    def into(self, out: np.ndarray, factor: float = 1.0) -> np.ndarray:
        return np.multiply(self.flat, factor, out=out)


def gradient(weights: np.ndarray, bias: np.ndarray) -> Given:
    return Given(np.concatenate([weights, bias]))


def steps(optimizer: Optimizer, at: Parameters, slope: Function, lr: float, count: int) -> None:
    for _ in range(count):
        g = slope(at.flat)
        half = len(g) // 2
        optimizer.step(gradient(g[:half], g[half:]), lr)


def quadratic(w: np.ndarray) -> np.ndarray:
    """The gradient of the sum of (w - 1)^2 / 2 with curvatures 1, 2, 5 and 10; its minimum is 1."""
    return np.array([1.0, 2, 5, 10]) * (w - 1)


def rosenbrock(w: np.ndarray) -> np.ndarray:
    """The gradient of (1 - x)^2 + 100 (y - x^2)^2; its minimum is (1, 1), in a curved valley."""
    x, y = w
    return np.array([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)])


@pytest.mark.parametrize(
    ("name", "options", "problem", "lr", "count"),
    [
        ("sgd", {}, quadratic, 0.1, 200),
        ("momentum", {"nesterov": False}, quadratic, 0.02, 400),
        ("momentum", {"nesterov": True}, quadratic, 0.02, 400),
        ("adam", {}, quadratic, 0.05, 1500),
        ("adamw", {}, quadratic, 0.05, 1500),
        ("sgd", {}, rosenbrock, 0.001, 30_000),
        ("momentum", {"nesterov": False}, rosenbrock, 0.0005, 6000),
        ("momentum", {"nesterov": True}, rosenbrock, 0.0005, 6000),
        ("adam", {}, rosenbrock, 0.02, 5000),
        ("adamw", {}, rosenbrock, 0.02, 5000),
    ],
)
def test_known_minima(name: str, options: dict, problem: Function, lr: float, count: int) -> None:
    start = (-1.2, 1.0) if problem is rosenbrock else (4.0, -3.0, 2.0, 0.0)
    at = parameters(*start)
    steps(OPTIMIZERS[name](at, **options), at, problem, lr, count)
    np.testing.assert_allclose(at.flat, 1, atol=1e-3)


def test_every_optimizer_is_in_the_table() -> None:
    assert set(OPTIMIZERS) == {"sgd", "momentum", "adam", "adamw"}


def test_sgd_by_hand() -> None:
    """w = 2, g = 3, decay 0.1, lr = 0.5: 2 - 0.5 (3 + 0.1 * 2) = 0.4; a bias never decays."""
    at = parameters(2.0, 2.0)
    OPTIMIZERS["sgd"](at, weight_decay=0.1).step(gradient(np.array([3.0]), np.array([3.0])), 0.5)
    np.testing.assert_allclose(at.flat, [0.4, 0.5], rtol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_momentum_against_its_formula(nesterov: bool, decay: float) -> None:
    """v = m v - lr (g + decay w); w += v, or Nesterov's w += m v - lr (g + decay w)."""
    generator = np.random.default_rng(3)
    at = parameters(1.0, -2.0, 0.5, 3.0)
    optimizer = Momentum(at, weight_decay=decay, momentum=0.8, nesterov=nesterov)
    w, v = at.flat.copy(), np.zeros(4)
    for lr in (0.1, 0.05, 0.2):
        g = generator.normal(size=4)
        pull = lr * (g + decay * w * [1, 1, 0, 0])
        v = 0.8 * v - pull
        w = w + (0.8 * v - pull if nesterov else v)
        optimizer.step(gradient(g[:2], g[2:]), lr)
        np.testing.assert_allclose(at.flat, w, rtol=1e-12)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_against_its_formula(decoupled: bool) -> None:
    """Algorithm 1 of Kingma and Ba; AdamW as Loshchilov and Hutter's algorithm 2."""
    generator = np.random.default_rng(4)
    at = parameters(1.0, -2.0, 0.5, 3.0)
    name = "adamw" if decoupled else "adam"
    optimizer = OPTIMIZERS[name](at, weight_decay=0.1, beta1=0.7, beta2=0.9, epsilon=1e-6)
    w, m, v = at.flat.copy(), np.zeros(4), np.zeros(4)
    for t in range(1, 6):
        g, lr = generator.normal(size=4), 0.1 / t
        decay = 0.1 * w * [1, 1, 0, 0]
        optimizer.step(gradient(g[:2], g[2:]), lr)
        g = g if decoupled else g + decay
        m, v = 0.7 * m + 0.3 * g, 0.9 * v + 0.1 * g * g
        w = w - lr * (m / (1 - 0.7**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-6)
        w = w - lr * decay if decoupled else w
        np.testing.assert_allclose(at.flat, w, rtol=1e-10)


def test_adams_first_step_is_the_learning_rate() -> None:
    """Corrected for starting at zero, m^ = g and v^ = g^2, so |step| = lr whatever the gradient.

    Uncorrected it would be (1 - beta1) / sqrt(1 - beta2) = 3.2 times as long.
    """
    at = parameters(0.0, 0.0, 0.0, 0.0)
    Adam(at).step(gradient(np.array([1e-3, -5.0]), np.array([200.0, -1.0])), 0.01)
    np.testing.assert_allclose(at.flat, [-0.01, 0.01, -0.01, 0.01], rtol=2e-5)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw"])
def test_decay_without_a_gradient_shrinks_weights_only(name: str) -> None:
    at = parameters(2.0, -1.0, 2.0, -1.0)
    nothing = gradient(np.zeros(2), np.zeros(2))
    options = {"nesterov": False} if name == "momentum" else {}
    OPTIMIZERS[name](at, weight_decay=0.5, **options).step(nothing, 0.1)
    np.testing.assert_allclose(at.flat, [2 * 0.95, -1 * 0.95, 2.0, -1.0], rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [("sgd", {}), ("momentum", {"nesterov": False}), ("momentum", {}), ("adam", {}), ("adamw", {})],
)
def test_a_restored_state_continues_with_the_same_bits(name: str, options: dict) -> None:
    start, lr = (4.0, -3.0, 2.0, 0.0), 0.05
    whole = parameters(*start)
    steps(OPTIMIZERS[name](whole, weight_decay=0.01, **options), whole, quadratic, lr, 9)

    first = parameters(*start)
    optimizer = OPTIMIZERS[name](first, weight_decay=0.01, **options)
    steps(optimizer, first, quadratic, lr, 4)
    saved = {key: array.copy() for key, array in optimizer.state.items()}
    second = parameters(*first.flat)
    another = OPTIMIZERS[name](second, weight_decay=0.01, **options)
    assert another.state.keys() == saved.keys()
    for key, array in saved.items():
        another.state[key][:] = array
    steps(another, second, quadratic, lr, 5)
    np.testing.assert_array_equal(second.flat, whole.flat)
