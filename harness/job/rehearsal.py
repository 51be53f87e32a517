"""Try the user's parts once before they train, so that what is wrong is named, and where.

Layers, activations and losses are also tried by `nn`, whoever wrote them. All functions raise
`PartError`, one line.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.nn.initialization import check_initialization
from harness.nn.layers import Layer, walk
from harness.nn.network import Network
from harness.nn.parameters import Parameters
from harness.runfolder import own_code
from harness.runfolder.kinds import KINDS
from harness.runfolder.parts import PartError

FEW = 4  # examples
STEPS = 4  # of an optimizer, or of layers
CLOSE = 1e-5  # differences that rounding may make
DEEPEST = 4  # objects inside objects that are looked at
Make = Callable[[Parameters], Any]


@contextmanager
def named(place: str) -> Iterator[None]:
    """Turn whatever the user's code raises into one line that begins with `place`."""
    try:
        yield
    except (PartError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PartError(f"{place}: {own_code.described(error)}") from error


def check_members(kind: str, name: str, made: Any) -> None:
    """Check that a part has what its kind promises."""
    members = KINDS[kind].members
    # Without calling a property: the state of a normalization may need `fit` before.
    missing = [each for each in members if not _has(made, each)]
    if not missing:
        if kind == "activation":
            with named(f"activation={name}"):
                check_initialization(type(made).__name__, made.initialization)
        return
    if members == ("__call__",):
        raise PartError(f"{kind}={name}: expected it to return a function, found {made!r}")
    raise PartError(
        f"{kind}={name}: expected an object with {', '.join(members)}; "
        f"{type(made).__name__} has no {', '.join(missing)}"
    )


def _has(made: Any, member: str) -> bool:
    try:
        inspect.getattr_static(made, member)
    except AttributeError:
        return hasattr(made, member)
    return True


def check_schedule(name: str, schedule: Any) -> None:
    """Check the first factor of the learning rate."""
    place = f"schedule={name}"
    with named(place):
        factor = schedule(0.0)
    if isinstance(factor, str) or not np.isscalar(factor) or not np.isfinite(factor):
        raise PartError(f"{place}: expected a finite number at time 0, found {factor!r}")


def check_optimizer(name: str, optimizer: Any) -> None:
    """Check that the state is arrays, and the very ones that are changed."""
    place = f"optimizer={name}"
    with named(place):
        states = optimizer.state, optimizer.state
    for state in states:
        _check_arrays(place, state)
    for key, array in states[0].items():
        if array.size and not np.shares_memory(array, states[1][key]):
            raise PartError(f"{place}: expected state[{key!r}] to be the array itself, not a copy")


class _Drawn:
    """A gradient of random numbers (P,)."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values

    def into(self, out: NDArray[Any], factor: float = 1.0) -> NDArray[Any]:
        """Write `factor` times the gradient into `out`."""
        np.multiply(self._values, factor, out=out)
        return out


def check_resume(name: str, make: Make, parameters: Parameters, lr: float) -> None:
    """Check that an optimizer goes on alike when its state is restored into a new one, finitely.

    make: the optimizer of some parameters. They are copies of `parameters`, which stay as they are.
    """
    place = f"optimizer={name}"
    generator = np.random.default_rng(0)
    flat = parameters.flat
    gradients = [_Drawn(generator.normal(size=len(flat)).astype(flat.dtype)) for _ in range(STEPS)]
    ours = [Parameters(parameters.shapes, flat.copy()) for _ in range(2)]
    with np.errstate(all="ignore"):
        first, again = map(make, ours)
        beginning = _forms(place, first)
        with named(place):
            for gradient in gradients[:-1]:
                first.step(gradient, lr)
        changed = sorted({key for key, _ in beginning.items() ^ _forms(place, first).items()})
        if changed:
            raise PartError(
                f"{place}: expected state to have all arrays from the beginning, each of one shape "
                f"and type; found another {', '.join(changed)} after the first steps; make it in "
                "__init__"
            )
        with named(place):
            ours[1].flat[:] = ours[0].flat
            for key, array in again.state.items():
                array[...] = first.state[key]
            for each in (first, again):
                each.step(gradients[-1], lr)
    if not np.isfinite(ours[0].flat).all():
        found = ours[0].flat[~np.isfinite(ours[0].flat)][0]
        raise PartError(
            f"{place}: expected finite parameters after its first steps with lr={lr:g}, found "
            f"{found}"
        )
    if ours[0].flat.tobytes() != ours[1].flat.tobytes():
        raise PartError(
            f"{place}: a run could not be resumed: with its state restored into a new optimizer, "
            "the next step is another one; put all that step changes into state, a counter as "
            "np.zeros(())"
        )


def check_layers(place: str, make: Callable[[], Network]) -> None:
    """Check that layers have no state but their parameters, which alone are saved.

    make: the network with its initial parameters. One is trained for some steps; another one that
    gets its parameters must then compute the same, and its layers must hold the same.
    """
    trained, fresh = make(), make()
    generator = np.random.default_rng(0)
    before = _held(trained)
    with named(place), np.errstate(all="ignore"):
        for _ in range(STEPS):
            _computed(trained, generator)
            trained.parameters.flat *= 1.05
        fresh.parameters.flat[:] = trained.parameters.flat
        results = [_computed(each, np.random.default_rng(1)) for each in (trained, fresh)]
    ours, theirs = _held(trained), _held(fresh)
    changed = [
        key for key in ours | theirs if _is_state(ours.get(key), theirs.get(key), before.get(key))
    ]
    if not changed and all(_is_close(*pair) for pair in zip(*results, strict=True)):
        return
    seen = f" (seen in {changed[0]})" if changed else ""
    raise PartError(
        f"{place}: its layers keep something from one step to the next{seen}, and only parameters "
        "are saved: a resumed run and the saved weights would compute something else; make it a "
        "parameter whose gradient is 0, or compute it anew in each call"
    )


def _computed(network: Network, generator: np.random.Generator) -> list[NDArray[Any]]:
    """What a network computes of random examples in a step of training, and in evaluation."""
    dtype, flat = network.parameters.flat.dtype, network.parameters.flat
    inputs = generator.normal(size=(FEW, network.inputs)).astype(dtype)
    delta = generator.normal(size=(FEW, network.outputs)).astype(dtype)
    network.draw(FEW, generator)
    outputs = network.forward(inputs, training=True).copy()
    gradient = network.backward(delta).into(np.empty_like(flat)).copy()
    return [outputs, gradient, flat.copy(), network.forward(inputs).copy()]


def _held(network: Network) -> dict[str, Any]:
    """The numbers, texts and arrays that layers hold beside parameters and buffers, by name.

    What built-in layers hold is left out, but not the user's objects in them.
    """
    found: dict[str, Any] = {}
    for number, layer in enumerate(walk(network.layers), 1):
        skipped = {"_memory", "_views", "layers", "dtype", "delta", *layer.shapes}
        ours = {key: value for key, value in vars(layer).items() if key not in skipped}
        if _is_built_in(layer):
            ours = {key: value for key, value in ours.items() if not _is_built_in(value)}
        buffers = list(vars(layer)["_memory"].values())
        _collect(f"{type(layer).__name__} {number}", ours, buffers, found)
    return found


def _is_built_in(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in ("harness", "numpy", "builtins")


def _collect(
    name: str, value: Any, buffers: list[NDArray[Any]], found: dict[str, Any], depth: int = 0
) -> None:
    """Add what `value` holds to `found`: attributes, elements, the state of a generator."""
    if isinstance(value, np.random.Generator):
        found[name] = str(value.bit_generator.state)
    elif isinstance(value, np.ndarray):
        if not any(np.may_share_memory(value, each) for each in buffers):
            found[name] = value.copy()
    elif isinstance(value, bool | int | float | str | np.generic):
        found[name] = value
    elif isinstance(value, Layer | type | ModuleType) or depth == DEEPEST:
        return
    elif isinstance(value, Mapping):
        for key, each in list(value.items()):
            _collect(f"{name}.{key}", each, buffers, found, depth + 1)
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            _collect(f"{name}[{index}]", each, buffers, found, depth + 1)
    elif hasattr(value, "__dict__"):
        _collect(name, vars(value), buffers, found, depth + 1)


def _is_state(ours: Any, theirs: Any, before: Any) -> bool:
    """Whether a value that steps change is another one in new layers. before: the steps."""
    if isinstance(ours, np.ndarray) != isinstance(theirs, np.ndarray):
        return True
    if not isinstance(ours, np.ndarray):
        return not _is_close(ours, theirs)
    if ours.shape != theirs.shape:
        return True
    if ours.dtype.kind not in "biuf":
        return False
    differs = ~np.isclose(ours, theirs, rtol=CLOSE, atol=CLOSE, equal_nan=True)
    if isinstance(before, np.ndarray) and before.shape == ours.shape:
        differs &= ours != before  # not what was never written
    return bool(differs.any())


def _is_close(ours: Any, theirs: Any) -> bool:
    if any(isinstance(each, str | None) for each in (ours, theirs)):
        return type(ours) is type(theirs) and bool(ours == theirs)
    return bool(np.allclose(ours, theirs, rtol=CLOSE, atol=CLOSE, equal_nan=True))


def _forms(place: str, optimizer: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """The shape and type of each array of the state."""
    with named(place):
        state = optimizer.state
    _check_arrays(place, state)
    return {key: (array.shape, array.dtype.str) for key, array in state.items()}


def check_normalization(name: str, fitted: Any, inputs: NDArray[Any]) -> None:
    """Check the state of a fitted normalization, and what it makes of `inputs` (n, D)."""
    place = f"normalization={name}"
    with named(place):
        state = {key: np.asarray(array) for key, array in fitted.state.items()}
    _check_arrays(place, state)
    some = inputs[:FEW]
    out = np.full(some.shape, np.nan, np.float32)
    with named(place):
        fitted.apply(some, out)
    _check_written(f"{place}: apply(inputs, out)", out)


def check_augmentation(name: str, augmentation: Any, inputs: NDArray[Any]) -> None:
    """Check what an augmentation makes of `inputs` (n, D)."""
    some = inputs[:FEW]
    out = np.full(some.shape, np.nan, np.float32)
    with named(f"augmentation={name}"):
        augmentation(some, np.random.default_rng(0), out)
    _check_written(f"augmentation={name}: f(pixels, generator, out)", out)


def _check_arrays(place: str, state: Any) -> None:
    if not isinstance(state, Mapping):
        raise PartError(f"{place}: expected state to be arrays by name, found {state!r}")
    for key, array in state.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            what = f"{array.dtype}" if isinstance(array, np.ndarray) else repr(array)
            raise PartError(f"{place}: expected state[{key!r}] to be an array, found {what}")


def _check_written(place: str, out: NDArray[np.float32]) -> None:
    if not np.isfinite(out).all():
        raise PartError(
            f"{place}: expected it to fill out with finite numbers, found "
            f"{np.array2string(out.ravel()[:3], separator=', ')}"
        )
