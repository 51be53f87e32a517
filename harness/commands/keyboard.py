"""Read single key presses from a terminal."""

import os
import re
import select
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

UP, DOWN, ESCAPE = "up", "down", "escape"
SEQUENCES = {"\x1b[A": UP, "\x1bOA": UP, "\x1b[B": DOWN, "\x1bOB": DOWN, "\x1b": ESCAPE}
KEY = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
SEQUENCE_S = 0.05  # to wait for the rest of a key's characters on a slow connection
Wait = Callable[[float], str | None]


@contextmanager
def keyboard() -> Iterator[Wait]:
    """Yield a function that waits some seconds for a key and returns it, or None.

    Typed characters are not echoed meanwhile; Ctrl-C still interrupts. The end of standard input
    counts as `escape`.
    """
    try:
        import termios
        import tty
    except ImportError:  # Windows
        yield _wait_windows
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        typed: deque[str] = deque()
        yield lambda seconds: _wait(number, typed, seconds)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _wait(number: int, typed: deque[str], seconds: float) -> str | None:
    """The next key. typed: keys that arrived together with an earlier one."""
    if not typed:
        if not select.select([number], [], [], seconds)[0]:
            return None
        content = b""
        with suppress(OSError):  # the terminal was closed
            content = os.read(number, 1024)
        if content == b"\x1b" and select.select([number], [], [], SEQUENCE_S)[0]:
            content += os.read(number, 1024)
        typed.extend(keys(content.decode(errors="replace")) if content else [ESCAPE])
    return typed.popleft()


def keys(content: str) -> list[str]:
    """The keys that were pressed; a key without a name here is its raw characters."""
    return [SEQUENCES.get(each, each) for each in KEY.findall(content)]


def _wait_windows(seconds: float) -> str | None:
    import time

    time.sleep(seconds)  # Ctrl-C ends it
    return None
