"""The steps of the optimizers in one pass over the parameters: twins of `nn/optimizers.py`.

Each kernel takes the parameters w, two arrays of state (w again for plain SGD), the gradient, and
the coefficients k of the step. In dense layers, each chunk of weight rows is updated right after
its gradient is computed, while both are in the cache.
"""

import math
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from harness.nn.compiled.blas import AS_IS, TURNED, product
from harness.nn.compiled.dense import COMPILED, KERNEL, F
from harness.nn.compiled.elementwise import sum_rows
from harness.nn.compiled.ink_layer import InkDense, gather
from harness.nn.compiled.rows import NOTHING, Dense, Rows
from harness.nn.compiled.workers import Workers
from harness.nn.layers import Layer
from harness.nn.network import Network
from harness.nn.optimizers import SGD, Adam, AdamW, Gradient, Momentum, Optimizer

Array = NDArray[np.float32]
SHARE = 1 << 15  # number of parameters from which several threads are worth starting


@numba.njit(**COMPILED)
def _sgd(w: Any, _1: Any, _2: Any, g: Any, k: Any) -> None:
    """w = (1 - lr decay) w - lr g."""
    lr, _, shrink = k[0], k[1], k[2]
    for j in range(w.size):
        w[j] = shrink * w[j] - lr * g[j]


@numba.njit(**COMPILED)
def _momentum(w: Any, v: Any, _: Any, g: Any, k: Any) -> None:
    """v = m v - lr (g + decay w); w += v, or w += m v - lr (g + decay w)."""
    lr, decay, m, of_velocity, of_change = k[0], k[1], k[3], k[4], k[5]
    for j in range(w.size):
        change = -lr * (g[j] + decay * w[j])
        velocity = m * v[j] + change
        v[j] = velocity
        w[j] += of_velocity * velocity + of_change * change


@numba.njit(**COMPILED)
def _adam(w: Any, m: Any, s: Any, g: Any, k: Any) -> None:
    """Adam and AdamW."""
    rate, decay, shrink, beta1, rest1, beta2, rest2 = k[0], k[1], k[2], k[3], k[4], k[5], k[6]
    correction, epsilon = k[7], k[8]
    for j in range(w.size):
        x = g[j] + decay * w[j]
        mean = beta1 * m[j] + rest1 * x
        square = beta2 * s[j] + rest2 * x * x
        m[j] = mean
        s[j] = square
        w[j] = shrink * w[j] - rate * mean / (math.sqrt(correction * square) + epsilon)


@numba.njit(**COMPILED)
def _step(kind: int, w: Any, s: Any, t: Any, g: Any, k: Any) -> None:
    """Take the step of an optimizer for arrays of one dimension."""
    if kind == 0:
        _sgd(w, s, t, g, k)
    elif kind == 1:
        _momentum(w, s, t, g, k)
    else:
        _adam(w, s, t, g, k)


@numba.njit(**KERNEL)
def _step_flat(
    kind: int, w: Any, s: Any, t: Any, g: Any, k: Any, _: int, begin: int, end: int
) -> None:
    """Take the step for a range of flat arrays."""
    own = slice(begin, end)
    _step(kind, w[own], s[own], t[own], g[own], k)


@numba.njit(**KERNEL)
def step_ink(
    w: Any, s: Any, t: Any, k: Any, kind: int, rest: Any, deltas: Any, who: Any, much: Any,
    counts: Any, scratch: Any, number: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Take the step for some chunks of weight rows of an `InkDense`; see `InkDense.update`."""
    g, columns = scratch[number], w.shape[1]
    rows = len(g)
    for chunk in range(begin, end):
        first, last = chunk * rows, min((chunk + 1) * rows, len(w))
        gather(g, rest, deltas, who, much, counts, first, last)
        if columns == g.shape[1]:
            own, size = slice(first, last), (last - first) * columns
            flat = w[own].reshape(size), s[own].reshape(size), t[own].reshape(size)
            _step(kind, flat[0], flat[1], flat[2], g.reshape(g.size)[:size], k)
        else:
            for p in range(first, last):
                _step(kind, w[p], s[p], t[p], g[p - first, :columns], k)


@numba.njit(**KERNEL)
def step_rows(
    kind: int, k: Any, k_bias: Any, w: Any, s: Any, t: Any, program: Any, tasks: Any, inputs: Any,
    delta: Any, arena: Any, scratch: Any, address: int, batch: int, number: int, begin: int,
    end: int,
) -> None:  # fmt: skip
    """Take the step for some tasks (ranges of weight rows); see `Rows.update`. w, s, t: flat."""
    g = scratch[number]
    for task in range(begin, end):
        layer, first, last = tasks[task]
        _, source, _, width, units, above, _, weights, bias, _, _ = program[layer]
        x, at = (inputs, first) if source == NOTHING else (arena, source + first)
        d, top = (delta, 0) if above == NOTHING else (arena, above)
        size, to = (last - first) * units, weights + first * units
        own = slice(to, to + size)
        if kind == 0:
            product(
                address, TURNED, AS_IS, last - first, units, batch, -k[0], x, at, width, d, top,
                units, k[2], w, to, units,
            )  # fmt: skip
        else:
            product(
                address, TURNED, AS_IS, last - first, units, batch, F(1), x, at, width, d, top,
                units, F(0), g, np.int64(0), units,
            )  # fmt: skip
            _step(kind, w[own], s[own], t[own], g[:size], k)
        if first == 0:
            own = slice(bias, bias + units)
            sum_rows(d[top : top + batch * units].reshape(batch, units), g[:units])
            _step(kind, w[own], s[own], t[own], g[:units], k_bias)


@numba.njit(**KERNEL)
def step_bias(kind: int, k: Any, w: Any, s: Any, t: Any, g: Any, deltas: Any) -> None:
    """Take the step for a bias, whose gradient g is the sum of deltas (B, H)."""
    sum_rows(deltas, g)
    _step(kind, w, s, t, g, k)


class Twin:
    """Takes the steps of a built-in optimizer in compiled kernels; changes the optimizer's state.

    network: the compiled network, with the parameters of the optimizer.
    """

    def __init__(self, optimizer: Optimizer, network: Network, workers: Workers) -> None:
        self._optimizer, self._workers = optimizer, workers
        self.kind, state = _kind_and_state(optimizer, network)
        self._gradient = network.parameters.zeros_like()
        self._of_weights, self._of_bias = np.zeros((2, 9), np.float32)
        self.flat = network.parameters.flat, *state
        by_layer = zip(
            network.trained,
            *(network.by_layer(each) for each in (*self.flat, self._gradient.flat)),
            strict=True,
        )
        self._rows = [layer for layer in network.layers if isinstance(layer, Rows)]
        self._over_ink: list[tuple[InkDense, list[Array], list[Array]]] = []
        self._others: list[tuple[Layer, dict[str, Array]]] = []
        self._calls: list[tuple[int, list[Array], Array]] = []
        decays = bool(getattr(optimizer, "weight_decay", 0))
        for layer, *arrays in by_layer:
            if isinstance(layer, InkDense):
                weights, bias = ([each[n] for each in arrays] for n in ("weights", "bias"))
                self._over_ink.append((layer, weights[1:-1], bias))
            elif not isinstance(layer, Dense):
                self._others.append((layer, arrays[-1]))
                for name, shape in layer.shapes.items():
                    flat = [each[name].reshape(-1) for each in arrays]
                    k = self._of_bias if decays and len(shape) == 1 else self._of_weights
                    self._calls.append((flat[0].size, flat, k))

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """The state of the optimizer."""
        return self._optimizer.state

    def coefficients(self, lrs: Sequence[float]) -> tuple[Array, Array]:
        """Count consecutive steps with these learning rates.

        Returns the coefficients of all steps, (n, 9), for weights and for biases.
        """
        of_weights = np.array([_coefficients(self._optimizer, lr) for lr in lrs], np.float32)
        of_bias = of_weights.copy()
        of_bias[:, 1:3] = 0, 1  # no decay
        return of_weights, of_bias

    def over_ink(self, layer: InkDense) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """The weights of a layer with their state, and its bias with its state and gradient."""
        state, bias = next((s, b) for each, s, b in self._over_ink if each is layer)
        return (layer.weights, *state), tuple(bias)

    def step(self, gradient: Gradient, lr: float) -> None:
        """Take one step, with the deltas of the last backward pass."""
        self._of_weights[:] = self._of_bias[:] = _coefficients(self._optimizer, lr)
        self._of_bias[1:3] = 0, 1  # no decay
        kind, k = self.kind, self._of_weights
        for layer, state, bias in self._over_ink:
            layer.update(step_ink, *state, k, kind)
            step_bias(kind, self._of_bias, *bias, layer.delta)
        for rows in self._rows:
            rows.update(step_rows, kind, k, self._of_bias, *self.flat)
        for other, out in self._others:
            other.gradient(other.delta, out)
        for length, arrays, k in self._calls:
            if length < SHARE:
                _step_flat(kind, *arrays, k, 0, 0, length)
            else:
                self._workers.run(length, _step_flat, kind, *arrays, k)


def has_twin(optimizer: Optimizer) -> bool:
    """Whether an optimizer is a built-in one."""
    return type(optimizer) in (SGD, Momentum, Adam, AdamW)


def _kind_and_state(optimizer: Any, network: Network) -> tuple[int, list[Array]]:
    """The number that tells the kernels the optimizer, and its two arrays of state."""
    w = network.parameters.flat
    if isinstance(optimizer, SGD):
        return 0, [w, w]
    if isinstance(optimizer, Momentum):
        return 1, [optimizer.state["velocity"], w]
    return 2, [optimizer.state["mean"], optimizer.state["square"]]


def _coefficients(optimizer: Any, lr: float) -> list[float]:
    """The coefficients of a step for weights, which decay. Counts a step of Adam."""
    decay = optimizer.weight_decay
    if isinstance(optimizer, SGD):
        return [lr, 0, 1 - lr * decay, 0, 0, 0, 0, 0, 0]
    if isinstance(optimizer, Momentum):
        m = optimizer.momentum
        form = (m, 1) if optimizer.nesterov else (1, 0)
        return [lr, decay, 1, m, *form, 0, 0, 0]
    steps = optimizer.state["steps"]
    steps += 1
    count, (beta1, beta2) = int(steps[0]), optimizer.betas
    is_beside = isinstance(optimizer, AdamW)
    return [
        lr / (1 - beta1**count),
        0 if is_beside else decay,
        1 - lr * decay if is_beside else 1,
        beta1,
        1 - beta1,
        beta2,
        1 - beta2,
        1 / (1 - beta2**count),
        optimizer.epsilon,
    ]
