"""The temperature corrects overconfident and underconfident probabilities."""

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.nn.losses import tempered
from harness.recognizer import calibration


def calibrated(count: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Probabilities (n, 5) and labels drawn from them."""
    random = np.random.default_rng(3)
    logits = random.normal(0, 2, (count, 5))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (random.random((count, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 4)
    return p.astype(np.float32), labels.astype(np.uint8)


@pytest.mark.parametrize("distorted", [0.4, 1.0, 2.5])
def test_the_temperature_is_recovered(distorted: float) -> None:
    p, labels = calibrated(20_000)
    fitted = calibration.fit(tempered(p, 1 / distorted), labels)
    assert fitted.temperature == pytest.approx(distorted, rel=0.05)
    assert fitted.error < 0.012
    if distorted != 1:
        assert fitted.error_before > 5 * fitted.error


def test_the_expected_error_by_hand() -> None:
    # Bin of 0.6: two answers, one right, |0.5 - 0.6|; bin of 0.9: both right, |1 - 0.9|.
    p = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.1, 0.9]], np.float32)
    labels = np.array([0, 1, 0, 1], np.uint8)
    assert calibration.expected_error(p, labels) == pytest.approx(0.1)


def test_tempering_keeps_the_order_and_the_sum() -> None:
    p, _ = calibrated(50)
    cooler = tempered(p, 0.5)
    assert np.array_equal(cooler.argsort(axis=1), p.argsort(axis=1))
    assert cooler.sum(axis=1) == pytest.approx(np.ones(50), abs=1e-5)
    assert tempered(np.array([[1, 0]], np.float32), 2.0)[0, 0] > 0.999


def test_a_temperature_that_helps_nothing_is_1() -> None:
    """Of 20 answers in one bin, 18 are right, and their mean confidence is 0.9."""
    confidence = np.repeat([0.87, 0.93], 10)
    p = np.stack([confidence, 1 - confidence], axis=1).astype(np.float32)
    labels = np.zeros(20, np.uint8)
    labels[18:] = 1
    fitted = calibration.fit(p, labels)
    assert fitted.temperature == 1
    assert fitted.error == fitted.error_before == pytest.approx(0, abs=1e-6)
