"""Pre-started job processes: imports done, waiting for a run folder.

On Linux, a server process that has imported everything forks the jobs (job/forkserver.py);
elsewhere the next job is started in advance. A command does this before its own imports and checks,
so this module imports as little as possible.
"""

import socket
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from harness.job import forkserver
from harness.run.launchers.base import LauncherError
from harness.run.launchers.fork import Fork, fork_job
from harness.runfolder import ctrl_c, interpreter

JOB = tuple(interpreter.running("harness.job"))


Process = subprocess.Popen[bytes] | Fork


class Prestart:
    """The pre-started jobs of a command. Unused ones are killed on exit of the context."""

    def __init__(self) -> None:
        self._prepared: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._lock = threading.Lock()
        self._numba_failure: str | None = None

    def start(self) -> None:
        """Start the server, or the next job, unless it is running. Thread-safe.

        If no process can be started, nothing is prepared; the job that needs one reports why.
        """
        with self._lock:
            if self._prepared is not None and self._prepared.poll() is None:
                return
            self._end()  # it died
            try:
                self._start()
            except LauncherError:
                self._end()

    def _start(self) -> None:
        if forkserver.AVAILABLE:
            self._requests, theirs = socket.socketpair()
            with theirs:
                self._prepared = start_job("--forking", theirs.fileno())
        else:
            self._prepared = start_job()

    def start_for(self, arguments: Sequence[str]) -> None:
        """Start what a command with these arguments will need.

        Importing Hydra's parser would take too long here, so the arguments are compared as text. A
        wrong guess only costs an unused process.
        """
        training = ("-m", "--multirun", "-cd", "--config-dir", "--ids")
        if any(text.startswith("-") and text not in training for text in arguments):
            return  # the command only prints something
        if "hydra/launcher=slurm" not in arguments:
            self.start()

    def numba_failure(self) -> str:
        """Why jobs cannot use Numba, in words; empty if they can.

        The server always loads Numba, so this waits for the server. Without one, this process loads
        it. A server that dies is restarted once, because someone may have killed it.
        """
        if self._numba_failure is None:
            self._numba_failure = self._load_numba()
        return self._numba_failure

    def _load_numba(self) -> str:
        for _ in range(2):
            self.start()
            if self._requests is None:
                from harness.nn.compiled import numba_loading

                return numba_loading.obstacle() or numba_loading.failure() or ""
            if line := _line(self._requests):
                return line.rstrip("\n")
            if self._prepared is not None:
                self._prepared.wait()
        return "loading Numba crashed the process; reinstall Numba"

    def take(self) -> Process:
        """A job that waits for its run folder, pre-started if possible. Thread-safe."""
        self.start()
        with self._lock:
            requests = self._requests
            if requests is None:
                job, self._prepared = self._prepared, None
                return job or start_job()
        try:
            return fork_job(requests)
        except OSError:  # the server died just now, or the source has changed
            return start_job()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._requests is not None:
            self._requests.close()
        if self._prepared is not None:
            with self._prepared as process:
                process.kill()
        self._prepared = self._requests = None


def _line(connection: socket.socket) -> str:
    """The next line; empty if the connection closes before the line ends."""
    content = b""
    with suppress(ConnectionError):
        while more := connection.recv(4096):
            content += more
            if more.endswith(b"\n"):
                return content.decode()
    return ""


def start_job(how: str = "--attached", stdin: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
    """Start a job that waits for its run folder.

    Raises `LauncherError` when the system refuses a process.
    """
    try:
        with ctrl_c.held_back():
            return subprocess.Popen((*JOB, how), stdin=stdin)
    except OSError as error:
        raise LauncherError(f"no process for a job can be started: {error}") from error
