"""The main training command.

    python -m harness.run [KEY=VALUE ...]              one run
    python -m harness.run -m batch=16,64,128           a sweep

Exit status: 0 done and delivered, 1 a job failed, 2 bad input, 3 trained but not yet delivered,
130 interrupted.
"""

import os
import sys

from harness.run import signals
from harness.runfolder.status import ExitStatus


def main() -> None:
    """The console script `harness-run`."""
    signals.exit_at_the_first()  # before the slow imports below
    from harness.run.launchers.prestart import Prestart
    from harness.runfolder import ending, streams
    from harness.tracking import environment

    streams.protect()
    ending.guard()
    environment.set_up(os.environ)
    arguments = sys.argv[1:]
    try:
        with Prestart() as prestart:
            prestart.start_for(arguments)
            from harness.run.command import command  # imports while the first job starts

            try:
                status = command(arguments, prestart)
            except BaseException:  # errors of Rust extensions are not an `Exception`
                signals.raise_again()
                raise
    except KeyboardInterrupt:
        status = ExitStatus.INTERRUPTED
    except SystemExit as end:  # from the argument parser or the user's code
        if (problem := ending.problem(end)) is None:
            raise
        print(f"error: {problem}", file=sys.stderr, flush=True)
        status = ExitStatus.FAILED
    if lost := streams.lost():
        print(f"standard output: {lost.strerror}; the rest is not shown", file=sys.stderr)
        sys.stderr.flush()
    os._exit(status)  # everything is written; a regular exit takes as long as an epoch


if __name__ == "__main__":
    main()
