"""Compiled max-pooling, for pooling layers that are not part of a compiled convolution."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from harness.nn import convolution
from harness.nn.compiled.dense import KERNEL

Array = NDArray[np.floating[Any]]


class MaxPool2D(convolution.MaxPool2D):
    """The twin of `convolution.MaxPool2D`."""

    def forward(self, inputs: Array, training: bool) -> Array:
        """The maximum of each window."""
        self._inputs = np.ascontiguousarray(inputs)
        self._outputs = self.buffer("outputs", (len(inputs), *self._pooled))
        _largest(self._inputs, self._outputs, self.size)
        return self._outputs

    def backward(self, delta: Array) -> Array:
        """delta at the first maximum of each window."""
        below = self.buffer("below", self._inputs.shape)
        _to_largest(self._inputs, self._outputs, np.ascontiguousarray(delta), below, self.size)
        return below


@numba.njit(**KERNEL)
def _largest(images: Any, out: Any, s: int) -> None:
    """Write the maximum of each window of s x s pixels."""
    batch, rows, columns, channels = out.shape
    for b in range(batch):
        for p in range(rows):
            for q in range(columns):
                top = out[b, p, q]
                for c in range(channels):
                    top[c] = images[b, p * s, q * s, c]
                for i in range(s):
                    for j in range(s):
                        for c in range(channels):
                            top[c] = max(top[c], images[b, p * s + i, q * s + j, c])


@numba.njit(**KERNEL)
def _to_largest(images: Any, tops: Any, delta: Any, out: Any, s: int) -> None:
    """Write delta to the first pixel of each window that equals its maximum, 0 elsewhere."""
    batch, rows, columns, channels = delta.shape
    for b in range(batch):
        out[b] = 0
        for p in range(rows):
            for q in range(columns):
                for c in range(channels):
                    number = 0
                    top = tops[b, p, q, c]
                    while number < s * s - 1 and (
                        images[b, p * s + number // s, q * s + number % s, c] != top
                    ):
                        number += 1
                    out[b, p * s + number // s, q * s + number % s, c] = delta[b, p, q, c]
