"""The job processes that are prepared before they have a folder to train.

A command begins with one, while it still imports, composes and checks. Therefore this module
imports next to nothing.
"""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from harness.job import forkserver
from harness.job.forkserver import Fork

JOB = (sys.executable, "-m", "harness.job")
Process = subprocess.Popen[bytes] | Fork
ELSEWHERE = ("hydra/launcher=slurm", "hydra/launcher=submitit_local")  # jobs start otherwise


class Spares:
    """Jobs that have imported what training needs. Leaving the context ends those not taken.

    On Linux they are forked from one process that has; elsewhere that one is the next job.
    """

    def __init__(self) -> None:
        self._prepared: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """See that one is prepared when it is needed. Any thread may call it."""
        with self._lock:
            if self._prepared is not None and self._prepared.poll() is None:
                return
            self._end()  # it died
            if forkserver.AVAILABLE:
                self._requests, theirs = socket.socketpair()
                with theirs:
                    self._prepared = start("--forking", theirs.fileno())
            else:
                self._prepared = start()

    def start_for(self, arguments: Sequence[str]) -> None:
        """Start what a command of these arguments will need first."""
        if any(text.startswith("-") and text not in ("-m", "--multirun") for text in arguments):
            return  # it only shows something
        if not any(text in ELSEWHERE for text in arguments):
            self.start()

    def take(self) -> Process:
        """One that is prepared, or a new one. Any thread may call it."""
        self.start()
        with self._lock:
            requests = self._requests
            if requests is None:
                job, self._prepared = self._prepared, None
                return job or start()
        try:
            return forkserver.fork(requests)
        except OSError:  # the server died just now, or the source has changed
            return start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._requests is not None:
            self._requests.close()
        if self._prepared is not None:
            with self._prepared as process:
                process.kill()
        self._prepared = self._requests = None


def start(how: str = "--attached", stdin: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
    """A job that waits for its folder. Until it listens to signals, Ctrl-C is not for it."""
    mask = getattr(signal, "pthread_sigmask", None)
    before = mask(signal.SIG_BLOCK, {signal.SIGINT}) if mask else None  # the child inherits it
    try:
        return subprocess.Popen((*JOB, how), stdin=stdin)
    finally:
        if mask:
            mask(signal.SIG_SETMASK, before)
