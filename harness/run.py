"""The signature door.

    python -m harness.run [KEY=VALUE ...]              one run
    python -m harness.run -m batch=16,64,128           a sweep

Exit status: 0 done and delivered, 1 a job failed, 2 bad input, 3 trained but not yet delivered,
130 interrupted.
"""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

from harness.spares import Spares

INTERRUPTED = 130  # as in closing.py, whose import takes what this module is to save


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)
    raise KeyboardInterrupt


def _leave(number: int, frame: FrameType | None) -> None:
    """The second time at once: jobs and delivery are bound to this process and end with it."""
    print("interrupted again: left at once; `python -m harness sync` delivers the rest", flush=True)
    os._exit(INTERRUPTED)


def main() -> None:
    """The console script `harness-run`."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    arguments = sys.argv[1:]
    try:
        with Spares() as spares:
            spares.start_for(arguments)
            from harness.command import command  # meanwhile

            status = command(arguments, spares)
    except KeyboardInterrupt:
        status = INTERRUPTED
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)  # all is written; taking the interpreter apart takes as long as an epoch


if __name__ == "__main__":
    main()
