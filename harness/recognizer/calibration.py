"""Temperature scaling: of all answers given with probability 0.9, nine in ten should be correct.

The probabilities of a network are often overconfident, or, after training with smoothed labels,
underconfident. One number, the temperature T, corrects most of it: p = softmax(z / T), with T
chosen on the validation examples by maximum likelihood (Guo et al., On Calibration of Modern Neural
Networks, 2017). The most probable class does not change. With fewer than `ENOUGH` examples, the fit
would not generalize, and there is no calibration.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.nn.losses import LEAST, tempered

BINS = 15
ENOUGH = 200  # validation examples
STEPS = 60  # of the golden-section search
LOW, HIGH = -3.0, 3.0  # of the logarithm of the temperature: 1/20 to 20
GOLDEN = (5**0.5 - 1) / 2
Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Calibration:
    """A fitted temperature.

    error_before, error: the expected calibration error (a fraction) without and with it, on the
    examples that it was fitted on. images: their number.
    """

    temperature: float
    error_before: float
    error: float
    images: int


def fit(probabilities: Probabilities, labels: NDArray[np.uint8]) -> Calibration:
    """Fit the temperature to class probabilities (N, C) float32 and true labels (N,).

    It is 1 if the fitted one would not lower the expected calibration error of these examples.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), LEAST))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        of_label = scaled[np.arange(len(labels)), labels]
        return float((np.log(np.exp(scaled).sum(axis=1)) - of_label).mean())

    # The loss is convex in 1 / T, so it has one minimum in T: golden-section search.
    low, high = LOW, HIGH
    for _ in range(STEPS):
        width = GOLDEN * (high - low)
        if loss(high - width) < loss(low + width):
            high = low + width
        else:
            low = high - width
    temperature = float(np.exp((low + high) / 2))
    before = expected_error(probabilities, labels)
    after = expected_error(tempered(probabilities, temperature), labels)
    if after >= before:
        temperature, after = 1.0, before
    return Calibration(temperature, before, after, len(labels))


def check(temperature: Any) -> None:
    """Raise `ValueError` for a temperature that `fit` never gives."""
    low, high = math.exp(LOW), math.exp(HIGH)
    if type(temperature) not in (int, float) or not low <= temperature <= high:
        raise ValueError(
            f"temperature: expected a number from {low:.2f} to {high:.0f}, found "
            f"{str(temperature)[:80]!r}"
        )


def expected_error(probabilities: Probabilities, labels: NDArray[np.uint8]) -> float:
    """The expected calibration error (a fraction) of probabilities (N, C) and true labels (N,).

    The mean of |accuracy - mean confidence| over 15 equal bins of the confidence, weighted by the
    number of answers in each bin.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    is_correct = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, is_correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))
