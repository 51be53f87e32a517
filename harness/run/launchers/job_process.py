"""One job in its own process: give it a run to train, and wait for its end."""

import json
import subprocess
import sys
from contextlib import suppress
from typing import Self

from harness.run.launchers.prestart import Process
from harness.runfolder.journal import JournalError
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus

GRACE_S = 20.0
INTERRUPTED = "interrupted"
LOG = "job.log"


class JobProcess:
    """A job, connected to this process by a pipe: if this process dies, the job ends.

    process: a job that waits for its run folder. quiet: its output goes to `job.log` in the run
    folder. cores: how many it may use; None: all. alone: the caller prints its failure at once, so
    the job does not. pause: the epoch after which it ends; None: the last one. Leaving the context
    ends the job if it still runs, and gives it time to write its end record.
    """

    def __init__(
        self,
        run: Run,
        process: Process,
        *,
        quiet: bool = False,
        cores: int | None = None,
        alone: bool = False,
        pause: int | None = None,
    ) -> None:
        self.run = run
        self._process = process
        log = str(run.folder / LOG) if quiet else None
        order = {"folder": str(run.folder), "name": run.name, "log": log, "cores": cores}
        order |= {"alone": alone, "pause": pause}
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it died; `wait` reports it
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()

    def wait(self, timeout: float | None = None) -> RunStatus | None:
        """Wait for the job to end; returns the run's status from its journal.

        Returns None if it still runs after `timeout` seconds.
        """
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        return self._close(_cause(self._process.returncode), started=False)

    def end(self) -> None:
        """End the job if it still runs: cleanly within 20 s, else with SIGKILL."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close(INTERRUPTED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _close(self, error: str, *, started: bool = True) -> RunStatus:
        """Write the end record that a dead job could not write."""
        killed = self._process.returncode < 0 or error == INTERRUPTED
        status = RunStatus.KILLED if killed else RunStatus.FAILED
        try:
            return self.run.close_abandoned(status, error, started=started).status
        except (OSError, JournalError) as problem:  # other runs are not affected
            print(f"{self.run.id}: {error}; {problem}", file=sys.stderr)
            return status


def _cause(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit status {code} and no end record"
    cause = ", as the system does when memory runs out" if code == -9 else ""
    return f"its process was ended by signal {-code}{cause}"
