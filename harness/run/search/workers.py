"""The commands that work on one search at the same time: who lives, and whose turn it is."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.runfolder.folder import Busy

LOCKS = "workers"
TURN_S = 120.0  # a turn takes a fraction of a second


class Workers:
    """The commands of a search that have its folder in common.

    Each holds a lock file in `workers/`, which the system releases with its process.
    """

    def __init__(self, folder: Path) -> None:
        """folder: of the search. It need not exist yet."""
        self.id = secrets.token_hex(6)
        self._folder = folder
        self._lock: FileLock | None = None
        self._thread = threading.RLock()
        self._turn = FileLock(folder / ".lock", timeout=TURN_S)

    def enter(self) -> None:
        """From now on, until this process exits, this command is one of them."""
        if self._lock is not None:
            return
        with self.turn():
            folder = self._folder / LOCKS
            folder.mkdir(exist_ok=True)
            alive = self.others()
            for path in folder.glob("*.lock"):
                if path.stem not in alive:
                    path.unlink()  # of one that has ended; others enter in turns
            self._lock = FileLock(folder / f"{self.id}.lock", timeout=5)
            self._lock.acquire()

    def others(self) -> set[str]:
        """The other commands that live."""
        live = set()
        for path in (self._folder / LOCKS).glob("*.lock"):
            if path.stem == self.id:
                continue
            try:
                with FileLock(path, timeout=0):
                    continue
            except Timeout:
                live.add(path.stem)
        return live

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One command and thread at a time: what is read in a turn is true until it ends.

        A turn within a turn is the same one. Raises `Busy`.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._thread:
            try:
                held = self._turn.acquire()
            except Timeout:
                raise Busy(
                    f"{self._turn.lock_file}: another command has held it for {TURN_S:.0f} s; end "
                    "that one, or wait for it"
                ) from None
            with held:
                yield
