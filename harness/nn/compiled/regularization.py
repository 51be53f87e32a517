"""Norm limit and average after a step, in one pass: twins of `NormLimit` and `Average`."""

import math
from typing import Any

import numba

from harness.nn import regularization
from harness.nn.compiled.dense import KERNEL, F
from harness.nn.parameters import Parameters


class NormLimit(regularization.NormLimit):
    """Scales the incoming weights of each unit down to a Euclidean norm of `max_norm`."""

    def __call__(self) -> None:
        """Apply the limit."""
        for matrix, norms in self._pairs:
            _limit(matrix, norms, F(self._max_norm))


class Average(regularization.Average):
    """The exponential moving average of parameters."""

    def update(self, parameters: Parameters, step: int) -> None:
        """Add the parameters after a step to the average. step: from 0, over the whole training."""
        decay = min(self.decay, (1 + step) / (10 + step))
        _average(self.flat, parameters.flat, F(1 - decay))


@numba.njit(**KERNEL)
def _limit(weights: Any, norms: Any, largest: Any) -> None:
    """Limit the norm of each column of weights (I, H). norms (H,): scratch space."""
    rows, columns = weights.shape
    for j in range(columns):
        norms[j] = F(0)
    for i in range(rows):
        for j in range(columns):
            norms[j] += weights[i, j] * weights[i, j]
    top = F(0)
    for j in range(columns):
        top = max(top, norms[j])
        norms[j] = largest / max(math.sqrt(norms[j]), largest)
    if top > largest * largest:
        for i in range(rows):
            for j in range(columns):
                weights[i, j] *= norms[j]


@numba.njit(**KERNEL)
def _average(average: Any, values: Any, share: Any) -> None:
    """average += share (values - average), for arrays of one dimension."""
    for j in range(values.size):
        average[j] += share * (values[j] - average[j])
