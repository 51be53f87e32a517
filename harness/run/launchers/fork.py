"""The command's side of a job that the server forks (job/forkserver.py).

Like prestart.py, it imports as little as possible.
"""

import math
import os
import select
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from harness.job.forkserver import NUMBER


class Fork:
    """A job that the server forked; implements the subset of `subprocess.Popen` that is used."""

    def __init__(self, stdin: BinaryIO, status_fd: int) -> None:
        """stdin: the job's. status_fd: pipe with the job's pid and, later, its exit status.

        Raises `ConnectionError` when there is no job: the server died or refused.
        """
        self.stdin, self._status_fd = stdin, status_fd
        self.returncode: int | Any = None  # the type that `Popen` declares
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
            if code is None:  # the server was killed, and probably the job too
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
