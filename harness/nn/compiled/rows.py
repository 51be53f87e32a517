"""Compute several dense, activation and dropout layers in one compiled kernel per direction.

`Rows` is a group of such layers, described by a program of a few integers per layer. The kernels
that run programs are the same for all networks, so a new network needs no compilation. Each thread
computes some rows (examples of the batch) through all layers.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from harness.nn import layers
from harness.nn.compiled.blas import AS_IS, TURNED, product, sgemm
from harness.nn.compiled.dense import KERNEL, F
from harness.nn.compiled.elementwise import (
    CODES,
    activate,
    activate_with_slopes,
    add_bias,
    mask,
    multiply,
    multiply_slope,
)
from harness.nn.compiled.workers import Kernel, Workers
from harness.nn.parameters import CACHE_LINE, Shape, aligned
from harness.nn.regularization import draw_bits, threshold

Array = NDArray[np.floating[Any]]
DENSE, ACTIVATE, DROPOUT = range(3)
CHUNK = 1 << 17  # weights whose gradient is computed and applied at a time
LINE = CACHE_LINE // 4  # floats
SHARE = 1 << 15  # number of weights from which several threads are worth starting
UNITS = 64  # units per thread from which the threads divide a first layer by units
NOTHING = -1  # in a program: not in the arena, or no parameters


class Command(NamedTuple):
    """The description of a layer for the kernels: a row of a program.

    kind: DENSE, ACTIVATE or DROPOUT. inputs, outputs: where the arrays of the batch begin in the
    arena; inputs is NOTHING for the inputs of the group. width, units: numbers per example in
    inputs and outputs. above, below: where the deltas of outputs and inputs begin; above is NOTHING
    for the delta of the group. weights, bias: where they begin in the parameters; NOTHING unless
    the layer is dense. number: the code of the activation, or the limit of the mask's bits. kept:
    where the bits of the mask begin, or, in the arena, the derivatives of the activation; NOTHING
    if the derivatives follow from the outputs.
    """

    kind: int
    inputs: int
    outputs: int
    width: int
    units: int
    above: int
    below: int
    weights: int = NOTHING
    bias: int = NOTHING
    number: int = 0
    kept: int = NOTHING


class RowArrays(NamedTuple):
    """What the kernels of a group of layers need besides the parameters.

    lines: the number of cache lines of the first layer's units if threads divide its units; 0 if
    they divide the examples.
    """

    program: NDArray[np.int64]
    numbers: Array
    tasks: NDArray[np.int64]
    arena: Array
    bits: NDArray[np.uint32]
    scratch: Array
    address: int
    lines: int


def has_row_kernel(layer: layers.Layer) -> bool:
    """Whether a layer can be part of `Rows`."""
    if type(layer) is layers.Activate:
        return type(layer.activation) in CODES
    return type(layer) in (layers.Dense, layers.Dropout)


class Dense(layers.Dense):
    """A dense layer of `Rows`; `Rows` computes its outputs, and it computes its own gradient."""

    def show(self, inputs: Array, delta: Array) -> None:
        """Set the last inputs (B, I) and the delta (B, O) of the outputs."""
        self._inputs, self.delta = inputs, delta


class Rows(layers.Layer):
    """Consecutive layers of a network, computed together.

    sources: the layers that it replaces; their methods are not called. parameters: the network's
    flat vector (P,). batch: the largest batch size.
    """

    def __init__(
        self, sources: Sequence[layers.Layer], parameters: Array, batch: int, workers: Workers
    ) -> None:
        self._sources, self._parameters, self._batch = sources, parameters, batch
        self._workers, self._address = workers, sgemm()
        self._denses = [Dense(each.outputs) for each in sources if isinstance(each, layers.Dense)]
        self.layers = self._denses
        self._commands: list[Command] = []
        if workers.count > 1:  # compile now, not during the first epoch
            program, nothing = np.zeros((1, len(Command._fields)), np.int64), np.zeros(0, F)
            up_first(program, nothing, nothing, nothing, 0, 0, 0, 0, 0)

    def build(self, input_shape: Shape) -> Shape:
        """The shape after the last layer."""
        self._shapes, denses = [input_shape], iter(self._denses)
        for source in self._sources:
            shape = self._shapes[-1]
            is_dense = isinstance(source, layers.Dense)
            self._shapes.append(next(denses).build(shape) if is_dense else shape)
        return self._shapes[-1]

    @property
    def is_random(self) -> bool:
        """Whether one of the layers draws random numbers."""
        return any(isinstance(each, layers.Dropout) for each in self._sources)

    def arrays(self) -> RowArrays:
        """The arguments of `up`, `down` and the kernels of `update`."""
        self._prepare()
        return RowArrays(
            self._program, self._numbers, self._tasks, self._arena, self._bits, self._scratch,
            self._address, self._lines,
        )  # fmt: skip

    def draw(self, batch: int, generator: np.random.Generator) -> None:
        """Draw the bits of all masks of a training step, for the largest batch."""
        self._prepare()
        for command in self._commands:
            if command.kind == DROPOUT:
                bits = draw_bits((batch, command.width), generator).reshape(-1)
                self._bits[command.kept : command.kept + bits.size] = bits

    def forward(self, inputs: Array, training: bool) -> Array:
        """The outputs of the last layer."""
        self._prepare()
        self._inputs = inputs
        if self._lines:
            self._workers.run(
                self._lines, up_first, self._program, self._parameters, inputs.reshape(-1),
                self._arena, self._address, len(inputs),
            )  # fmt: skip
        self._run(up, inputs, int(self._lines > 0), int(training))
        return self._array(self._commands[-1].outputs, len(inputs), self._shapes[-1])

    def backward(self, delta: Array) -> Array:
        """dL/d inputs of the first layer."""
        self._back(delta, 0)
        return self._array(self._commands[0].below, len(delta), self._shapes[0])

    def backward_inside(self, delta: Array) -> None:
        """Like `backward`, but without dL/d inputs of the first layer."""
        self._back(delta, 1)

    def update(self, kernel: Kernel, *arguments: Any) -> None:
        """Compute the gradients and apply an optimizer's step, for some rows of weights at a time.

        kernel: called with `arguments`, the program, tasks, inputs, delta, arena, scratch space,
        address of sgemm and batch size, then the number and range of tasks from `Workers.run`. A
        task is the number of a command, the first row of its weights, and the row after the last.
        """
        if not self._denses:
            return
        arrays = self._inputs.reshape(-1), self.delta.reshape(-1), self._arena, self._scratch
        self._workers.run(
            len(self._tasks), kernel, *arguments, self._program, self._tasks, *arrays,
            self._address, len(self.delta),
        )  # fmt: skip

    def _back(self, delta: Array, lowest: int) -> None:
        self.delta = delta
        self._run(down, delta, lowest)
        for dense, command in self._dense_commands:
            inputs, above = self._inputs, delta
            if command.inputs != NOTHING:
                inputs = self._array(command.inputs, len(delta), (command.width,))
            if command.above != NOTHING:
                above = self._array(command.above, len(delta), (command.units,))
            dense.show(inputs, above)

    def _run(self, kernel: Kernel, values: Array, *what: int) -> None:
        self._workers.run(
            len(values), kernel, self._program, self._numbers, self._parameters, values.reshape(-1),
            self._arena, self._bits, self._address, *what,
        )  # fmt: skip

    def _array(self, begin: int, count: int, shape: Shape) -> Array:
        """Some examples in the arena, (count, *shape)."""
        try:
            return self._arrays[begin, count, shape]
        except KeyError:
            flat = self._arena[begin : begin + count * math.prod(shape)]
            self._arrays[begin, count, shape] = flat.reshape(count, *shape)
            return self._arrays[begin, count, shape]

    def _prepare(self) -> None:
        """Lay out the arena and write the program and the tasks, once."""
        if self._commands:
            return
        widths = [math.prod(shape) for shape in self._shapes]
        size, where, outputs = 0, NOTHING, []
        for number, (source, units) in enumerate(zip(self._sources, widths[1:], strict=True)):
            # An activation can overwrite the outputs of a dense layer or a mask, but not those of
            # another activation, which the backward pass needs.
            under = self._sources[number - 1] if number else None
            is_free = isinstance(under, layers.Dense | layers.Dropout)
            if not (isinstance(source, layers.Activate) and is_free):
                where, size = size, size + self._room(units)
            outputs.append(where)
        where, below = NOTHING, []
        for source, width in zip(self._sources[::-1], widths[-2::-1], strict=True):
            if isinstance(source, layers.Dense) or where == NOTHING:
                where, size = size, size + self._room(width)
            below.append(where)  # in place, except for a dense layer
        deltas = [*below[::-1], NOTHING]
        denses, bits = iter(self._denses), 0
        for number, source in enumerate(self._sources):
            width = widths[number]
            command = Command(
                0, [NOTHING, *outputs][number], outputs[number], width, widths[number + 1],
                deltas[number + 1], deltas[number],
            )  # fmt: skip
            if isinstance(source, layers.Dense):
                dense = next(denses)
                offsets = [self._offset(each) for each in (dense.weights, dense.bias)]
                command = command._replace(kind=DENSE, weights=offsets[0], bias=offsets[1])
            elif isinstance(source, layers.Activate):
                command = command._replace(kind=ACTIVATE, number=CODES[type(source.activation)])
                if source.activation.needs_input:
                    command = command._replace(kept=size)
                    size += self._room(width)
            elif isinstance(source, layers.Dropout):
                limit = threshold(source.rate)
                command = command._replace(kind=DROPOUT, number=limit, kept=bits)
                bits += self._batch * width
            self._commands.append(command)
        self._program = np.array(self._commands, np.int64)
        self._numbers = np.array([_number(source) for source in self._sources], F)
        self._arena, self._bits = aligned((size,), F), np.empty(bits, np.uint32)
        self._arrays: dict[tuple[int, int, Shape], Array] = {}
        commands = [command for command in self._commands if command.kind == DENSE]
        self._dense_commands = list(zip(self._denses, commands, strict=True))
        first, threads = self._commands[0], self._workers.count
        is_wide = threads > 1 and first.kind == DENSE and first.units >= UNITS * threads
        self._lines = -(-first.units // LINE) if is_wide else 0
        self._tasks, room = self._divided()
        self._scratch = aligned((self._workers.count, room), F)

    def _room(self, width: int) -> int:
        """The floats of an array of the batch, rounded up to whole cache lines."""
        return -(-self._batch * width // LINE) * LINE

    def _offset(self, array: Array) -> int:
        """Where an array begins in the parameters."""
        return (array.ctypes.data - self._parameters.ctypes.data) // array.itemsize

    def _divided(self) -> tuple[NDArray[np.int64], int]:
        """The tasks, and the largest number of weights in one."""
        threads, tasks, room = self._workers.count, [], 0
        for number, command in enumerate(self._commands):
            if command.kind == DENSE:
                size = command.width * command.units
                parts = -(-size // CHUNK)
                if size > SHARE:
                    parts = -(-parts // threads) * threads
                rows = -(-command.width // parts)
                for begin in range(0, command.width, rows):
                    tasks.append((number, begin, min(begin + rows, command.width)))
                room = max(room, rows * command.units)
        return np.array(tasks, np.int64).reshape(-1, 3), room


def _number(source: layers.Layer) -> float:
    """The slope of an activation or the factor of a mask."""
    if isinstance(source, layers.Dropout):
        return 1 / (1 - source.rate)
    return float(getattr(getattr(source, "activation", None), "slope", 0))


@numba.njit(**KERNEL)
def up_first(
    program: Any, parameters: Any, inputs: Any, arena: Any, address: int, count: int, _: int,
    begin: int, end: int,
) -> None:  # fmt: skip
    """Compute the outputs of a dense first layer for all `count` examples.

    begin, end: the cache lines of units to compute. BLAS copies the weights that it multiplies by,
    which would take too long if each thread needed all of them for a few examples.
    """
    _1, _2, target, width, units, _3, _4, weights, bias, _5, _6 = program[0]
    first, last = begin * LINE, min(end * LINE, units)
    product(
        address, AS_IS, AS_IS, count, last - first, width, F(1), inputs, 0, width,
        parameters, weights + first, units, F(0), arena, target + first, units,
    )  # fmt: skip
    for i in range(count):
        z = arena[target + i * units + first : target + i * units + last]
        for j in range(z.size):
            z[j] += parameters[bias + first + j]


@numba.njit(**KERNEL)
def up(
    program: Any, numbers: Any, parameters: Any, inputs: Any, arena: Any, bits: Any, address: int,
    lowest: int, training: int, _: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Compute the outputs of the layers from `lowest` on for the examples from `begin` to `end`."""
    count = end - begin
    for layer in range(lowest, len(program)):
        kind, source, target, width, units, _1, _2, weights, bias, number, kept = program[layer]
        x, at = (inputs, begin * width) if source == NOTHING else (arena, source + begin * width)
        to = target + begin * units
        y = arena[to : to + count * units]
        if kind == DENSE:
            product(
                address, AS_IS, AS_IS, count, units, width, F(1), x, at, width,
                parameters, weights, units, F(0), arena, to, units,
            )  # fmt: skip
            add_bias(y.reshape(count, units), parameters[bias : bias + units])
            continue
        if source != target:
            for j in range(y.size):  # the shape check of y[:] = ... takes seconds to compile
                y[j] = x[at + j]
        if kind == ACTIVATE and kept != NOTHING:
            slopes = arena[kept + begin * units : kept + end * units]
            activate_with_slopes(y.reshape(count, units), number, slopes.reshape(count, units))
        elif kind == ACTIVATE:
            activate(y.reshape(count, units), number, numbers[layer])
        elif training:
            own = bits[kept + begin * width : kept + end * width]
            mask(y, own, number, numbers[layer])


@numba.njit(**KERNEL)
def down(
    program: Any, numbers: Any, parameters: Any, delta: Any, arena: Any, bits: Any, address: int,
    lowest: int, _: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Compute the deltas for the examples from `begin` to `end`.

    lowest: 0 for all layers, 1 for those above the first.
    """
    count = end - begin
    for layer in range(len(program) - 1, lowest - 1, -1):
        kind, _1, target, width, units, above, below, weights, _2, number, kept = program[layer]
        d, at = (delta, begin * units) if above == NOTHING else (arena, above + begin * units)
        to = below + begin * width
        out = arena[to : to + count * width]
        if kind == DENSE:
            product(
                address, AS_IS, TURNED, count, width, units, F(1), d, at, units,
                parameters, weights, units, F(0), arena, to, width,
            )  # fmt: skip
            continue
        if above != below:
            for j in range(out.size):
                out[j] = d[at + j]
        if kind == ACTIVATE and kept != NOTHING:
            multiply(out, arena[kept + begin * width : kept + end * width])
        elif kind == ACTIVATE:
            a = arena[target + begin * width : target + end * width]
            multiply_slope(out, a, number, numbers[layer])
        else:
            own = bits[kept + begin * width : kept + end * width]
            mask(out, own, number, numbers[layer])
