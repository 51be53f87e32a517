"""Try the user's parts once before they train, so that what is wrong is named, and where.

Layers, activations and losses are tried by `nn`, whoever wrote them. All functions raise
`PartError`, one line.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.nn.parameters import Parameters
from harness.runfolder import own_code
from harness.runfolder.kinds import KINDS
from harness.runfolder.parts import PartError

FEW = 4  # examples
STEPS = 4  # of an optimizer
Make = Callable[[Parameters], Any]


@contextmanager
def named(place: str) -> Iterator[None]:
    """Turn whatever the user's code raises into one line that begins with `place`."""
    try:
        yield
    except PartError:
        raise
    except (Exception, SystemExit) as error:
        raise PartError(f"{place}: {own_code.described(error)}") from error


def check_members(kind: str, name: str, made: Any) -> None:
    """Check that a part has what its kind promises."""
    members = KINDS[kind].members
    # Without calling a property: the state of a normalization may need `fit` before.
    missing = [each for each in members if not _has(made, each)]
    if not missing:
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
