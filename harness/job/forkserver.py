"""A process that has imported what training needs, and forks a job whenever the command asks.

A fork takes milliseconds, a start of its own half a second of a core; jobs that train side by side
leave no core idle to hide that on. `multiprocessing` has such a server too, but its jobs import the
command's main module again, and when it dies all its jobs count as dead.

The command imports this module before anything else; therefore it imports next to nothing.
"""

import gc
import math
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

# Elsewhere processes with such libraries loaded cannot be forked safely, or not at all.
AVAILABLE = sys.platform == "linux"
PACKAGE = Path(__file__).parents[1]
NUMBER = struct.Struct("i")


class Fork:
    """A job that the server forked, with what `subprocess.Popen` has of a process."""

    def __init__(self, stdin: BinaryIO, told: int) -> None:
        """stdin: the job's. told: where it writes its pid, and the server its exit status later.

        Raises `ConnectionError` when there is none: the server died, or declined.
        """
        self.stdin, self._told = stdin, told
        self.returncode: int | Any = None  # as `Popen` has it
        pid = self._number()
        if pid is None or pid <= 0:  # the end of one that died before it could say more
            stdin.close()
            os.close(told)
            raise ConnectionError("no job was forked")
        self.pid = pid

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status. Raises `subprocess.TimeoutExpired` after so many seconds."""
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._told, select.POLLIN)
            if not poll.poll(None if timeout is None else 1000 * timeout):
                raise subprocess.TimeoutExpired("a forked job", timeout or 0)
            code = self._number()
            if code is None:  # the server was killed before, and the job probably as it was
                code = -signal.SIGKILL
                deadline = math.inf if timeout is None else time.monotonic() + timeout
                while not self._is_dead():  # its locks go after its pipes
                    if time.monotonic() > deadline:
                        raise subprocess.TimeoutExpired("a forked job", timeout or 0)
                    time.sleep(0.01)
            self.returncode = code
            os.close(self._told)
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
        found = os.read(self._told, NUMBER.size)
        return NUMBER.unpack(found)[0] if found else None


def fork(server: socket.socket) -> Fork:
    """Ask the server at the other end for a job. Any thread may.

    Raises `OSError` when there is none to be had there.
    """
    job_stdin, stdin = os.pipe()
    told, telling = os.pipe()
    try:
        socket.send_fds(server, [b"j"], [job_stdin, telling])
    except OSError:
        os.close(stdin)
        os.close(told)
        raise
    finally:
        os.close(job_stdin)
        os.close(telling)
    return Fork(os.fdopen(stdin, "wb", buffering=0), told)


def serve() -> None:
    """Fork a job for every request on standard input. Returns in the jobs; ends with the command.

    A job's standard input is the pipe that came with the request, as if the command had started it.
    When the source has changed meanwhile, no job is forked: it would be half of the old source, and
    what it writes down about itself would be of the new one.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, no end has a status
    source = _source()
    gc.freeze()  # the collector of a job touches none of these pages, so they stay shared
    requests = socket.socket(fileno=0)
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    jobs: dict[int, tuple[int, int]] = {}  # a pipe that closes when a job dies: its pid, `telling`
    while True:
        for descriptor, _ in poll.poll():
            if descriptor in jobs:
                poll.unregister(descriptor)
                pid, telling = jobs.pop(descriptor)
                _, status = os.waitpid(pid, 0)
                _tell(telling, os.waitstatus_to_exitcode(status))
                _close(telling, descriptor)
                continue
            asked, received, _, _ = socket.recv_fds(requests, 1, 2, socket.MSG_CMSG_CLOEXEC)
            if not asked:
                os._exit(0)  # the command ended, and its jobs see that themselves
            if len(received) < 2 or _source() != source:
                _close(*received)
                continue
            stdin, telling = received
            life, alive = os.pipe()
            try:
                pid = os.fork()
            except OSError:  # no memory, or too many processes: the command tries itself
                _close(stdin, telling, life, alive)
                continue
            if pid == 0:
                _tell(telling, os.getpid())
                os.dup2(stdin, requests.detach())
                _close(stdin, life, *jobs, *(other for _, other in jobs.values()))
                return  # `alive` and `telling` close when it dies
            _close(stdin, alive)
            jobs[life] = pid, telling
            poll.register(life, select.POLLIN)


def _source() -> set[tuple[Path, int, int]]:
    """What the package's files are, as far as looking at them costs a millisecond."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        with suppress(FileNotFoundError):  # an editor's, or just now replaced
            stat = path.stat()
            found.add((path, stat.st_mtime_ns, stat.st_size))
    return found


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _tell(telling: int, number: int) -> None:
    with suppress(BrokenPipeError):  # the command is gone
        os.write(telling, NUMBER.pack(number))
