"""SIGINT and SIGTERM in a command: the first stops it cleanly, the second ends it at once.

This module is imported first, so it imports as little as possible.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from harness.runfolder.status import ExitStatus

NUMBERS = (signal.SIGINT, signal.SIGTERM)
STOPPED = b"interrupted again: stopped at once; `python -m harness sync` delivers the rest\n"
_arrived: list[int] = []


def exit_at_the_first() -> None:
    """From now on, a signal ends this process at once and silently: nothing exists yet.

    An exception in the middle of an import would show as an error of some library.
    """
    for number in NUMBERS:
        signal.signal(number, lambda *_: os._exit(ExitStatus.INTERRUPTED))


def raise_at_the_first() -> None:
    """From now on, the first signal raises `KeyboardInterrupt`, which ends unfinished work."""
    for number in NUMBERS:
        signal.signal(number, _interrupt)


def exit_at_the_next() -> None:
    """From now on a signal ends this process at once."""
    for number in NUMBERS:
        signal.signal(number, _exit)


def interrupt_at_end_of_input() -> None:
    """From now on the end of standard input is an interrupt: the process at its other end died."""
    threading.Thread(target=_await_end_of_input, daemon=True).start()


def raise_again() -> None:
    """Raise `KeyboardInterrupt` again if a signal arrived and a library swallowed the first."""
    if _arrived:
        raise KeyboardInterrupt


@contextmanager
def setting_event() -> Iterator[threading.Event]:
    """Let the first signal set an event, instead of raising in the middle of a library.

    The threads that wait for jobs see the event and stop them; then the command ends as usual. The
    second signal ends it at once.
    """
    stop = threading.Event()

    def first(number: int, frame: FrameType | None) -> None:
        exit_at_the_next()
        stop.set()

    before = [signal.signal(number, first) for number in NUMBERS]
    try:
        yield stop
    finally:
        if signal.getsignal(signal.SIGINT) is first:
            for number, handler in zip(NUMBERS, before, strict=True):
                signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _arrived.append(number)
    exit_at_the_next()
    raise KeyboardInterrupt


def _exit(number: int, frame: FrameType | None) -> None:
    """End at once; jobs and delivery see it on their pipes and end as well."""
    with suppress(OSError):  # not `print`: the signal may have come in the middle of one
        os.write(1, STOPPED)
    os._exit(ExitStatus.INTERRUPTED)


def _await_end_of_input() -> None:
    while os.read(0, 1):
        continue
    os.kill(os.getpid(), signal.SIGINT)
