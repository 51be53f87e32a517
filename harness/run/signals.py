"""What SIGINT and SIGTERM do to a command: the first ends it in peace, the second at once.

It imports next to nothing, because it comes before everything else.
"""

import os
import signal
from types import FrameType

INTERRUPTED = 130
NUMBERS = (signal.SIGINT, signal.SIGTERM)
_arrived: list[int] = []


def raise_at_the_first() -> None:
    """From now on the first signal raises `KeyboardInterrupt`."""
    for number in NUMBERS:
        signal.signal(number, _interrupt)


def leave_at_the_next() -> None:
    """From now on a signal ends this process at once."""
    for number in NUMBERS:
        signal.signal(number, _leave)


def raise_again() -> None:
    """Raise once more what the first signal raised, where it may have been taken for an error."""
    if _arrived:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    _arrived.append(number)
    leave_at_the_next()
    raise KeyboardInterrupt


def _leave(number: int, frame: FrameType | None) -> None:
    """Jobs and delivery are bound to this process and end with it."""
    print("interrupted again: left at once; `python -m harness sync` delivers the rest", flush=True)
    os._exit(INTERRUPTED)
