"""A compiled epoch of plain SGD for one hidden layer that skips background pixels.

Four fifths of MNIST's pixels are background. With x = a u + b 1 (a the normalization's scale, b its
shift, u the pixel 0..255, zero for background) the first layer's two products split into a sparse
part over u and a rank-one part over the constant b. Writing W1 = V + 1 c^T, for one example of D
inputs:

    x W1         = a u V + a (sum u) c + b (1^T V) + b D c
    dW1 = x^T d  = a u^T d + b 1 d^T

The column sums 1^T V are updated with V. Of dW1, V takes the first term and c the second. So only
the rows of V under ink are read and written; at the end of the epoch V + 1 c^T is written back to
the network. The rest is the arithmetic of `network.py`, one example at a time; results differ from
it by float32 rounding only (`tests/nn/compiled/test_ink.py`).

Needs Numba (the extra `fast`): import this module only where it is installed. `supports.py` states
what it can train.
"""

import math
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from harness.nn.compiled.simd import LANES, WIDE, add_narrow, add_wide
from harness.nn.compiled.supports import ACTIVATION_CODES
from harness.nn.network import Network

F = np.float32
# Sums may be reordered and contracted. NaN and infinity keep their meaning: they show divergence.
COMPILED: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "arcp", "nsz", "afn"},
    "error_model": "numpy",
    "cache": True,
}


class Totals(NamedTuple):
    """Sums over the examples of an epoch, each measured before the step that it is part of."""

    loss: float
    wrong: int


def train_epoch(
    network: Network,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    rows: NDArray[np.uint32],
    lrs: NDArray[np.float32],
    *,
    batch: int,
    affine: tuple[float, float],
    smoothing: float,
) -> Totals:
    """Train on images[rows] in that order; changes the network's parameters in place.

    images: (N, D) uint8. labels: (N,). rows: (n,). lrs: one learning rate per step of `batch`
    examples. affine: scale and shift of the normalization. smoothing: of the labels, in [0, 1).
    """
    (w1, b1), (w2, b2) = network.parameters.layers
    scale, shift = F(affine[0]), F(affine[1])
    code = ACTIVATION_CODES[network.activation.name]
    # Transposed to (C, H): every inner loop then runs over hidden units, adjacent in memory.
    by_class = np.ascontiguousarray(w2.T)
    rank_one = np.zeros(w1.shape[1], np.float32)
    ink_part = _aligned(len(w1), w1.shape[1])
    ink_part[:, : w1.shape[1]] = w1
    size = min(batch, len(rows))
    scratch = _aligned(size, w1.shape[1]), _aligned(size, w1.shape[1])
    arguments = (np.asarray(images), labels, rows, batch, lrs, scale, shift, F(smoothing), code)
    loss, wrong = _epoch(*arguments, ink_part, b1, by_class, b2, rank_one, *scratch)
    np.add(ink_part[:, : w1.shape[1]], rank_one, out=w1)
    w2[:] = by_class.T
    return Totals(loss, wrong)


def _aligned(rows: int, columns: int) -> NDArray[np.float32]:
    """Zeros (rows, columns rounded up to LANES) of which no vector crosses a cache line.

    Measured: without this the sums over rows take up to twice as long.
    """
    columns = -(-columns // LANES) * LANES
    memory = np.zeros(rows * columns + LANES, np.float32)
    begin = -(memory.ctypes.data // memory.itemsize) % LANES
    return memory[begin : begin + rows * columns].reshape(rows, columns)


@numba.njit(**COMPILED)
def _list_ink(words: Any, image: Any, index: Any, value: Any, scale: Any) -> Any:
    """List the ink of one image without a branch per pixel. Returns its count and the sum of a u.

    image: (D,) uint8, and words: the same memory as uint64, without the last D % 8 pixels. Written:
    index and value (D + 1,), the positions of ink and a u.
    """
    n, total = 0, 0
    for w in range(words.size):
        if words[w] != 0:
            for p in range(8 * w, 8 * w + 8):
                u = image[p]
                index[n] = p
                value[n] = scale * F(u)
                n += u != 0
                total += u
    for p in range(8 * words.size, image.size):
        u = image[p]
        index[n] = p
        value[n] = scale * F(u)
        n += u != 0
        total += u
    return n, scale * F(total)


@numba.njit(**COMPILED)
def _activate(h: Any, code: Any, bits: Any, powers: Any) -> None:
    """Apply the activation to h (H,) in place, in loops that vectorize. bits, powers: scratch (H,).

    tanh(z) = 2 sigmoid(2z) - 1. exp(x) = 2^k exp(f) with f = x - k ln 2, so that |f| <= ln 2 / 2;
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
def _add_ink(out: Any, line: int, rows: Any, index: Any, value: Any, begin: int, end: int) -> None:
    """out[line] += sum over begin <= k < end of value[k] rows[index[k]]."""
    column = 0
    while column + WIDE <= out.shape[1]:
        add_wide(out, line, rows, index, value, begin, end, column)
        column += WIDE
    while column < out.shape[1]:
        add_narrow(out, line, rows, index, value, begin, end, column)
        column += LANES


@numba.njit(**COMPILED)
def _classify(h: Any, z: Any, w2: Any, b2: Any, label: Any, smoothing: Any) -> Any:
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
def _by_pixel(index: Any, value: Any, ends: Any, starts: Any, who: Any, much: Any) -> None:
    """Turn each example's list of ink into each pixel's list of examples (a counting sort).

    index, value: the lists of the examples, D + 1 apart; ends (B,): where each list ends. Written:
    who and much, the examples and values of all pixels; those of pixel p are at starts[p] up to
    starts[p + 1]; starts: (D + 2,).
    """
    room = index.size // ends.size
    starts[:] = 0
    for i in range(ends.size):
        for k in range(i * room, ends[i]):
            starts[index[k] + 2] += 1
    for p in range(2, starts.size):
        starts[p] += starts[p - 1]
    for i in range(ends.size):
        for k in range(i * room, ends[i]):
            p = index[k] + 1
            who[starts[p]] = i
            much[starts[p]] = value[k]
            starts[p] += 1


@numba.njit(**COMPILED)
def _backward(z: Any, w2: Any, h: Any, delta: Any, rate: Any, code: int) -> None:
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
def _update(
    z: Any, h: Any, deltas: Any, ink: Any, b: Any, w2: Any, b2: Any, b1: Any, c: Any, columns: Any
) -> None:
    """Add the step of a batch to all parameters but V; arguments as of `_epoch`, z (B, C)."""
    for i in range(len(z)):
        for q in range(b2.size):
            b2[q] += z[i, q]
            for j in range(b1.size):
                w2[q, j] += z[i, q] * h[i, j]
        for j in range(b1.size):
            b1[j] += deltas[i, j]
            c[j] += b * deltas[i, j]
            columns[j] += ink[i] * deltas[i, j]


@numba.njit(**COMPILED)
def _epoch(
    images: Any, labels: Any, rows: Any, batch: int, lrs: Any, a: Any, b: Any, smoothing: Any,
    code: int, v: Any, b1: Any, w2: Any, b2: Any, c: Any, h: Any, deltas: Any,
) -> Any:  # fmt: skip
    """Train one epoch. Returns the sum of the losses and the number of misclassified examples.

    The letters are those of docs/backpropagation.md, section 11. All floats are float32.

    images (N, D) uint8, labels (N,) uint8; rows (n,) uint32, the order of the examples; batch: B;
    lrs (steps,); a, b: scale and shift of the normalization; smoothing: of the labels; code: of the
    activation. Changed in place: v (D, W), the ink part of W1, and c (H,), the row that is added to
    all of its rows; b1 (H,); w2 (C, H), transposed; b2 (C,). Scratch: h and deltas (B, W). W is H
    padded to the length of vectors; the columns of v, h and deltas from H on are and stay zero.
    """
    d, width, size = len(v), b1.size, len(h)
    z, room = np.empty((size, b2.size), np.float32), d + 1
    index, value = np.empty(size * room, np.int32), np.empty(size * room, np.float32)
    ends, ink = np.empty(size, np.int64), np.empty(size, np.float32)
    starts = np.empty(d + 2, np.int32)
    who, much = np.empty(size * d, np.int32), np.empty(size * d, np.float32)
    bits = np.empty(width, np.int32)
    powers = bits.view(np.float32)
    columns, base = np.zeros(width, np.float32), np.empty(width, np.float32)
    for p in range(d):
        columns += v[p, :width]
    loss, wrong = 0.0, 0
    for step in range(lrs.size):
        begin = step * batch
        m = min(batch, rows.size - begin)
        rate = -lrs[step] / F(m)
        for j in range(width):
            base[j] = b1[j] + b * (columns[j] + F(d) * c[j])
        for i in range(m):
            row, first = rows[begin + i], i * room
            image, own = images[row], slice(first, first + room)
            words = image[: d - d % 8].view(np.uint64)
            count, ink[i] = _list_ink(words, image, index[own], value[own], a)
            ends[i] = first + count
            for j in range(width):
                h[i, j] = base[j] + ink[i] * c[j]
            _add_ink(h, i, v, index, value, first, ends[i])
            hidden = h[i, :width]
            _activate(hidden, code, bits, powers)
            cost, best = _classify(hidden, z[i], w2, b2, labels[row], smoothing)
            loss += cost
            wrong += best != labels[row]
            _backward(z[i], w2, hidden, deltas[i, :width], rate, code)
        _update(z[:m], h, deltas, ink, b, w2, b2, b1, c, columns)
        _by_pixel(index[: m * room], value, ends[:m], starts, who, much)
        for p in range(d):
            if starts[p] < starts[p + 1]:
                _add_ink(v, p, deltas, who, much, starts[p], starts[p + 1])
    return loss, wrong
