"""Import Numba, the slowest part of starting a training that uses it."""

import gc
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from typing import Any

FAILURE = "HARNESS_NUMBA_FAILURE"
INSTALL = "`python -m pip install numba`"


def obstacle() -> str | None:
    """Why Numba cannot be used, in words; None if no reason is known. Fast."""
    if not is_installed():
        return f"Numba is not installed; {INSTALL} installs it"
    if os.environ.get("NUMBA_DISABLE_JIT", "0").strip() not in ("", "0"):
        return "NUMBA_DISABLE_JIT is set, so Numba compiles nothing; unset it"
    return fault()


def is_installed() -> bool:
    """Whether Numba is installed, working or not. Fast."""
    return importlib.util.find_spec("numba") is not None


def fault() -> str | None:
    """A known fault of an installed Numba, in words; None if none is known. Fast."""
    return os.environ.get(FAILURE) or _unmet()


def note(failure: str) -> None:
    """Record a failure for `obstacle`, in this process and the processes that it starts."""
    os.environ[FAILURE] = failure


@cache
def _unmet() -> str | None:
    """A package that Numba requires and that is missing or has a wrong version; None if none.

    Importing Numba to find out would take half a second in every command.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    with suppress(metadata.PackageNotFoundError, InvalidRequirement):
        for text in metadata.requires("numba") or ():
            required = Requirement(text)
            if required.marker and not required.marker.evaluate({"extra": ""}):
                continue
            try:
                found = metadata.version(required.name)
            except metadata.PackageNotFoundError:
                found = "none"
            if found == "none" or not required.specifier.contains(found, prereleases=True):
                return f"Numba requires {required}, found {found}; reinstall Numba"
    return None


def load() -> None:
    """Import Numba and compile a trivial function, which loads the compiler; once per process.

    Raises `ValueError` at each call if Numba cannot be used.
    """
    if reason := obstacle() or failure():
        raise ValueError(f"backend=numba: {reason}; or use backend=numpy")


@cache
def failure() -> str | None:
    """Load Numba. Returns why that failed, in one line; None if it did not fail.

    Numba imports SciPy, if it is installed, for linear algebra that the kernels do not use. Hiding
    SciPy during the import saves a third of the time.
    """
    is_hidden = "scipy" not in sys.modules
    if is_hidden:
        sys.modules["scipy"] = None  # type: ignore[assignment]  # makes the import fail
    gc.disable()
    try:
        import numba
        import numpy as np

        compiled: Any = numba.njit(lambda values: 0)
        compiled(np.zeros(1))
    except (Exception, SystemExit) as error:  # such as an ImportError for an unsupported NumPy
        words = " ".join(f"{type(error).__name__}: {error}".split())
        return f"Numba cannot be loaded ({words}); reinstall Numba"
    finally:
        gc.enable()
        if is_hidden:
            del sys.modules["scipy"]
    return None


class NotCached(Exception):
    """A kernel would have to be compiled."""


@contextmanager
def only_cached() -> Iterator[None]:
    """Raise `NotCached` instead of compiling a kernel that is not in Numba's cache."""
    from numba.core import event

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            raise NotCached

        def on_end(self, event: Any) -> None:
            """Do nothing."""

    listener = Listener()
    event.register("numba:compile", listener)  # type: ignore[no-untyped-call]  # Numba's own
    try:
        yield
    finally:
        event.unregister("numba:compile", listener)  # type: ignore[no-untyped-call]


def when_compiling(tell: Callable[[], object]) -> None:
    """Call `tell` before Numba compiles the first of our kernels that is not in its cache.

    `tell` is called at most once. Numba must be loaded.
    """
    from numba.core import event

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            dispatcher = event.data["dispatcher"]
            if is_ours(dispatcher.py_func.__module__) and not told:
                told.append(True)
                tell()

        def on_end(self, event: Any) -> None:
            """Do nothing."""

    def is_ours(module: str) -> bool:
        return module.startswith(f"{__package__}.")

    told: list[bool] = []
    event.register("numba:compile", Listener())  # type: ignore[no-untyped-call]  # Numba's own
