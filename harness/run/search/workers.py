"""The commands that work on one search at the same time: which are alive, and whose turn it is."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock, Timeout

from harness.runfolder import keys
from harness.runfolder.folder import Busy
from harness.runfolder.liveness import FolderLock

if TYPE_CHECKING:
    from sqlalchemy import Connection

LOCKS = "workers"
TURN_S = 120.0  # a turn takes a fraction of a second
TOO_LONG = "55P03"  # what PostgreSQL calls a lock that was waited for too long


class Workers(Protocol):
    """This command among those that work on a search. Thread-safe.

    id: of this one. It lives until its process ends.
    """

    id: str

    def enter(self) -> None:
        """From now on this command is one of them."""

    def others(self) -> set[str]:
        """The ids of the other living commands."""

    def turn(self) -> AbstractContextManager[None]:
        """One command and thread at a time: what is read in a turn stays true until it ends.

        A turn within a turn is the same one. Raises `Busy`.
        """


class FolderWorkers:
    """The commands of a search that have its folder in common. See `Workers`.

    Each holds a lock file in `workers/`, which the system releases with its process.
    """

    def __init__(self, folder: Path) -> None:
        """folder: of the search. It need not exist yet."""
        self.id = secrets.token_hex(6)
        self._folder = folder
        self._lock: FileLock | None = None
        self._thread = threading.RLock()
        self._turn = FolderLock(folder / ".lock", timeout=TURN_S)

    def enter(self) -> None:
        """See `Workers`."""
        if self._lock is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
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
        """See `Workers`."""
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
        """See `Workers`."""
        with self._thread:
            try:
                held = self._turn.acquire()
            except Timeout:
                raise _busy(self._turn.lock_file) from None
            with held:
                yield


class DatabaseWorkers:
    """The commands of a search whose trials are in a PostgreSQL database. See `Workers`.

    Each holds an advisory lock, which the database releases with its connection; that of a machine
    that is gone, after a minute. A command that loses its connection cannot go on: others take its
    trials over.
    """

    def __init__(self, uri: str, search: str) -> None:
        self.id = f"{secrets.randbelow(2**28 - 1) + 1:07x}"
        self._uri, self._search = uri, search
        self._key = int(keys.digest(["harness", search], 7), 16)
        self._thread = threading.RLock()
        self._connection: Connection | None = None
        self._is_in = False

    def enter(self) -> None:
        """See `Workers`."""
        if not self._is_in:
            self._ask("SELECT pg_advisory_lock(:key, :number)", number=int(self.id, 16))
            self._is_in = True

    def others(self) -> set[str]:
        """See `Workers`."""
        rows = self._ask(
            "SELECT DISTINCT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted "
            "AND objsubid = 2 AND classid = :key AND objid <> 0 AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return {f"{number:07x}" for (number,) in rows} - {self.id}

    @contextmanager
    def turn(self) -> Iterator[None]:
        """See `Workers`."""
        from sqlalchemy.exc import OperationalError, SQLAlchemyError

        with self._thread:
            try:
                self._ask("SELECT pg_advisory_lock(:key, 0)")
            except OperationalError as error:
                if getattr(error.orig, "sqlstate", getattr(error.orig, "pgcode", "")) != TOO_LONG:
                    raise
                raise _busy(f"the turn of search {self._search} in the database") from None
            unlock = "SELECT pg_advisory_unlock(:key, 0)"
            try:
                yield
            except BaseException:
                with suppress(SQLAlchemyError):  # with the connection, the lock is lost, too
                    self._ask(unlock)
                raise
            self._ask(unlock)

    def leave(self) -> None:
        """Release every lock."""
        if self._connection is not None:
            self._connection.close()

    def _ask(self, question: str, **values: Any) -> list[Any]:
        """The rows that answer a question, by the one connection that has the locks."""
        from sqlalchemy import text

        with self._thread:
            if self._connection is None:
                self._connection = _connect(self._uri)
            asked = values if ":key" not in question else {"key": self._key, **values}
            return list(self._connection.execute(text(question), asked).all())


def _connect(uri: str) -> "Connection":
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    engine = create_engine(uri, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    connection = engine.connect()
    for setting in (
        f"lock_timeout = {int(1000 * TURN_S)}",
        "tcp_keepalives_idle = 30",
        "tcp_keepalives_interval = 10",
        "tcp_keepalives_count = 3",
    ):
        connection.execute(text(f"SET {setting}"))
    return connection


def _busy(what: str) -> Busy:
    return Busy(
        f"{what}: another command has held it for {TURN_S:.0f} s; end that one, or wait for it"
    )
