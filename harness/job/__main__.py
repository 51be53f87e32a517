"""One job: train one run folder in this process.

    python -m harness.job outputs/runs/<run id>

Exit status: 0 finished, 1 failed, 130 interrupted. With `--attached` instead of a folder, standard
input is a pipe from the command that started the job. One line names the folder. When the command
dies, the pipe closes and the job ends as KILLED (see parent.py). With `--forking`, standard input
is a socket on which the command requests such jobs (see forkserver.py).
"""

import argparse
import faulthandler
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from filelock import Timeout

from harness.job import forkserver, interruption, parent
from harness.job.train import ask_git, prepare, train
from harness.runfolder import ctrl_c, streams
from harness.runfolder.journal import JournalError
from harness.runfolder.run import Run
from harness.runfolder.status import ExitStatus, RunStatus

EXIT = {
    RunStatus.FINISHED: ExitStatus.DONE,
    RunStatus.FAILED: ExitStatus.FAILED,
    RunStatus.KILLED: ExitStatus.INTERRUPTED,
}


def main() -> None:
    """The command line of a job."""
    streams.protect()
    arguments = _arguments()
    folder, name, alone, pause = arguments.folder, "", False, None
    if folder is None:
        order = _order_from_parent(forking=arguments.forking)
        if order is None:
            return
        folder, name, alone, pause = order.folder, order.name, order.alone, order.pause
    with suppress(OSError):  # standard error is closed
        faulthandler.enable(2)  # a crash in a library prints the Python stack
    interruption.raise_on_signal()
    if arguments.folder is None:
        threading.Thread(target=parent.watch, daemon=True).start()
    status = ExitStatus.FAILED
    try:
        # The command has claimed the run: another job that trains it belongs to a dead command.
        wait_s = parent.END_RECORD_S + 5 if arguments.folder is None else 5
        status = EXIT[train(_run(folder, name), alone=alone, wait_s=wait_s, pause=pause)]
    except interruption.JobInterrupted:  # while it waited
        status = ExitStatus.INTERRUPTED
    except Timeout:
        print(f"{folder}: another process is training it", file=sys.stderr)
    except (OSError, JournalError) as error:
        print(error, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # everything is durable; a regular exit takes as long as an epoch


def _run(folder: Path, name: str) -> Run:
    """Open a run folder, with this name. Raises `JournalError` if it is not one."""
    run = Run(folder.resolve(), name)
    if not run.journal.is_file():
        raise JournalError(f"{folder}: expected a run folder, outputs/runs/<run id>")
    return run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m harness.job")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("folder", type=Path, nargs="?", help="a run folder, outputs/runs/<run id>")
    source.add_argument(
        "--attached", action="store_true", help="read the folder from standard input; EOF ends it"
    )
    source.add_argument(
        "--forking", action="store_true", help="fork such a job for each request on standard input"
    )
    return parser.parse_args()


def _order_from_parent(*, forking: bool) -> parent.Order | None:
    """The command's order; None if it closed the pipe first."""
    ctrl_c.ignore()  # the command handles it and closes the pipe
    if not forking:
        parent.preload()
        return parent.read_order()
    source = forkserver.source_state()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it is ignored, exit statuses are lost
    git = threading.Thread(target=ask_git)
    git.start()
    numba_failure = parent.preload()

    def finish() -> None:
        prepare()
        git.join()  # before anything is forked

    forkserver.serve(source, numba_failure or "", finish)  # returns in the forked job
    return parent.read_order()


if __name__ == "__main__":
    main()
