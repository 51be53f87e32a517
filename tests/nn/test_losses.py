"""Softmax and cross-entropy: known values, stability, gradient."""

import math

import numpy as np
import pytest

from harness.nn.losses import cross_entropy, softmax, softmax_cross_entropy_gradient


def probabilities(logits: np.ndarray) -> np.ndarray:
    out = np.empty_like(logits)
    softmax(logits, out, np.empty((len(logits), 1), logits.dtype))
    return out


def test_a_case_worked_by_hand() -> None:
    logits = np.log([[1.0, 2.0, 5.0]])
    np.testing.assert_allclose(probabilities(logits), [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-12)
    loss = cross_entropy(logits, np.array([[0.0, 1, 0]]))
    assert loss[0] == pytest.approx(math.log(4))


def test_equal_logits_cost_log_classes() -> None:
    assert cross_entropy(np.zeros((1, 10)), np.eye(10)[:1])[0] == pytest.approx(math.log(10))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stable_at_a_thousand(dtype: type) -> None:
    logits = np.array([[1000, -1000, 0], [-1000, -1000, -1000]], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        p = probabilities(logits)
        loss = cross_entropy(logits, np.eye(3, dtype=dtype)[[1, 0]])
    np.testing.assert_allclose(p, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(loss, [2000, math.log(3)], rtol=1e-6)


def test_gradient_against_central_differences() -> None:
    generator = np.random.default_rng(5)
    logits = generator.normal(size=(7, 4)) * 3
    targets = generator.dirichlet(np.ones(4), 7)  # soft targets are a case of it
    gradient = np.empty_like(logits)
    softmax_cross_entropy_gradient(logits, targets, gradient, np.empty((7, 1)))
    numeric = np.empty_like(logits)
    for index in np.ndindex(*logits.shape):
        losses = []
        for step in (1e-6, -1e-6):
            moved = logits.copy()
            moved[index] += step
            losses.append(cross_entropy(moved, targets).mean())
        numeric[index] = (losses[0] - losses[1]) / 2e-6
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-9)
