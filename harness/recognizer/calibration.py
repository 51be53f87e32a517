"""Calibration: of all answers given with probability 0.9, nine in ten should be right.

A network's probabilities are often too sure, or, trained with smoothed labels, not sure enough. One
number, the temperature T, mends most of it: p = softmax(z / T), with T chosen on the validation
images by maximum likelihood (Guo et al., On Calibration of Modern Neural Networks, 2017). The
answer itself never changes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15
LEAST = 1e-30  # probabilities that float32 has rounded to nothing
STEPS = 60
GOLDEN = (5**0.5 - 1) / 2
Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Calibration:
    """A fitted temperature, and the expected calibration error (a fraction) without and with it.

    Both errors are of the `images` that the temperature was fitted on.
    """

    temperature: float
    error_before: float
    error: float
    images: int


def fit(probabilities: Probabilities, labels: NDArray[np.uint8]) -> Calibration:
    """Fit the temperature on class probabilities (n, C) and the true labels (n,)."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), LEAST))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        right = scaled[np.arange(len(labels)), labels]
        return float((np.log(np.exp(scaled).sum(axis=1)) - right).mean())

    # Convex in 1 / T, so it has one minimum in T as well: golden-section search from 1/20 to 20.
    low, high = -3.0, 3.0
    for _ in range(STEPS):
        width = GOLDEN * (high - low)
        if loss(high - width) < loss(low + width):
            high = low + width
        else:
            low = high - width
    temperature = float(np.exp((low + high) / 2))
    return Calibration(
        temperature,
        expected_error(probabilities, labels),
        expected_error(tempered(probabilities, temperature), labels),
        len(labels),
    )


def tempered(probabilities: Probabilities, temperature: float) -> Probabilities:
    """softmax(z / T) from softmax(z), (n, C)."""
    logits = np.log(np.maximum(probabilities, LEAST)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits.astype(np.float32)


def expected_error(probabilities: Probabilities, labels: NDArray[np.uint8]) -> float:
    """The expected calibration error, a fraction: |share right - mean confidence| over bins.

    The bins are 15 equal intervals of the confidence, weighted by how many answers they hold.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))
