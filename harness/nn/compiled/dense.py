"""The dense arithmetic of the compiled epoch: activation, loss, output layer and update.

It computes the same as `activations.py`, `losses.py` and `network.py` with plain SGD, one example
at a time. H hidden units, C classes.
"""

import math
from typing import Any

import numba
import numpy as np

F = np.float32
# Sums may be reordered and contracted. NaN and infinity are kept, because they show divergence.
COMPILED: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "arcp", "nsz", "afn"},
    "error_model": "numpy",
    "cache": True,
    "no_cfunc_wrapper": True,  # no second copy for callers in C; there are none
}
KERNEL = COMPILED | {"nogil": True}  # called from Python, possibly in several threads


@numba.njit(**COMPILED)
def activate(h: Any, code: Any, bits: Any, powers: Any) -> None:
    """Apply the activation to h (H,) in place, in loops that vectorize. bits, powers: scratch (H,).

    tanh(z) = 2 sigmoid(2z) - 1. exp(x) = 2^k exp(f) with f = x - k ln 2 and |f| <= ln 2 / 2;
    exp(f) is a polynomial (with the coefficients of Cephes' expf), and k is written into the
    exponent bits of 2^k.
    """
    n = h.size
    if code == 2:
        for j in range(n):
            h[j] = max(h[j], F(0))
        return
    factor = F(-1) if code == 0 else F(-2)
    for j in range(n):
        x = min(max(factor * h[j], F(-87)), F(87))
        k = np.floor(x * F(1.44269504) + F(0.5))
        f = x - k * F(0.693359375) + k * F(2.12194440e-4)
        p = F(1.9875691500e-4)
        p = p * f + F(1.3981999507e-3)
        p = p * f + F(8.3334519073e-3)
        p = p * f + F(4.1665795894e-2)
        p = p * f + F(1.6666665459e-1)
        p = p * f + F(5.0000001201e-1)
        h[j] = p * f * f + f + F(1)
        bits[j] = (np.int32(k) + np.int32(127)) << np.int32(23)
    if code == 0:
        for j in range(n):
            h[j] = F(1) / (F(1) + h[j] * powers[j])
    else:
        for j in range(n):
            h[j] = F(2) / (F(1) + h[j] * powers[j]) - F(1)


@numba.njit(**COMPILED)
def classify(h: Any, z: Any, w2: Any, b2: Any, label: Any, smoothing: Any) -> Any:
    """Write softmax minus target of one example into z (C,). Returns its loss and its class.

    h: (H,); w2: (C, H); b2: (C,). The target is smoothed.
    """
    classes = z.size
    for q in range(classes):
        total = F(0)
        row = w2[q]
        for j in range(h.size):
            total += h[j] * row[j]
        z[q] = total + b2[q]
    best = 0
    for q in range(1, classes):
        if z[q] > z[best]:
            best = q
    top, total, loss, even = z[best], F(0), F(0), smoothing / F(classes)
    for q in range(classes):
        z[q] -= top
        loss -= even * z[q]
    loss -= (F(1) - smoothing) * z[label]
    for q in range(classes):
        z[q] = math.exp(z[q])
        total += z[q]
    for q in range(classes):
        z[q] = z[q] / total - even
    z[label] -= F(1) - smoothing
    return loss + math.log(total), best


@numba.njit(**COMPILED)
def backward(z: Any, w2: Any, h: Any, delta: Any, rate: Any, code: int) -> None:
    """Back-propagate one example: z (C,) is scaled by `rate`, delta (H,) is overwritten.

    z: softmax minus target; w2: (C, H); h: (H,) the hidden activations.
    """
    for j in range(h.size):
        delta[j] = F(0)
    for q in range(z.size):
        z[q] *= rate
        for j in range(h.size):
            delta[j] += z[q] * w2[q, j]
    for j in range(h.size):
        x = h[j]
        slope = x * (F(1) - x) if code == 0 else F(1) - x * x
        if code == 2:
            slope = F(1) if x > 0 else F(0)
        delta[j] *= slope


@numba.njit(**COMPILED)
def update(
    z: Any, h: Any, deltas: Any, ink: Any, b: Any, w2: Any, b2: Any, b1: Any, c: Any, columns: Any
) -> None:
    """Add the step of a batch to all parameters but V; arguments as in `epoch._epoch`, z (B, C)."""
    for i in range(len(z)):
        for q in range(b2.size):
            b2[q] += z[i, q]
            for j in range(b1.size):
                w2[q, j] += z[i, q] * h[i, j]
        for j in range(b1.size):
            b1[j] += deltas[i, j]
            c[j] += b * deltas[i, j]
            columns[j] += ink[i] * deltas[i, j]
