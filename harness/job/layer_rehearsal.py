"""Try a network with the user's layers or activations before it trains.

They must have no state except parameters, and should compute the derivatives of their `forward`.
The other parts are tried in rehearsal.py.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from harness.job import repeated
from harness.job.rehearsal import named
from harness.nn import differences
from harness.nn.layers import Activate, is_built_in, walk
from harness.nn.network import Network
from harness.runfolder.optional import warn
from harness.runfolder.parts import PartError

FEW = 4  # examples
STEPS = 4  # of training


def check_layers(place: str, make: Callable[[], Network]) -> None:
    """Check that layers have no state except parameters, because nothing else is saved.

    make: makes the network with its initial parameters. One network is trained for some steps; a
    new one that gets its parameters must then compute the same and hold the same values.
    """
    trained, fresh = make(), make()
    generator = np.random.default_rng(0)
    before = _held(trained)
    with named(place), np.errstate(all="ignore"):
        for _ in range(STEPS):
            _computed(trained, generator)
            trained.check_in_place()
            trained.parameters.flat *= 1.05
        fresh.parameters.flat[:] = trained.parameters.flat
        results = [_computed(each, np.random.default_rng(1)) for each in (trained, fresh)]
    ours, theirs = _held(trained), _held(fresh)
    changed = [
        key
        for key in ours | theirs
        if repeated.is_state(ours.get(key), theirs.get(key), before.get(key))
    ]
    seen = f" (seen in {changed[0]})" if changed else ""
    if changed and _overwrite(trained, changed):
        # Memory for results is no state: it is written before it is read.
        with named(place), np.errstate(all="ignore"):
            results[0] = _computed(trained, np.random.default_rng(1))
        changed = []
    if not changed and all(repeated.is_close(*pair) for pair in zip(*results, strict=True)):
        return
    raise PartError(
        f"{place}: its layers keep something from one step to the next{seen}, and only parameters "
        "are saved: a resumed run and the saved weights would give different results; make it a "
        "parameter whose gradient is 0, or compute it anew in each call"
    )


def check_derivatives(
    model: str, activation: str | None, make: Callable[[DTypeLike], Network]
) -> None:
    """Warn about the user's layers and activations with derivatives that contradict `forward`.

    Also warn about layers whose evaluation of an example depends on the rest of the batch. Both can
    be intended, so nothing is refused. model, activation: what a warning begins with; activation is
    None if it is not the user's. make: makes the network with a dtype; float64 is tried first.
    """
    for dtype in map(np.dtype, (np.float64, np.float32)):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                found = list(_faults(make(dtype)))
            except Exception:  # any kind: it may take only float32
                continue
        for is_activation in (True, False):
            if faults := [fault for of, fault in found if of == is_activation]:
                warn(activation if is_activation and activation else model, "; ".join(faults))
        return


def _faults(network: Network) -> Iterator[tuple[bool, str]]:
    """Whether each fault is an activation's, and the fault in words; each type of layer once."""
    dtype, random, seen = network.parameters.flat.dtype, np.random.default_rng(0), set()
    layers = list(walk(network.layers))
    own = {type(e.activation): e.activation for e in layers if isinstance(e, Activate)}
    for kind, activation in own.items():
        if is_built_in(activation):
            continue
        if fault := differences.activation_fault(activation, dtype):
            yield True, f"{kind.__name__}.{fault}"
            return  # layers that use it have the same fault
    inputs = random.normal(size=(FEW, network.inputs)).astype(dtype)
    for layer in network.layers:
        key = type(layer), inputs.shape
        if key not in seen and not all(map(is_built_in, walk([layer]))):
            yield from ((False, each) for each in differences.layer_faults(layer, inputs))
        seen.add(key)
        outputs = layer.forward(inputs, False)
        inputs = random.normal(size=outputs.shape).astype(dtype)  # away from kinks at 0


def _overwrite(network: Network, names: list[str]) -> bool:
    """Fill the layers' arrays with these names with NaN; False if one is not a float array.

    Arrays that each call allocates and writes only in part differ between two networks.
    """
    held = {
        f"{type(layer).__name__} {number}.{name}": value
        for number, layer in enumerate(walk(network.layers), 1)
        for name, value in vars(layer).items()
    }
    arrays = [each for name in names if isinstance(each := held.get(name), np.ndarray)]
    if len(arrays) < len(names) or not all(a.dtype.kind == "f" and a.base is None for a in arrays):
        return False
    for array in arrays:
        array.fill(np.nan)
    return True


def _computed(network: Network, generator: np.random.Generator) -> list[NDArray[Any]]:
    """What a network computes for random examples, in a training step and in evaluation."""
    dtype, flat = network.parameters.flat.dtype, network.parameters.flat
    inputs = generator.normal(size=(FEW, network.inputs)).astype(dtype)
    delta = generator.normal(size=(FEW, network.outputs)).astype(dtype)
    network.draw(FEW, generator)
    outputs = network.forward(inputs, training=True).copy()
    gradient = network.backward(delta).into(np.empty_like(flat)).copy()
    return [outputs, gradient, flat.copy(), network.forward(inputs).copy()]


def _held(network: Network) -> dict[str, Any]:
    """The numbers, texts and arrays that layers hold besides parameters and buffers, by name.

    Values of built-in layers are left out, except the user's objects in them.
    """
    found: dict[str, Any] = {}
    for number, layer in enumerate(walk(network.layers), 1):
        skipped = {"_memory", "_views", "layers", "dtype", "delta", *layer.shapes}
        ours = {key: value for key, value in vars(layer).items() if key not in skipped}
        if is_built_in(layer):
            ours = {key: value for key, value in ours.items() if not is_built_in(value)}
        buffers = list(vars(layer)["_memory"].values())
        repeated.collect(f"{type(layer).__name__} {number}", ours, buffers, found)
    return found
