"""Losses: known values, stability, predictions, gradients against central differences.

Covers: harness/nn/loss_checks.py
"""

import math
from typing import Any

import numpy as np
import pytest

from harness.nn.loss_checks import check, gradient_fault
from harness.nn.losses import LOSSES, CrossEntropy, SquaredError, softmax
from tests.nn.differences import assert_equal, central


def probabilities(logits: np.ndarray) -> np.ndarray:
    out = np.empty_like(logits)
    CrossEntropy().predict(logits, out)
    row = np.empty((len(logits), 1), logits.dtype)
    again = np.empty_like(logits)
    softmax(logits, again, row)
    np.testing.assert_array_equal(again, out)
    return out


def test_a_case_worked_by_hand() -> None:
    logits = np.log([[1.0, 2.0, 5.0]])
    np.testing.assert_allclose(probabilities(logits), [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-12)
    loss = CrossEntropy().value(logits, np.array([[0.0, 1, 0]]))
    assert loss[0] == pytest.approx(math.log(4))


def test_equal_logits_cost_log_classes() -> None:
    loss = CrossEntropy().value(np.zeros((1, 10)), np.eye(10)[:1])
    assert loss[0] == pytest.approx(math.log(10))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stable_at_a_thousand(dtype: type) -> None:
    logits = np.array([[1000, -1000, 0], [-1000, -1000, -1000]], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        p = probabilities(logits)
        loss = CrossEntropy().value(logits, np.eye(3, dtype=dtype)[[1, 0]])
    np.testing.assert_allclose(p, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(loss, [2000, math.log(3)], rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_against_central_differences(name: str) -> None:
    """With soft targets, of which smoothed ones are a case."""
    generator, loss = np.random.default_rng(5), LOSSES[name]()
    outputs = generator.normal(size=(7, 4)) * 3
    targets = generator.dirichlet(np.ones(4), 7)
    gradient = np.empty_like(outputs)
    loss.gradient(outputs, targets, gradient)
    assert_equal(gradient, central(lambda: float(loss.value(outputs, targets).mean()), outputs))


def test_squared_error_by_hand() -> None:
    """(1^2 + 3^2) / 2 = 5; its derivatives 2 * 1 / 2 and 2 * -3 / 2, over a batch of one."""
    outputs, targets, out = np.array([[3.0, 4.0]]), np.array([[2.0, 7.0]]), np.empty((1, 2))
    assert SquaredError().value(outputs, targets) == 5
    SquaredError().gradient(outputs, targets, out)
    np.testing.assert_array_equal(out, [[1.0, -3.0]])
    SquaredError().predict(outputs, out)
    np.testing.assert_array_equal(out, outputs)


def test_kinds() -> None:
    assert {name: LOSSES[name]().kind for name in LOSSES} == {
        "cross_entropy": "classification",
        "squared_error": "regression",
    }


def test_a_loss_equals_others_of_its_class_only() -> None:
    class Own(CrossEntropy):
        pass

    assert CrossEntropy() == CrossEntropy()
    assert CrossEntropy() != Own()
    assert Own() != CrossEntropy()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("outputs", [1, 2, 10])
def test_built_in_losses_have_the_promised_shapes(name: str, outputs: int) -> None:
    check(LOSSES[name](), outputs)


class Total(SquaredError):
    def value(self, outputs, targets):
        return super().value(outputs, targets).sum()


class NoGradient(SquaredError):
    def gradient(self, outputs, targets, out):
        return outputs - targets


class NoPrediction(SquaredError):
    def predict(self, outputs, out):
        return outputs


class PredictsNaN(SquaredError):
    def predict(self, outputs, out):
        out[:] = np.nan


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (PredictsNaN, r"PredictsNaN.predict\(outputs, out\): expected finite numbers, found nan"),
        (Total, r"Total.value: expected .* one for each example, found shape \(\)"),
        (
            NoGradient,
            r"NoGradient.gradient\(outputs, targets, out\): expected it to write to `out`",
        ),
        (NoPrediction, r"NoPrediction.predict\(outputs, out\): expected it to write to `out`"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(loss: type, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(loss(), 3)


class Hinge(CrossEntropy):
    """The sum of max(0, 1 + z_c - z_y) over the other classes (Weston and Watkins, 1999)."""

    def value(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        own = (outputs * targets).sum(axis=1, keepdims=True)
        return (np.maximum(0, 1 + outputs - own) * (1 - targets)).sum(axis=1)

    def gradient(self, outputs: np.ndarray, targets: np.ndarray, out: np.ndarray) -> None:
        own = (outputs * targets).sum(axis=1, keepdims=True)
        out[:] = (1 + outputs - own > 0) * (1 - targets)
        out -= targets * out.sum(axis=1, keepdims=True)
        out /= len(out)


class Huber(SquaredError):
    """Squared up to 1, then linear."""

    def value(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        d = abs(outputs - targets)
        return np.where(d < 1, d * d / 2, d - 0.5).mean(axis=1)

    def gradient(self, outputs: np.ndarray, targets: np.ndarray, out: np.ndarray) -> None:
        out[:] = np.clip(outputs - targets, -1, 1) / out.size


class Absolute(SquaredError):
    """The mean of |z - t|."""

    def value(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return abs(outputs - targets).mean(axis=1)

    def gradient(self, outputs: np.ndarray, targets: np.ndarray, out: np.ndarray) -> None:
        out[:] = np.sign(outputs - targets) / out.size


class Rounded(CrossEntropy):
    """In float32, whatever is given."""

    def value(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return super().value(outputs.astype(np.float32), targets.astype(np.float32))


@pytest.mark.parametrize("kind", [*LOSSES.values(), Hinge, Huber, Absolute, Rounded])
@pytest.mark.parametrize("outputs", [2, 10, 1000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_right_gradient_has_no_fault(kind: type, outputs: int, dtype: type) -> None:
    """Also of losses with kinks, of one-hot and of smoothed targets."""
    random = np.random.default_rng(6)
    for smoothing in (0, 0.1):
        for _ in range(10):
            labels = random.integers(0, outputs, 4)
            t = np.eye(outputs, dtype=dtype)[labels] * (1 - smoothing) + smoothing / outputs
            z = random.normal(size=(4, outputs)).astype(dtype)
            assert gradient_fault(kind(), z, t.astype(dtype)) is None


@pytest.mark.parametrize("kind", [*LOSSES.values(), Hinge, Huber, Rounded])
def test_a_wrong_gradient_has_a_fault(kind: type) -> None:
    z, t = np.random.default_rng(7).normal(size=(4, 5)), np.eye(5)[[0, 1, 2, 2]]

    def wrong(change: str) -> str | None:
        loss = kind()
        gradient = loss.gradient

        def changed(outputs: np.ndarray, targets: np.ndarray, out: np.ndarray) -> None:
            gradient(outputs, targets, out)
            exec(change, {"out": out, "np": np})

        loss.gradient = changed
        return gradient_fault(loss, z, t)

    assert str(wrong("out *= len(out)")).endswith("but 4 times it, the size of the batch")
    assert str(wrong("out *= -1")).endswith("but -1 times it")
    assert "central differences give" in str(wrong("out[:] = 0.1 - out[::-1]"))
    assert "0 times it" in str(wrong("out[:] = 0"))


@pytest.mark.parametrize("values", [["a", "b"], [None, None], np.zeros(2, complex)])
def test_a_loss_that_returns_no_numbers_is_named(values: Any) -> None:
    class Odd(CrossEntropy):
        def value(self, outputs: Any, targets: Any) -> Any:
            return values

    with pytest.raises(ValueError, match=r"Odd\.value: expected .* found "):
        check(Odd(), 3)
