"""In-place operations between matrix products: biases, activations, masks, sums over the batch.

They are twins of code in `nn/activations.py` and `nn/layers.py`.
"""

from typing import Any

import numba
import numpy as np

from harness.nn.activations import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Tanh
from harness.nn.compiled import dense
from harness.nn.compiled.dense import COMPILED, F

CODES: dict[type, int] = {Sigmoid: 0, Tanh: 1, ReLU: 2, LeakyReLU: 3, GELU: 4, SiLU: 5}
GELU_C, GELU_K = F(GELU.c), F(GELU.k)


@numba.njit(**COMPILED)
def add_bias(rows: Any, bias: Any) -> None:
    """rows (n, H) += bias (H,)."""
    for i in range(len(rows)):
        for j in range(bias.size):
            rows[i, j] += bias[j]


@numba.njit(**COMPILED)
def sum_rows(rows: Any, out: Any) -> None:
    """Write the sum of `rows` (n, H) into `out` (H,)."""
    for j in range(out.size):
        out[j] = F(0)
    for i in range(len(rows)):
        for j in range(out.size):
            out[j] += rows[i, j]


@numba.njit(**COMPILED)
def activate(z: Any, code: int, slope: Any) -> None:
    """z (n, H) = f(z). code: a value of CODES up to 3. slope: that of LeakyReLU."""
    count, width = z.shape
    if code == 2:
        for i in range(count):
            for j in range(width):
                z[i, j] = max(z[i, j], F(0))
    elif code == 3:
        for i in range(count):
            for j in range(width):
                z[i, j] = max(z[i, j], slope * z[i, j])
    else:
        bits = np.empty(width, np.int32)
        powers = bits.view(np.float32)
        for i in range(count):
            dense.activate(z[i], code, bits, powers)


@numba.njit(**COMPILED)
def activate_with_slopes(z: Any, code: int, slopes: Any) -> None:
    """z (n, H) = f(z), and slopes (n, H) = f'(z). code: a value of CODES, 4 or 5."""
    count, width = z.shape
    bits = np.empty(width, np.int32)
    powers = bits.view(np.float32)
    clipped, f = np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(count):
        x, slope = z[i], slopes[i]
        if code == 4:
            for j in range(width):
                clipped[j] = max(min(x[j], F(10)), F(-10))
                f[j] = GELU_C * clipped[j] * (F(1) + GELU_K * clipped[j] * clipped[j])
            dense.activate(f, 1, bits, powers)  # tanh
            for j in range(width):
                twice = F(1) + f[j]
                u = GELU_C * clipped[j] * (F(1) + F(3) * GELU_K * clipped[j] * clipped[j])
                slope[j] = F(0.5) * twice * (F(1) + u * (F(1) - f[j]))
                x[j] *= F(0.5) * twice
        else:
            for j in range(width):
                f[j] = x[j]
            dense.activate(f, 0, bits, powers)  # sigmoid
            for j in range(width):
                a = max(x[j], F(-87)) * f[j]
                slope[j] = a + f[j] * (F(1) - a)
                x[j] = a


@numba.njit(**COMPILED)
def multiply(values: Any, factors: Any) -> None:
    """values *= factors, for arrays of one dimension."""
    for j in range(values.size):
        values[j] *= factors[j]


@numba.njit(**COMPILED)
def multiply_slope(delta: Any, a: Any, code: int, slope: Any) -> None:
    """delta *= f'(z) with a = f(z), for arrays of one dimension."""
    if code == 0:
        for j in range(a.size):
            delta[j] *= a[j] * (F(1) - a[j])
    elif code == 1:
        for j in range(a.size):
            delta[j] *= F(1) - a[j] * a[j]
    else:
        for j in range(a.size):
            delta[j] = delta[j] if a[j] > 0 else slope * delta[j]


@numba.njit(**COMPILED)
def mask(values: Any, bits: Any, limit: int, factor: Any) -> None:
    """values *= factor where the bits are at least `limit`, and 0 elsewhere; one dimension."""
    least = np.uint32(limit)
    for j in range(values.size):
        values[j] = values[j] * factor if bits[j] >= least else F(0)
