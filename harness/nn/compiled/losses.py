"""The gradient of the cross-entropy in one pass: the twin of `losses.CrossEntropy`."""

import math
from typing import Any

import numba

from harness.nn import losses
from harness.nn.compiled.dense import KERNEL, F


class CrossEntropy(losses.CrossEntropy):
    """The cross-entropy of softmax."""

    def gradient(self, outputs: losses.Array, targets: losses.Array, out: losses.Array) -> None:
        """(p - t) / B."""
        fill_gradient(outputs, targets, out)


@numba.njit(**KERNEL)
def fill_gradient(outputs: Any, targets: Any, out: Any) -> None:
    """(softmax(z) - t) / B of outputs z (B, C) and targets t (B, C)."""
    batch, classes = outputs.shape
    share = F(1) / F(batch)
    for i in range(batch):
        top = outputs[i, 0]
        for c in range(1, classes):
            top = max(top, outputs[i, c])
        total = F(0)
        for c in range(classes):
            e = math.exp(outputs[i, c] - top)
            out[i, c] = e
            total += e
        factor = F(1) / total
        for c in range(classes):
            out[i, c] = (out[i, c] * factor - targets[i, c]) * share
