"""Handle steps that only describe or show a run: if one fails, the run goes on without it."""

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TypeVar

from harness.data.atomic import explained

Result = TypeVar("Result")
_warned: set[str] = set()


def attempt(what: str, function: Callable[[], Result], otherwise: Result) -> Result:
    """The result of a function, or `otherwise` if it raises an exception.

    Use it only for things that no result depends on: the user's name, the commit, the display,
    pictures, the report. what: its name in the warning, which is printed once per process.
    """
    try:
        return function()
    except Exception as error:  # any kind: an error in a description must not end a run
        kind = type(error).__name__
        if isinstance(error, OSError) and error.filename is not None:
            warn(what, explained(error))
        else:
            warn(what, f"{kind}: {error}" if str(error) else kind)
        return otherwise


def warn(what: str, why: str) -> None:
    """Print one line about what is missing, once per process."""
    if what not in _warned:
        _warned.add(what)
        print(f"warning: {what}: {' '.join(why.split())}", file=sys.stderr, flush=True)


def preload(module: str) -> None:
    """Import a module in another thread while this one waits for something else.

    Matplotlib takes as long as a few epochs. The code that needs the module reports an error.
    """
    threading.Thread(target=partial(_load, module), daemon=True).start()


def _load(module: str) -> None:
    with suppress(Exception):
        import_module(module)
