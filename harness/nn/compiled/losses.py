"""The gradients of the losses in one pass: twins of `nn/losses.py`."""

import math
from typing import Any

import numba

from harness.nn import losses
from harness.nn.compiled.dense import KERNEL, F


class CrossEntropy(losses.CrossEntropy):
    """The cross-entropy of softmax."""

    code = 0

    def gradient(self, outputs: losses.Array, targets: losses.Array, out: losses.Array) -> None:
        """(p - t) / B."""
        fill_gradient(self.code, outputs, targets, out, len(outputs))


class SquaredError(losses.SquaredError):
    """The mean squared error."""

    code = 1

    def gradient(self, outputs: losses.Array, targets: losses.Array, out: losses.Array) -> None:
        """2 (z - t) / (B C)."""
        fill_gradient(self.code, outputs, targets, out, len(outputs))


TWINS: dict[type, type] = {
    losses.CrossEntropy: CrossEntropy,
    losses.SquaredError: SquaredError,
}


@numba.njit(**KERNEL)
def fill_gradient(code: int, outputs: Any, targets: Any, out: Any, batch: int) -> None:
    """Write the gradient for outputs z (n, C) and targets t (n, C), n of B examples, into `out`.

    code: the code of the loss's twin. batch: B.
    """
    count, classes = outputs.shape
    share = F(1) / F(batch)
    if code == 1:
        factor = F(2) / F(batch * classes)
        for i in range(count):
            for c in range(classes):
                out[i, c] = (outputs[i, c] - targets[i, c]) * factor
        return
    for i in range(count):
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
