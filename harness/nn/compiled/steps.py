"""Take all training steps of a block of examples in one kernel, without returning to Python.

A step of a small network is a few kernels of some microseconds each; calling them from Python takes
longer. If the steps of a perceptron use no random numbers and nothing follows them, one kernel here
calls the kernels of `ink_layer.py`, `rows.py`, `losses.py` and `optimizers.py`, with the same
results. Several threads run it at the same time and wait for each other where one needs the
results of another.
"""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from harness.nn.compiled import losses
from harness.nn.compiled.dense import COMPILED, KERNEL
from harness.nn.compiled.ink import list_groups
from harness.nn.compiled.ink_layer import InkDense, first_layer, shifted_sum
from harness.nn.compiled.losses import fill_gradient
from harness.nn.compiled.meeting import meet, share
from harness.nn.compiled.optimizers import Twin, step_bias, step_ink, step_rows
from harness.nn.compiled.rows import Rows, down, up, up_first
from harness.nn.compiled.workers import Workers
from harness.nn.losses import Loss
from harness.nn.network import Network
from harness.nn.optimizers import Optimizer

Array = NDArray[np.float32]


class Steps:
    """Trains a network that `can_take` accepts.

    batch: the largest number of examples of a step. workers: those of the network.
    """

    def __init__(
        self, network: Network, loss: Any, optimizer: Any, batch: int, workers: Workers
    ) -> None:
        self._workers = workers
        self._loss, self._optimizer, self._batch = loss.code, optimizer, batch
        layers: list[Any] = list(network.layers)
        self._ink = layers.pop(0) if len(layers) == 2 else None
        (self._rows,) = layers
        self._delta = np.empty((batch, network.outputs), np.float32)

    def __call__(self, inputs: Any, targets: Array, outputs: Array, lrs: Sequence[float]) -> None:
        """Take a step for each of `lrs`, on `batch` examples of a block.

        inputs: (n, D). targets: (n, K). outputs: (n, K), overwritten with the network's outputs.
        """
        optimizer = self._optimizer
        of_weights, of_bias = optimizer.coefficients(lrs)
        of_step = optimizer.kind, of_weights, of_bias, *optimizer.flat
        rest = self._loss, targets, outputs, self._delta, self._rows.arrays(), *of_step
        if self._ink is None:
            self._workers.run_together(_dense_steps, inputs, *rest)
            return
        words = self._ink.words(inputs)
        state = optimizer.over_ink(self._ink)
        ink = self._ink.arrays(self._batch)
        self._workers.run_together(_ink_steps, inputs, words, ink, *state, *rest)


def can_take(network: Network, loss: Loss, optimizer: Optimizer) -> bool:
    """Whether `Steps` can train a compiled network, if its layers all use the same workers."""
    *below, rows = network.layers
    return (
        isinstance(rows, Rows)
        and not rows.is_random
        and [type(layer) for layer in below] in ([], [InkDense])
        and type(loss) in losses.TWINS.values()
        and isinstance(optimizer, Twin)
    )


@numba.njit(inline="always", **COMPILED)
def _through(
    rows: Any, parameters: Any, inputs: Any, loss: int, targets: Any, outputs: Any, delta: Any,
    bottom: int, lowest: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Forward pass, loss gradient and backward pass, for the examples from `begin` to `end`.

    bottom: the first layer of the forward pass. lowest: as for `down`.
    """
    count, classes = outputs.shape
    arguments = rows.program, rows.numbers, parameters
    scratch = rows.arena, rows.bits, rows.address
    up(*arguments, inputs, *scratch, bottom, 1, 0, begin, end)
    top = rows.program[len(rows.program) - 1, 2]
    for i in range(begin, end):
        for c in range(classes):
            outputs[i, c] = rows.arena[top + i * classes + c]
    own = slice(begin, end)
    fill_gradient(loss, outputs[own], targets[own], delta[own], count)
    down(*arguments, delta.reshape(count * classes), *scratch, lowest, 0, begin, end)


@numba.njit(**KERNEL)
def _dense_steps(
    inputs: Any, loss: int, targets: Any, outputs: Any, deltas: Any, rows: Any, kind: int, ks: Any,
    ks_bias: Any, w: Any, s: Any, t: Any, meeting: Any, number: int, low: int, high: int,
) -> None:  # fmt: skip
    """Take the steps on normalized inputs (n, D) float32: the shares from `low` to `high`."""
    batch, classes = deltas.shape
    for step in range(len(ks)):
        begin = step * batch
        end = min(begin + batch, len(inputs))
        count, delta = end - begin, deltas[: end - begin]
        own = inputs[begin:end].reshape(count * inputs.shape[1])
        if rows.lines:
            for each in range(low, high):
                first, last = share(rows.lines, meeting, each)
                up_first(rows.program, w, own, rows.arena, rows.address, count, each, first, last)
            meet(meeting, number)
        for each in range(low, high):
            first, last = share(count, meeting, each)
            _through(
                rows, w, own, loss, targets[begin:end], outputs[begin:end], delta,
                int(rows.lines > 0), 1, first, last,
            )  # fmt: skip
        meet(meeting, number)
        for each in range(low, high):
            first, last = share(len(rows.tasks), meeting, each)
            step_rows(
                kind, ks[step], ks_bias[step], w, s, t, rows.program, rows.tasks, own,
                delta.reshape(count * classes), rows.arena, rows.scratch, rows.address, count, each,
                first, last,
            )  # fmt: skip
        meet(meeting, number)


@numba.njit(**KERNEL)
def _ink_steps(
    inputs: Any, words: Any, ink: Any, weights: Any, bias: Any, loss: int, targets: Any,
    outputs: Any, deltas: Any, rows: Any, kind: int, ks: Any, ks_bias: Any, w: Any, s: Any, t: Any,
    meeting: Any, number: int, low: int, high: int,
) -> None:  # fmt: skip
    """Take the steps on inputs (n, D) as they are in the data: the shares from `low` to `high`.

    weights: of the first layer, with the optimizer's state. bias: of the first layer, with the
    optimizer's state and the bias's gradient.
    """
    batch, classes = deltas.shape
    pixels, units = weights[0].shape
    lists = ink.who, ink.much, ink.counts
    for step in range(len(ks)):
        begin = step * batch
        end = min(begin + batch, len(inputs))
        count, delta, k = end - begin, deltas[: end - begin], ks[step]
        for each in range(low, high):
            first, last = share(-(-pixels // 8), meeting, each)
            list_groups(
                inputs[begin:end], words[begin:end], ink.scale, *lists, ink.active, each,
                first, last,
            )  # fmt: skip
        meet(meeting, number)
        hidden = ink.outputs[:count]
        blocks, block = ink.padded.shape[0], ink.padded.shape[2]
        z = ink.z[: blocks * count * block].reshape(blocks, count, block)
        for each in range(low, high):
            first, last = share(blocks, meeting, each)
            first_layer(
                weights[0], ink.shift, bias[0], hidden, *lists, ink.every, ink.ones, ink.padded,
                ink.sums, z, each, first, last,
            )  # fmt: skip
        meet(meeting, number)
        own = hidden.reshape(count * units)
        for each in range(low, high):
            first, last = share(count, meeting, each)
            _through(
                rows, w, own, loss, targets[begin:end], outputs[begin:end], delta, 0, 0, first, last
            )
        meet(meeting, number)
        below = rows.program[0, 6]
        of_hidden = rows.arena[below : below + count * units].reshape(count, units)
        columns = of_hidden
        if ink.rest.shape[1] != units:
            columns = ink.columns[:count]
        for each in range(low, high):
            if ink.rest.shape[1] != units:
                first, last = share(count, meeting, each)
                for i in range(first, last):
                    for j in range(units):
                        columns[i, j] = of_hidden[i, j]
            if each == 0:
                shifted_sum(of_hidden, ink.shift, ink.rest[0, :units])
                step_bias(kind, ks_bias[step], *bias, of_hidden)
            first, last = share(len(rows.tasks), meeting, each)
            step_rows(
                kind, k, ks_bias[step], w, s, t, rows.program, rows.tasks, own,
                delta.reshape(count * classes), rows.arena, rows.scratch, rows.address, count, each,
                first, last,
            )  # fmt: skip
        meet(meeting, number)
        for each in range(low, high):
            first, last = share(ink.chunks, meeting, each)
            step_ink(*weights, k, kind, ink.rest, columns, *lists, ink.gradients, each, first, last)
        meet(meeting, number)
