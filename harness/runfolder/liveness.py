"""Tell whether the process that trains a run is alive, by lock, host, pid and start time."""

import errno
import os
import socket
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from harness.runfolder.journal import Record
from harness.runfolder.optional import attempt

HOST = attempt("host", socket.gethostname, "unknown")
CLOCK_S = 2.0  # start times count from the boot; setting the clock moves them


class FolderLock(FileLock):
    """A lock file that does not create its folder, so a removed folder stays removed.

    `acquire` raises `FileNotFoundError` naming the folder if it is missing.
    """

    def acquire(self, *arguments: Any, **named: Any) -> Any:
        """Like `FileLock.acquire`, which would create the folder."""
        folder = Path(self.lock_file).parent
        if not folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        return super().acquire(*arguments, **named)


def lock(folder: Path, wait_s: float = 5.0) -> FileLock:
    """The lock that the process training a run holds; the system releases it with the process.

    wait_s: timeout in seconds; liveness checks and tagging hold the lock only briefly.
    """
    return FolderLock(folder / ".lock", timeout=wait_s)


def claim(folder: Path) -> FileLock:
    """The lock of a command whose job trains a run; the system releases it with the command.

    The command holds it from before the job starts until another command can use the run.
    """
    return FolderLock(folder / ".claim.lock", timeout=0)


def is_locked(folder: Path) -> bool:
    """Whether a process holds the run's lock; False if the folder was removed."""
    try:
        with lock(folder, 0):
            return False
    except Timeout:
        return True
    except FileNotFoundError:
        return False
    except OSError:  # this user can only read: test the lock without writing
        return _is_held(folder / ".lock")


def _is_held(path: Path) -> bool:
    """Whether another process holds a lock file that this user cannot write to."""
    if os.name == "nt":
        return False
    import fcntl

    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # it does not exist or cannot even be read
        return False
    return False


def this_process() -> dict[str, Any]:
    """Host, pid and start time of this process, for a start record."""
    return {"host": HOST, "pid": os.getpid(), "process_started": psutil.Process().create_time()}


def is_running(start: Record) -> bool:
    """Whether the process of a start record runs here; its start time reveals a reused pid."""
    if start["host"] != HOST or "process_started" not in start:
        return False
    try:
        process = psutil.Process(start["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        started = process.create_time()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # another user's process
        return True
    return bool(abs(started - start["process_started"]) < CLOCK_S)
