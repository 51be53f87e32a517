"""Softmax with cross-entropy, computed stably, and its gradient.

With logits z (B, C), targets t (B, C) whose rows sum to 1, and p = softmax(z):

    loss of one example = -sum_c t_c log p_c = log(sum_c exp z_c) - sum_c t_c z_c
    gradient d loss / d z = p - t

(Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4.) Subtracting the row's
maximum first changes neither and prevents overflow.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def softmax(logits: Array, out: Array, row: Array) -> None:
    """Class probabilities of `logits` (B, C) into `out` (B, C); `row` (B, 1) is scratch space."""
    np.maximum.reduce(logits, axis=1, keepdims=True, out=row)
    np.subtract(logits, row, out=out)
    np.exp(out, out=out)
    np.add.reduce(out, axis=1, keepdims=True, out=row)
    np.divide(out, row, out=out)


def cross_entropy(logits: Array, targets: Array) -> Array:
    """The loss of each example, (B,), of `logits` (B, C) against `targets` (B, C), in nats."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses: Array = np.log(np.exp(shifted).sum(axis=1))
    losses -= np.einsum("bc,bc->b", targets, shifted)
    return losses


def softmax_cross_entropy_gradient(logits: Array, targets: Array, out: Array, row: Array) -> None:
    """d (mean loss of the batch) / d logits into `out`: (softmax(logits) - targets) / B, (B, C)."""
    softmax(logits, out, row)
    np.subtract(out, targets, out=out)
    np.multiply(out, 1 / len(out), out=out)
