"""Where the trials of searches are: `outputs/optuna.db`, or a PostgreSQL database."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from harness.run.search.workers import DatabaseWorkers, FolderWorkers, Workers
from harness.runfolder import removed
from harness.runfolder.config import ConfigError
from harness.runfolder.plan import sweeps_folder
from harness.runfolder.target import problem, shown
from harness.tracking import driver

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

DATABASE = "optuna.db"
FROZEN = "search.json"  # what a search started with
KEY = "hydra.sweeper.storage"
POSTGRESQL = "postgresql"
START_IT = "start the database, or correct the address, the password or the user's rights"
EXPECTED = f"expected {POSTGRESQL}://USER@HOST/NAME, or null for outputs/{DATABASE}"


@dataclass(frozen=True)
class Storage:
    """A database of trials. uri: of a PostgreSQL one; None for the file in `outputs`."""

    outputs: Path
    uri: str | None = None

    @classmethod
    def of(cls, outputs: Path, search: str) -> "Storage":
        """That of a search, by what it started with, also if it was removed."""
        for folder in (outputs, removed.place(outputs)):
            path = sweeps_folder(folder) / search / FROZEN
            try:
                return cls(outputs, json.loads(path.read_text()).get(KEY))
            except (OSError, ValueError, AttributeError):  # the next command names what is damaged
                continue
        return cls(outputs)

    @property
    def path(self) -> Path:
        """The file in `outputs`."""
        return self.outputs.resolve() / DATABASE

    def __str__(self) -> str:
        return str(self.path) if self.uri is None else shown(self.uri)

    def workers(self, search: str) -> Workers:
        """This command among those that work on a search."""
        if self.uri is not None:
            return DatabaseWorkers(self.uri, search)
        return FolderWorkers(sweeps_folder(self.outputs) / search)

    def is_there(self) -> bool:
        """Whether there can be trials in it."""
        return self.uri is not None or self.path.is_file()

    def check(self) -> None:
        """Raise `ConfigError` if it is damaged or unreachable, or its tables cannot be made."""
        if self.uri is not None:
            self._check_address(self.uri)
            with self.lock():
                self.open()  # which makes its tables
            return
        if not self.path.is_file():
            return
        try:
            address = f"{self.path.as_uri()}?mode=rw"
            with closing(sqlite3.connect(address, uri=True, timeout=60)) as opened:
                problem = str(opened.execute("PRAGMA integrity_check(1)").fetchone()[0])
        except sqlite3.Error as error:
            problem = str(error)
        if problem != "ok":
            raise self.unusable(problem)

    def _check_address(self, uri: str) -> None:
        scheme = uri.partition("://")[0].partition("+")[0]
        why = EXPECTED if scheme != POSTGRESQL else problem(uri, is_kept=True)
        if why := why or driver.obstacle(uri):
            raise ConfigError(f"{KEY}={self}: {why}")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One command at a time, in which the database or a study is made. Raises `ConfigError`."""
        if self.uri is None:
            with FileLock(f"{self.path}.lock", timeout=60):
                yield
            return
        from sqlalchemy.exc import SQLAlchemyError

        turns = DatabaseWorkers(self.uri, "")
        try:
            with turns.turn():
                yield
        except SQLAlchemyError as error:
            raise self.unusable(str(error)) from error
        finally:
            turns.leave()

    def open(self) -> "RDBStorage":
        """Optuna's view of it.

        Optuna takes a waiting trial with SELECT FOR UPDATE, which SQLite ignores: two threads or
        commands might take the same trial. They ask in turns (`workers.py`).

        Raises `ConfigError` if its tables are of another version of Optuna.
        """
        from optuna.storages import RDBStorage

        try:
            if self.uri is not None:
                return RDBStorage(self.uri, engine_kwargs={"pool_pre_ping": True})
            self.path.touch()  # SQLite itself would not let the group write
            uri = f"sqlite:///{self.path.as_posix()}"
            return RDBStorage(uri, engine_kwargs={"connect_args": {"timeout": 60}})
        except RuntimeError as error:
            place = self if self.uri is None else f"{KEY}={self}"
            raise ConfigError(f"{place}: {error}") from error

    def unusable(self, problem: str) -> ConfigError:
        """The error about a database that cannot be used, in one line."""
        why = shown(" ".join(problem.splitlines()[0].split()))
        if self.uri is not None:
            return ConfigError(f"{KEY}={self}: {why}; {START_IT}")
        return ConfigError(
            f"{self}: not a usable record of trials ({why}); move it away and repeat the command: "
            "it starts its trials again, and those with the values of a finished run take its "
            "result"
        )
