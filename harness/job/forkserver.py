"""The fork server: a process that has imported everything and forks a job for each request.

Forking takes milliseconds. A fresh interpreter takes 0.5 s of CPU, which parallel jobs cannot
overlap because all cores are busy. `multiprocessing` has such a server too; the README's
"Decisions" says why it is not used.

The command imports this module first, so it imports as little as possible.

    command                     server                        job
       | <-- a line about Numba --- |
       |-- stdin, status fd ------> |                           |
       |                            |-- fork -----------------> |
       | <------------------------ its pid, on the status fd ---|
       |-- the run folder, on its stdin ----------------------> |
       |                            |     its process ends ----- x
       | <-- exit status, on the ---|
       |     status fd
"""

import gc
import os
import select
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
NUMBER = struct.Struct("i")
State = set[tuple[str, int, int]]


def _is_available() -> bool:
    """Whether this is Linux, 5.3 or later.

    Elsewhere, a process with these libraries loaded cannot be forked safely, or at all.
    """
    if sys.platform != "linux":
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


AVAILABLE = _is_available()


def serve(source: State, report: str, prepare: Callable[[], None]) -> None:
    """Fork a job for every request on standard input; returns in the job, never in the server.

    source: `source_state` when the server started. report: a line that is first sent to the
    command. prepare: called next, before any job is forked.

    A job's standard input is the pipe that came with the request, as if the command had started it.
    If the source has changed, requests are refused: the job would run the old source and record
    the new one. The server ends when the command closes the socket.
    """
    server = _Server(source)
    with suppress(BrokenPipeError):  # the command is gone
        server.requests.sendall(f"{report}\n".encode())
    prepare()
    gc.freeze()  # jobs' garbage collectors skip these objects, so pages stay shared
    server.run()


class _Server:
    """The server's sockets and its running jobs."""

    def __init__(self, source: State) -> None:
        self.source = source
        self.requests = socket.socket(fileno=0)
        self.poll = select.poll()
        self.poll.register(self.requests, select.POLLIN)
        self.jobs: dict[int, tuple[int, int]] = {}  # descriptor of a job's process: pid, status fd

    def run(self) -> None:
        """Serve; returns in the forked job."""
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor in self.jobs:
                    self._report_end(descriptor)
                elif self._answer():
                    return

    def _report_end(self, descriptor: int) -> None:
        self.poll.unregister(descriptor)
        pid, status_fd = self.jobs.pop(descriptor)
        _, status = os.waitpid(pid, 0)
        _write(status_fd, os.waitstatus_to_exitcode(status))
        _close(status_fd, descriptor)

    def _answer(self) -> bool:
        """Answer one request; True in the forked job."""
        try:
            request, received, _, _ = socket.recv_fds(self.requests, 1, 2, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:  # the command ended without reading the report
            request, received = b"", []
        if not request:
            os._exit(0)  # the command ended; its jobs detect that on their own pipes
        if len(received) < 2 or source_state() != self.source:
            _close(*received)
            return False
        stdin, status_fd = received
        try:
            pid = os.fork()
        except OSError:  # no memory, or too many processes: the command starts the job itself
            _close(stdin, status_fd)
            return False
        if pid == 0:
            _write(status_fd, os.getpid())
            os.dup2(stdin, self.requests.detach())
            # Close all of these: a process that outlives the job would keep them open and hide that
            # the job or the command has ended.
            _close(stdin, status_fd, *self.jobs, *(other for _, other in self.jobs.values()))
            return True
        _close(stdin)
        process = os.pidfd_open(pid)
        self.jobs[process] = pid, status_fd
        self.poll.register(process, select.POLLIN)
        return False


def source_state() -> State:
    """Path, time of change in ns and size of every source file; takes about a millisecond."""
    files = set()
    for entry in _sources(str(PACKAGE)):
        with suppress(FileNotFoundError):  # removed just now by an editor
            stat = entry.stat()
            files.add((entry.path, stat.st_mtime_ns, stat.st_size))
    return files


def _sources(folder: str) -> "Iterator[os.DirEntry[str]]":
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _sources(entry.path)
            elif entry.name.endswith(".py"):
                yield entry


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _write(status_fd: int, number: int) -> None:
    with suppress(BrokenPipeError):  # the command is gone
        os.write(status_fd, NUMBER.pack(number))
