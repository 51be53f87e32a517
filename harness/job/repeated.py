"""Refuse the user's parts that keep state between calls or change their arguments.

Checkpoints do not contain such state, so a resumed run would end with a different result than an
uninterrupted one. Every part is called with some arguments, with others, and with the first ones
again: it must return the same and hold the same, and so must a new object.
"""

import collections
import functools
import random
import sys
from collections.abc import Callable, Mapping
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.nn.layers import Layer, is_built_in
from harness.runfolder.parts import PartError

CLOSE = 1e-5  # largest difference due to rounding
DEEPEST = 4  # levels of objects inside objects that are examined
LARGE = 1 << 20  # numbers; larger arrays of a module are not examined
COMPILERS = ("numba", "jax", "jaxlib")  # their objects hold values for speed
Call = Callable[[Any, np.random.Generator], list[Any]]
"""Calls a part with arguments that it draws, and returns what the part returns or writes."""


def check(place: str, used: Any, fresh: Any, call: Call, *, alike: bool = True) -> None:
    """Raise `PartError`, one line that begins with `place`, if a part keeps state between calls.

    fresh: another object with the same settings, or `used` if there is only one. alike: whether
    both must also hold the same, except arrays, which can be memory that was never written.
    """
    call(used, np.random.default_rng(0))
    first, then = call(used, np.random.default_rng(1)), held(used)
    call(used, np.random.default_rng(2))
    second, now = call(used, np.random.default_rng(1)), held(used)
    anew, theirs = call(fresh, np.random.default_rng(1)), held(fresh)
    changed = [key for key in then | now if is_state(now.get(key), then.get(key), None)]
    if alike and not changed:
        pairs = {key: (now.get(key), theirs.get(key)) for key in now | theirs}
        simple = {k: pair for k, pair in pairs.items() if not _has_array(pair)}
        changed = [key for key, pair in simple.items() if is_state(*pair, None)]
    is_same = all(map(is_close, first, second)) and all(map(is_close, second, anew))
    if is_same and not changed:
        return
    seen = f" (seen in {changed[0].lstrip('.')})" if changed else ""
    raise PartError(
        f"{place}: it keeps something from one call to the next{seen}, or draws random numbers of "
        "its own, and neither is saved: a resumed run would give a different result; compute "
        "everything from the arguments"
    )


def _has_array(values: tuple[Any, ...]) -> bool:
    return any(isinstance(each, np.ndarray) for each in values)


def check_kept(place: str, **given: tuple[NDArray[Any], NDArray[Any]]) -> None:
    """Raise `PartError` naming the first argument that no longer equals its copy."""
    for name, (array, copy) in given.items():
        if not np.array_equal(array, copy, equal_nan=array.dtype.kind == "f"):
            raise PartError(f"{place}: must not modify {name}; modify a copy")


def held(part: Any) -> dict[str, Any]:
    """The numbers, texts and arrays that a part, its class and its module hold, by name."""
    found: dict[str, Any] = {}
    collect("", part, [], found)
    owners = [part] if isinstance(part, FunctionType) else type(part).__mro__
    for owner in owners:
        if is_built_in(owner):
            continue
        module = sys.modules.get(owner.__module__)
        for place, names in (
            (owner.__qualname__, {} if owner is part else vars(owner)),
            (owner.__module__, {} if module is None else vars(module)),
        ):
            simple = {key: each for key, each in names.items() if _is_plain(key, each)}
            collect(place, simple, [], found)
    return found


def _is_plain(key: str, value: Any) -> bool:
    """Whether an attribute of a class or module can be or hold numbers that code changes."""
    if key.startswith("__"):
        return False
    if isinstance(value, np.ndarray):
        return value.size <= LARGE
    kinds = (bool, int, float, str, np.generic, list, dict, np.random.Generator, random.Random)
    return isinstance(value, kinds)


def collect(
    name: str, value: Any, buffers: list[NDArray[Any]], found: dict[str, Any], depth: int = 0
) -> None:
    """Add what `value` holds to `found`: attributes, elements, the state of a generator.

    buffers: arrays that are left out.
    """
    if isinstance(value, np.random.Generator):
        found[name] = str(value.bit_generator.state)
    elif isinstance(value, np.random.RandomState | random.Random):
        state = value.getstate() if isinstance(value, random.Random) else value.get_state()
        found[name] = str(state)
    elif type(value).__module__ == "itertools":
        found[name] = repr(value)  # such as count(3)
    elif isinstance(value, np.ndarray):
        if not any(np.may_share_memory(value, each) for each in buffers):
            found[name] = value.copy()
    elif isinstance(value, bool | int | float | str | np.generic):
        found[name] = value
    elif isinstance(value, Layer | type | ModuleType) or depth == DEEPEST or _is_compiled(value):
        return
    elif isinstance(value, Mapping):
        for key, each in list(value.items()):
            collect(f"{name}.{key}", each, buffers, found, depth + 1)
    elif isinstance(value, list | tuple | collections.deque):
        for index, each in enumerate(value):
            collect(f"{name}[{index}]", each, buffers, found, depth + 1)
    elif isinstance(value, MethodType):
        collect(name, value.__self__, buffers, found, depth + 1)
    elif isinstance(value, functools.partial):
        collect(name, [value.func, value.args, value.keywords], buffers, found, depth + 1)
    elif isinstance(value, FunctionType):
        names = value.__code__.co_freevars
        cells = {
            key: _content(cell) for key, cell in zip(names, value.__closure__ or (), strict=True)
        }
        defaults = {"defaults": [*(value.__defaults__ or ()), value.__kwdefaults__ or {}]}
        collect(name, cells | defaults | vars(value), buffers, found, depth + 1)
    elif hasattr(value, "__dict__"):
        collect(name, vars(value), buffers, found, depth + 1)


def _is_compiled(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in COMPILERS


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


def is_state(ours: Any, theirs: Any, before: Any) -> bool:
    """Whether a value changed by calls differs in a new object. before: the initial value."""
    if isinstance(ours, np.ndarray) != isinstance(theirs, np.ndarray):
        return True
    if not isinstance(ours, np.ndarray):
        return not is_close(ours, theirs)
    if ours.shape != theirs.shape:
        return True
    if ours.dtype.kind not in "biuf":
        return False
    differs = ~np.isclose(ours, theirs, rtol=CLOSE, atol=CLOSE, equal_nan=True)
    if isinstance(before, np.ndarray) and before.shape == ours.shape:
        differs &= ours != before  # skip memory that was never written
    return bool(differs.any())


def is_close(ours: Any, theirs: Any) -> bool:
    """Whether two numbers, texts or arrays differ by rounding at most."""
    if any(isinstance(each, str | None) for each in (ours, theirs)):
        return type(ours) is type(theirs) and bool(ours == theirs)
    return bool(
        np.shape(ours) == np.shape(theirs)
        and np.allclose(ours, theirs, rtol=CLOSE, atol=CLOSE, equal_nan=True)
    )
