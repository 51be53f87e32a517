"""Starting jobs on run folders, one process each, and seeing them end."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.run.launchers.prestart import Process, start
from harness.runfolder import folder as runs
from harness.runfolder import journal

GRACE_S = 20.0
INTERRUPTED = "interrupted"
LOG = "job.log"


class JobProcess:
    """A job in its own process, bound to this one by a pipe: when this process dies, it ends.

    spare: what `Spares` gave, to save the time of a start. quiet: what the job prints goes to
    `job.log` in its run folder. cores: how many it may use; None leaves them all. Leaving the
    context ends the job if it still runs, giving it time for its last record.
    """

    def __init__(
        self,
        folder: Path,
        *,
        spare: Process | None = None,
        quiet: bool = False,
        cores: int | None = None,
    ) -> None:
        self.folder = folder
        self._process = spare or start()
        order = {"folder": str(folder), "log": str(folder / LOG) if quiet else None, "cores": cores}
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died; `wait` says so
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    def wait(self, timeout: float | None = None) -> str | None:
        """Wait for the job to end; returns FINISHED, FAILED or KILLED as its journal says.

        None: it still runs after `timeout` seconds.
        """
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        return self._close(_last_words(self._process.returncode), begun=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close(INTERRUPTED)

    def _close(self, why: str, *, begun: bool = True) -> str:
        status = "KILLED" if self._process.returncode < 0 or why == INTERRUPTED else "FAILED"
        try:
            return runs.close_abandoned(self.folder, status, why, begun=begun).status
        except (OSError, journal.JournalError) as error:  # of this run; the others go on
            print(f"{self.folder.name}: {why}; {error}", file=sys.stderr)
            return status


def _last_words(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit status {code} and no last record"
    cause = ", as the system does when memory runs out" if code == -9 else ""
    return f"its process was ended by signal {-code}{cause}"
