"""Keep the user's code from ending a command with the exit status of success.

A module that calls `os._exit(0)` while a command imports it would end the command silently. A job
needs no such guard: its end record says how it ended.
"""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.runfolder import own_code

ENDS = ("_exit", "execv", "execve")  # end the process or replace its program


def guard() -> None:
    """Make `os._exit` and `os.exec...` raise `SystemExit` with a one-line message.

    The harness itself and forked processes can still call them.
    """
    for name in ENDS:
        setattr(os, name, _guarded(name, getattr(os, name), os.getpid()))


def _guarded(name: str, ends: Callable[..., Any], process: int) -> Callable[..., Any]:
    def end(*arguments: Any, **named: Any) -> Any:
        caller = sys._getframe(1).f_code.co_filename
        if os.getpid() != process or _is_ours(caller):
            return ends(*arguments, **named)
        shown = ", ".join(map(own_code.shown, arguments))
        raise SystemExit(f"os.{name}({shown}) would end the command, in {caller}")

    return end


def problem(end: SystemExit) -> str | None:
    """Describe in a line a `SystemExit` of the user's code; None for one of the harness."""
    frames = traceback.extract_tb(end.__traceback__)
    if frames and _is_ours(frames[-1].filename):
        return end.code if isinstance(end.code, str) else None
    return own_code.described(end)


def _is_ours(file: str) -> bool:
    """Whether the file of a code object is in this package, wherever the package is."""
    return Path(file).is_relative_to(Path(_is_ours.__code__.co_filename).parents[1])
