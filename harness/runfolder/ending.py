"""The end of a command is its own: the user's code cannot end it with the exit status of success.

A module that calls `os._exit(0)` while a command imports it would end the command without a word.
A job needs none of this: its end record says how it ended.
"""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.runfolder import own_code

ENDS = ("_exit", "execv", "execve")  # what ends a process, or turns it into another program


def guard() -> None:
    """From now on `os._exit` and `os.exec...` raise `SystemExit` with a line.

    The harness itself may call them, and so may a process that this one forked.
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
    """What is wrong with a `SystemExit` that does not come from the harness, a line; else None."""
    frames = traceback.extract_tb(end.__traceback__)
    if frames and _is_ours(frames[-1].filename):
        return end.code if isinstance(end.code, str) else None
    return own_code.described(end)


def _is_ours(file: str) -> bool:
    """Whether the file of a code object is in this package, wherever that was imported from."""
    return Path(file).is_relative_to(Path(_is_ours.__code__.co_filename).parents[1])
