"""Pre-started job processes: imports done, waiting for a run folder.

On Linux, a server process that has imported everything forks the jobs (job/forkserver.py);
elsewhere the next job is started in advance. A command does that first, before its own imports and
checks, so this module imports as little as possible.
"""

import math
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

from harness.job import forkserver
from harness.job.forkserver import NUMBER
from harness.run.launchers.base import LauncherError

JOB = (sys.executable, "-m", "harness.job")


class Fork:
    """A job that the server forked; implements the subset of `subprocess.Popen` that is used."""

    def __init__(self, stdin: BinaryIO, status_fd: int) -> None:
        """stdin: the job's. status_fd: pipe with the job's pid and, later, its exit status.

        Raises `ConnectionError` when there is no job: the server died or refused.
        """
        self.stdin, self._status_fd = stdin, status_fd
        self.returncode: int | Any = None  # typed as `Popen` has it
        pid = self._number()
        if pid is None or pid <= 0:  # zero or less: the status of a job that died before its pid
            stdin.close()
            os.close(status_fd)
            raise ConnectionError("no job was forked")
        self.pid = pid

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._status_fd, select.POLLIN)
            if not poll.poll(None if timeout is None else 1000 * timeout):
                raise subprocess.TimeoutExpired("a forked job", timeout or 0)
            code = self._number()
            if code is None:  # the server was killed, and the job probably as well
                code = -signal.SIGKILL
                deadline = math.inf if timeout is None else time.monotonic() + timeout
                while not self._is_dead():  # its locks are released after its pipes
                    if time.monotonic() > deadline:
                        raise subprocess.TimeoutExpired("a forked job", timeout or 0)
                    time.sleep(0.01)
            self.returncode = code
            os.close(self._status_fd)
        return self.returncode

    def kill(self) -> None:
        """Send SIGKILL."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _is_dead(self) -> bool:
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return True
        return stat.rpartition(") ")[2].startswith(("Z", "X"))

    def _number(self) -> int | None:
        content = os.read(self._status_fd, NUMBER.size)
        return NUMBER.unpack(content)[0] if content else None


Process = subprocess.Popen[bytes] | Fork


class Prestart:
    """The pre-started jobs of a command. Unused ones are killed on exit of the context."""

    def __init__(self) -> None:
        self._prepared: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._lock = threading.Lock()
        self._numba_failure: str | None = None

    def start(self) -> None:
        """Start the server, or the next job, unless it is there. Thread-safe.

        Where no process can be started, nothing is prepared; the job that needs one says why.
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

        Hydra's parser takes longer to import than this may take, so the arguments are compared as
        text; a wrong guess costs a process that is not used.
        """
        training = ("-m", "--multirun", "-cd", "--config-dir", "--ids")
        if any(text.startswith("-") and text not in training for text in arguments):
            return  # the command only prints something
        if "hydra/launcher=slurm" not in arguments:
            self.start()

    def numba_failure(self) -> str:
        """Why jobs cannot use Numba, in words, empty when they can.

        The server loads it in any case, so that this waits for the server. Without one, this loads
        it here. A server that dies is started once more, as somebody may have killed it.
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
        return "Numba ended the process that loaded it; repair it"

    def take(self) -> Process:
        """A job that waits for its run folder, prepared if there is one. Thread-safe."""
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
    """The next line; empty when the connection ends before it does."""
    content = b""
    with suppress(ConnectionError):
        while more := connection.recv(4096):
            content += more
            if more.endswith(b"\n"):
                return content.decode()
    return ""


def start_job(how: str = "--attached", stdin: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
    """Start a job that waits for its run folder; SIGINT is blocked until it has a handler.

    Raises `LauncherError` when the system refuses a process.
    """
    mask = getattr(signal, "pthread_sigmask", None)
    before = mask(signal.SIG_BLOCK, {signal.SIGINT}) if mask else None  # the child inherits it
    try:
        return subprocess.Popen((*JOB, how), stdin=stdin)
    except OSError as error:
        raise LauncherError(f"no process for a job can be started: {error}") from error
    finally:
        if mask:
            mask(signal.SIG_SETMASK, before)


def fork_job(server: socket.socket) -> Fork:
    """Ask the server for a job. Thread-safe. Raises `OSError` when it does not fork one."""
    job_stdin, stdin = os.pipe()
    status_fd, job_status_fd = os.pipe()
    try:
        socket.send_fds(server, [b"j"], [job_stdin, job_status_fd])
    except OSError:
        os.close(stdin)
        os.close(status_fd)
        raise
    finally:
        os.close(job_stdin)
        os.close(job_status_fd)
    return Fork(os.fdopen(stdin, "wb", buffering=0), status_fd)
