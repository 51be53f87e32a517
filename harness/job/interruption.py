"""SIGINT and SIGTERM in a job: the first one ends the run cleanly, later ones are ignored."""

import signal
import threading
from types import FrameType

from harness.runfolder.history import PAUSED

requested = threading.Event()


class JobInterrupted(KeyboardInterrupt):
    """SIGINT, SIGTERM, or the end of the command that started this job."""

    why = "interrupted"


class Stopped(JobInterrupted):
    """`harness stop`, obeyed at the end of an epoch."""

    why = "stopped by `harness stop`"


class Paused(JobInterrupted):
    """The search that started the job continues the training later, if it is worth it."""

    why = PAUSED


def raise_on_signal() -> None:
    """From now on the first signal raises `JobInterrupted`."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)


def ignore_signals() -> None:
    """From now on SIGINT and SIGTERM do nothing."""
    # Not SIG_IGN: Python complains when one has arrived but is not handled yet.
    signal.signal(signal.SIGINT, _nothing)
    signal.signal(signal.SIGTERM, _nothing)


def _interrupt(number: int, frame: FrameType | None) -> None:
    ignore_signals()  # later ones must not disturb writing the end record
    requested.set()
    raise JobInterrupted


def _nothing(number: int, frame: FrameType | None) -> None:
    """Do nothing."""
