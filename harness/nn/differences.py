"""Check the derivatives of layers and activations against central differences.

    f'(x) = (f(x + h) - f(x - h)) / 2h + O(h^2)

A few derivatives may differ, because functions can have kinks and all values are rounded.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.nn.activations import Activation
from harness.nn.layers import Layer, walk

Array = NDArray[np.floating[Any]]
PROBES = 24  # derivatives checked in each array
TOLERANCE = 0.05  # relative; derivatives up to this fraction of the largest are not counted
SHARE = 0.2  # of the counted derivatives that may differ
STEPS = {np.dtype(np.float64): 1e-3, np.dtype(np.float32): 1e-2}
SIZE = (8, 32)  # shape of the inputs that an activation is tested with
SPREAD = 2.0  # their standard deviation


def contradiction(found: Array, expected: Array, share: float, batch: int = 0) -> str | None:
    """How derivatives (n,) differ from central differences (n,), in words; None if they agree.

    share: the share of derivatives that may differ. batch: the batch size; the text names it if
    the derivatives are too large by this factor.
    """
    scale = max(abs(found).max(), abs(expected).max())
    if not (np.isfinite(scale) and scale > 0):
        return None
    counted = np.maximum(abs(found), abs(expected)) > TOLERANCE * scale
    wrong = counted & (abs(found - expected) > TOLERANCE * np.maximum(abs(found), abs(expected)))
    if wrong.sum() <= share * counted.sum():
        return None
    with np.errstate(all="ignore"):
        ratios = found[wrong] / expected[wrong]
    if np.isfinite(ratios).all() and np.ptp(ratios) <= TOLERANCE * abs(ratios).max():
        factor = float(np.median(ratios))
        if batch and math.isclose(factor, batch, rel_tol=TOLERANCE):
            return f", but {batch} times it, the size of the batch"
        return f", but {factor:.3g} times it"
    worst = int(np.where(wrong, abs(found - expected), 0).argmax())
    return f": {found[worst]:.4g} where central differences give {expected[worst]:.4g}"


def activation_fault(activation: Activation, dtype: np.dtype[Any]) -> str | None:
    """How `derivative` of an activation differs from that of its `forward`; None if they agree.

    dtype: float64 or float32.
    """
    z = np.random.default_rng(0).normal(0, SPREAD, SIZE).astype(dtype)

    def computed(z: Array) -> Array:
        out = np.zeros_like(z)
        activation.forward(z, out)
        return out

    a, slope, step = computed(z.copy()), np.zeros_like(z), STEPS[dtype]
    activation.derivative(z.copy() if activation.needs_input else None, a, slope)
    up, down = z + dtype.type(step), z - dtype.type(step)
    difference = computed(up.copy()).astype(np.float64) - computed(down.copy())
    how = contradiction(slope.ravel(), (difference / (up - down)).ravel(), SHARE)
    return None if how is None else f"derivative is not that of forward{how}"


def layer_faults(layer: Layer, inputs: Array) -> Iterator[str]:
    """Yield the faults of a layer of a network, in words; changes its parameters.

    Checks its derivatives with respect to inputs and parameters in training, and that an example's
    outputs in evaluation do not depend on other examples. inputs: (B, ...) float64 or float32.
    """
    random, name, dtype = np.random.default_rng(0), type(layer).__name__, inputs.dtype
    if _mixes_examples(layer, inputs):
        yield (
            f"{name}.forward(inputs, training=False): the outputs of an example depend on the "
            "other examples of the batch, and so do errors and predictions"
        )
    for each in walk([layer]):
        for key in each.shapes:  # parameters that begin at 0 would hide faults
            getattr(each, key)[...] += random.normal(0, 0.1, each.shapes[key])
        each.draw(len(inputs), random)
    weights = random.normal(size=layer.forward(inputs, True).shape).astype(dtype)
    layer.delta = weights.copy()
    tried = [(f"{name}.backward(delta)", inputs, np.array(layer.backward(layer.delta)))]
    held: list[Array] = []
    for each in walk([layer]):
        out = {key: np.zeros(shape, dtype) for key, shape in each.shapes.items()}
        if out:
            each.gradient(each.delta, out)
        for key, gradient in out.items():
            held.append(getattr(each, key))
            if gradient.any():  # parameters with no gradient are updated by `forward`
                where = f"{type(each).__name__}.gradient(delta, out): out[{key!r}]"
                tried.append((where, held[-1], gradient))
    begin = [(array, array.copy()) for array in held]
    layer.forward(inputs, True)
    kept = [(array, values) for array, values in begin if not np.array_equal(array, values)]

    def total(array: Array, place: Any, step: float) -> float:
        for each, values in kept:  # parameters that `forward` changes in training
            each[...] = values
        before = array[place]
        array[place] += step
        result = float(np.sum(weights * layer.forward(inputs, True), dtype=np.float64))
        array[place] = before
        return result

    step = STEPS[dtype]
    for where, array, gradient in tried:
        drawn = np.unique(random.integers(0, array.size, PROBES))
        places = [np.unravel_index(each, array.shape) for each in drawn]
        expected = [
            (total(array, at, step) - total(array, at, -step)) / (2 * step) for at in places
        ]
        found = np.array([float(gradient[at]) for at in places])
        if how := contradiction(found, np.array(expected), SHARE):
            yield f"{where} is not the derivative of forward{how}"


def _mixes_examples(layer: Layer, inputs: Array) -> bool:
    """Whether the outputs of the first example, in evaluation, depend on the others."""
    others = inputs.copy()
    others[1:] = np.random.default_rng(1).normal(1, 3, others[1:].shape)
    first, second = (layer.forward(each, False)[0].copy() for each in (inputs, others))
    differs = abs(first - second) > TOLERANCE * abs(first).max(initial=0)
    return bool(np.isfinite(first).all() and np.isfinite(second).all() and differs.any())
