"""The first dense layer over the ink of images: `layers.Dense` for inputs that are mostly 0.

With x = a u + b 1 (a the normalization's scale, b its shift, u the pixel, 0 for background)

    x W   = a u W + b (1^T W)                 over the ink of each example
    dW_p  = a sum_B u_bp delta_b + b sum_B delta_b        over the examples with ink at pixel p

so nothing is multiplied by background. z is computed in blocks of columns, and each block stays in
the cache for the whole batch. The gradient is computed for a few rows of W at a time, so the
optimizer can apply it while it is still in the cache (`update`).
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from harness.nn import layers
from harness.nn.compiled.dense import COMPILED, KERNEL, F
from harness.nn.compiled.elementwise import sum_rows
from harness.nn.compiled.ink import list_groups
from harness.nn.compiled.simd import (
    BLOCK,
    GROUP,
    LANES,
    add_group,
    add_group_narrow,
    add_row,
    spread_group,
    spread_group_narrow,
)
from harness.nn.compiled.workers import Kernel, Workers
from harness.nn.parameters import Shape, aligned

Array = NDArray[np.floating[Any]]
CHUNK = 2048  # weights whose gradient is computed and applied at a time


class InkArrays(NamedTuple):
    """What the kernels of the layer need besides its parameters, for the largest batch."""

    scale: Any
    shift: Any
    who: NDArray[np.int32]
    much: Array
    counts: NDArray[np.int32]
    active: NDArray[np.int32]
    every: NDArray[np.int32]
    ones: Array
    padded: Array
    sums: Array
    z: Array
    outputs: Array
    rest: Array
    columns: Array
    gradients: Array
    chunks: int


class InkDense(layers.Dense):
    """z = x W + bias for images u (B, D), uint8 or float32, with x = a u + b (scale a, shift b)."""

    def __init__(self, outputs: int, scale: float, shift: float, *, workers: Workers) -> None:
        super().__init__(outputs)
        self._scale, self._shift = F(scale), F(shift)
        self._workers = workers

    def build(self, input_shape: Shape) -> Shape:
        """(D,) -> (H,)."""
        (self._pixels,) = input_shape
        self._blocks, width = -(-self.outputs // BLOCK), -(-self.outputs // LANES) * LANES
        self._rest = aligned((1, width), F)  # b times the sum of delta
        self._sums = aligned((1, self._blocks * BLOCK), F)
        self._padded = aligned((self._blocks, GROUP, BLOCK), F)
        self._every = np.arange(self._pixels, dtype=np.int32), np.ones(self._pixels, F)
        rows = max(GROUP, CHUNK // width // GROUP * GROUP)
        self._chunks = -(-self._pixels // rows)
        self._gradients = aligned((self._workers.count, rows, width), F)
        self._counts = np.empty(-(-self._pixels // GROUP), np.int32)
        self._batch = 0
        return super().build(input_shape)

    def forward(self, inputs: NDArray[Any], training: bool) -> Array:
        """a u W + b (1^T W)."""
        count, pixels = inputs.shape
        self._allocate(count)
        groups = -(-pixels // 8)
        self._workers.run(
            groups, list_groups, inputs, self.words(inputs), self._scale, *self._lists, self._active
        )
        outputs = self.buffer("outputs", (count, self.outputs))
        z = self.buffer("z", (count, self._blocks * BLOCK)).reshape(-1, count, BLOCK)
        scratch = *self._every, self._padded, self._sums, z
        arguments = self.weights, self._shift, self.bias, outputs, *self._lists, *scratch
        self._workers.run(self._blocks, first_layer, *arguments)
        return outputs

    def words(self, inputs: NDArray[Any]) -> NDArray[np.uint64]:
        """The memory of images (B, D) as words of 8 bytes; empty unless D is a multiple of 8."""
        is_whole = inputs.shape[1] % 8 == 0
        return inputs.view(np.uint64) if is_whole else np.empty((len(inputs), 0), np.uint64)

    def arrays(self, batch: int) -> InkArrays:
        """The arguments of the kernels, for up to `batch` images."""
        self._allocate(batch)
        return InkArrays(
            self._scale, self._shift, *self._lists, self._active, *self._every, self._padded,
            self._sums, self.buffer("z", (batch, self._blocks * BLOCK)).reshape(-1),
            self.buffer("outputs", (batch, self.outputs)), self._rest,
            self.buffer("padded", (batch, self._rest.size)), self._gradients, self._chunks,
        )  # fmt: skip

    def gradient(self, delta: Array, out: dict[str, Array]) -> None:
        """x^T delta, and the sum of delta over the batch."""
        sum_rows(delta, out["bias"])
        self._run(_gradient, delta, out["weights"])

    def update(self, kernel: Kernel, *state: Any) -> None:
        """Apply an optimizer's step to the weights while computing their gradient.

        kernel: like `_gradient`, with `state` after the weights. state: two arrays like the
        weights, and anything else the step depends on.
        """
        self._run(kernel, self.delta, self.weights, *state)

    def _run(self, kernel: Kernel, delta: Array, *arrays: Any) -> None:
        shifted_sum(delta, self._shift, self._rest[0, : self.outputs])
        padded = delta
        if self._rest.size != self.outputs:
            padded = self.buffer("padded", (len(delta), self._rest.size))
            padded[:, : self.outputs] = delta
        arguments = *arrays, self._rest, padded, *self._lists, self._gradients
        self._workers.run(self._chunks, kernel, *arguments)

    def _allocate(self, count: int) -> None:
        """Allocate the lists of ink of `count` images."""
        if count > self._batch:
            self._batch, room = count, count * len(self._counts) + 1
            self._lists = np.empty(room, np.int32), np.empty(GROUP * room, F), self._counts
            self._active = np.empty((self._workers.count, count + 1), np.int32)


@numba.njit(**KERNEL)
def first_layer(
    weights: Any, shift: Any, bias: Any, out: Any, who: Any, much: Any, counts: Any, every: Any,
    ones: Any, padded: Any, sums: Any, scratch: Any, _: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Compute z in some blocks of columns. every, ones: for all pixels."""
    batch, columns = out.shape
    pixels = len(weights)
    for block in range(begin, end):
        column = block * BLOCK
        width = min(BLOCK, columns - column)
        z, few, base = scratch[block], padded[block], sums[0, column : column + BLOCK]
        for i in range(batch):
            for j in range(BLOCK):
                z[i, j] = F(0)
        for j in range(BLOCK):
            base[j] = F(0)
        if shift != 0:
            if width == BLOCK:
                add_row(sums, 0, sums, 0, weights, every, ones, 0, pixels, column)
            else:
                for p in range(pixels):
                    for j in range(width):
                        base[j] += weights[p, column + j]
            for j in range(width):
                base[j] *= shift
        for j in range(width):
            base[j] += bias[column + j]
        for p in range(0, pixels, GROUP):
            first = p // GROUP * batch
            last = first + counts[p // GROUP]
            if width == BLOCK:
                spread_group(z, 0, weights, p, column, who, much, first, last)
            elif first < last:
                for q in range(min(GROUP, pixels - p)):
                    for j in range(width):
                        few[q, j] = weights[p + q, column + j]
                for at in range(0, width, LANES):
                    spread_group_narrow(z, at, few, 0, at, who, much, first, last)
        for i in range(batch):
            for j in range(width):
                out[i, column + j] = z[i, j] + base[j]


@numba.njit(**COMPILED)
def gather(
    g: Any, rest: Any, deltas: Any, who: Any, much: Any, counts: Any, first: int, last: int
) -> None:
    """Write the gradient of the rows of weights from `first` to `last` into the first rows of g.

    `first` and the number of rows of g are multiples of GROUP. g, rest and deltas (B, W) have the
    same number of columns, a multiple of LANES.
    """
    batch, columns = deltas.shape
    for p in range(first, last, GROUP):
        begin = p // GROUP * batch
        end, column = begin + counts[p // GROUP], 0
        while column + BLOCK <= columns:
            add_group(g, p - first, rest, 0, deltas, who, much, begin, end, column)
            column += BLOCK
        while column < columns:
            add_group_narrow(g, p - first, rest, 0, deltas, who, much, begin, end, column)
            column += LANES


@numba.njit(**KERNEL)
def _gradient(
    out: Any, rest: Any, deltas: Any, who: Any, much: Any, counts: Any, scratch: Any,
    number: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Compute the gradient of the weights, for some chunks of rows."""
    g = scratch[number]
    rows = len(g)
    for chunk in range(begin, end):
        first, last = chunk * rows, min((chunk + 1) * rows, len(out))
        gather(g, rest, deltas, who, much, counts, first, last)
        for p in range(first, last):
            for j in range(out.shape[1]):
                out[p, j] = g[p - first, j]


@numba.njit(**KERNEL)
def shifted_sum(deltas: Any, shift: Any, out: Any) -> None:
    """Write `shift` times the sum of deltas (B, H) into `out` (H,)."""
    sum_rows(deltas, out)
    for j in range(out.size):
        out[j] *= shift
