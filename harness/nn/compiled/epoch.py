"""A compiled epoch of plain SGD for one hidden layer that skips background pixels.

Four fifths of MNIST's pixels are background. With x = a u + b 1 (a the normalization's scale, b its
shift, u the pixel 0..255, zero for background) the first layer's two products split into a sparse
part over u and a rank-one part over the constant b. Writing W1 = V + 1 c^T, for one example of D
inputs:

    x W1         = a u V + a (sum u) c + b (1^T V) + b D c
    dW1 = x^T d  = a u^T d + b 1 d^T

The column sums 1^T V are updated with V. The first term of dW1 is added to V and the second to c.
So only the rows of V under ink are read and written; at the end of the epoch V + 1 c^T is written
back to the network. The rest is the arithmetic of `network.py`, one example at a time; results
differ from it only by float32 rounding (`tests/nn/compiled/test_epoch.py`).

This module needs Numba (the extra `fast`): import it only if Numba is installed. `supports.py`
defines what it can train.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from harness.nn.compiled.dense import COMPILED, F, activate, backward, classify, update
from harness.nn.compiled.ink import add_rows, by_pixel, list_ink
from harness.nn.compiled.simd import LANES
from harness.nn.compiled.supports import ACTIVATION_CODES, structure
from harness.nn.network import Network
from harness.nn.parameters import aligned


class Totals(NamedTuple):
    """Sums over the examples of an epoch, each measured before the step that trains on it."""

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
    w1, b1, w2, b2 = network.parameters.arrays.values()
    scale, shift = F(affine[0]), F(affine[1])
    code = ACTIVATION_CODES[structure(network)["activation"]]
    # Transposed to (C, H), so every inner loop runs over hidden units, adjacent in memory.
    by_class = np.ascontiguousarray(w2.T)
    rank_one = np.zeros(w1.shape[1], np.float32)
    columns = -(-w1.shape[1] // LANES) * LANES
    ink_part = aligned((len(w1), columns), F)
    ink_part[:, : w1.shape[1]] = w1
    size = min(batch, len(rows))
    scratch = aligned((size, columns), F), aligned((size, columns), F)
    arguments = (np.asarray(images), labels, rows, batch, lrs, scale, shift, F(smoothing), code)
    loss, wrong = _epoch(*arguments, ink_part, b1, by_class, b2, rank_one, *scratch)
    np.add(ink_part[:, : w1.shape[1]], rank_one, out=w1)
    w2[:] = by_class.T
    return Totals(loss, wrong)


@numba.njit(**COMPILED)
def _epoch(
    images: Any, labels: Any, rows: Any, batch: int, lrs: Any, a: Any, b: Any, smoothing: Any,
    code: int, v: Any, b1: Any, w2: Any, b2: Any, c: Any, h: Any, deltas: Any,
) -> Any:  # fmt: skip
    """Train one epoch. Returns the sum of the losses and the number of misclassified examples.

    The symbols are those of docs/backpropagation.md, section 11. All floats are float32.

    images (N, D) uint8, labels (N,) uint8; rows (n,) uint32, the order of the examples; batch: B;
    lrs (steps,); a, b: scale and shift of the normalization; smoothing: of the labels; code: of the
    activation. Changed in place: v (D, W), the ink part of W1, and c (H,), a row to add to all of
    its rows; b1 (H,); w2 (C, H), transposed; b2 (C,). Scratch space: h and deltas (B, W). W is H
    padded to whole vectors; the columns of v, h and deltas from H on must be zero and stay zero.
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
            count, ink[i] = list_ink(words, image, index[own], value[own], a)
            ends[i] = first + count
            for j in range(width):
                h[i, j] = base[j] + ink[i] * c[j]
            add_rows(h, i, v, index, value, first, ends[i])
            hidden = h[i, :width]
            activate(hidden, code, bits, powers)
            cost, best = classify(hidden, z[i], w2, b2, labels[row], smoothing)
            loss += cost
            wrong += best != labels[row]
            backward(z[i], w2, hidden, deltas[i, :width], rate, code)
        update(z[:m], h, deltas, ink, b, w2, b2, b1, c, columns)
        by_pixel(index[: m * room], value, ends[:m], starts, who, much)
        for p in range(d):
            if starts[p] < starts[p + 1]:
                add_rows(v, p, deltas, who, much, starts[p], starts[p + 1])
    return loss, wrong
