"""Single key presses, as a terminal sends them."""

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

UP, DOWN, ESCAPE = "up", "down", "escape"
SEQUENCES = {b"\x1b[A": UP, b"\x1bOA": UP, b"\x1b[B": DOWN, b"\x1bOB": DOWN, b"\x1b": ESCAPE}
Wait = Callable[[float], str | None]


@contextmanager
def keyboard() -> Iterator[Wait]:
    """Yield a function that waits some seconds for a key and returns it, None when none came.

    Nothing that is typed is shown meanwhile; Ctrl-C stays an interrupt. A standard input that ends
    is `escape`.
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
        yield lambda seconds: _wait(number, seconds)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _wait(number: int, seconds: float) -> str | None:
    if not select.select([number], [], [], seconds)[0]:
        return None
    typed = os.read(number, 16)
    return SEQUENCES.get(typed, typed.decode(errors="replace")[:1]) if typed else ESCAPE


def _wait_windows(seconds: float) -> str | None:
    import time

    time.sleep(seconds)  # Ctrl-C ends it
    return None
