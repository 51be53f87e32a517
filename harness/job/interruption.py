"""Handle SIGINT and SIGTERM in a job: the first ends the run cleanly, later ones are ignored."""

import signal
import threading
from types import FrameType

from harness.runfolder.history import PAUSED

requested = threading.Event()


class JobInterrupted(KeyboardInterrupt):
    """SIGINT, SIGTERM, or the end of the command that started this job."""

    why = "interrupted"


class Stopped(JobInterrupted):
    """`harness stop` asked the run to stop; raised at the end of an epoch."""

    why = "stopped by `harness stop`"


class Paused(JobInterrupted):
    """The search that started the job pauses the training and may continue it later."""

    why = PAUSED


def raise_on_signal() -> None:
    """Make the first signal raise `JobInterrupted`."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)


def ignore_signals() -> None:
    """Make SIGINT and SIGTERM do nothing."""
    # Not SIG_IGN: Python complains if a signal has arrived but is not handled yet.
    signal.signal(signal.SIGINT, _nothing)
    signal.signal(signal.SIGTERM, _nothing)


def _interrupt(number: int, frame: FrameType | None) -> None:
    ignore_signals()  # later ones must not interrupt writing the end record
    requested.set()
    raise JobInterrupted


def _nothing(number: int, frame: FrameType | None) -> None:
    """Do nothing."""
