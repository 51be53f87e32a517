"""Start a module of the harness in another process.

A command imports this module first, so it imports as little as possible.
"""

import os
import sys
from contextlib import suppress


def _is_here() -> bool:
    """Whether this process searches the working directory for modules."""
    with suppress(FileNotFoundError):  # it was removed
        return not {"", os.getcwd()}.isdisjoint(sys.path)  # noqa: PTH109  # `Path` is slow
    return False


# A console script does not search it, and its processes must not either: they would import a user's
# file there, such as types.py, or a package named harness, in place of the real one.
_SAFE = () if _is_here() else ("-P",)


def running(module: str) -> list[str]:
    """The beginning of a command line that runs the module as this process would find it."""
    return [sys.executable, *_SAFE, "-m", module]
