"""Where results go, and what is done to the database file there when it is a local one."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.atomic import fsync_folder

SQLITE = "sqlite:///"
# Where MLflow's database stores absolute places of artifacts.
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
EXPERIMENTS = "SELECT artifact_location FROM experiments WHERE name != 'Default'"
ACTIVE = EXPERIMENTS + " AND lifecycle_stage = 'active'"
MOVED = (
    "{}: its artifacts are expected in {}, so the folder was moved or copied; mend it with "
    "`python -m harness sync --relocate`"
)


@dataclass(frozen=True)
class Target:
    """Where results go: a tracking URI, and where artifacts lie when the store is a local file."""

    uri: str
    artifacts: str | None = None

    @classmethod
    def local(cls, outputs: Path) -> "Target":
        """SQLite and artifacts under `outputs`, both absolute."""
        outputs = outputs.resolve()
        return cls(
            f"{SQLITE}{(outputs / 'mlflow.db').as_posix()}", (outputs / "artifacts").as_uri()
        )

    @property
    def key(self) -> str:
        """What names this store in `delivered.json`; a moved `outputs` folder keeps its local
        one."""
        return self.uri if self.database is None else "local"

    @property
    def database(self) -> Path | None:
        """The SQLite file, when there is one."""
        return Path(self.uri.removeprefix(SQLITE)) if self.uri.startswith(SQLITE) else None

    def moved(self, patience: float) -> str | None:
        """What to say when a local store's folder was moved or copied. Quick, without MLflow.

        Raises `sqlite3.Error`, also when the database stays locked for `patience` seconds.
        """
        if self.artifacts is None or self.database is None or not self.database.exists():
            return None
        with closing(sqlite3.connect(self.database, timeout=patience)) as connection:
            places = connection.execute(ACTIVE).fetchall()
        for (place,) in places:
            if not place.startswith(self.artifacts):
                return MOVED.format(self.database, place)
        return None

    def create_database(self) -> None:
        """Migrate a fresh database under another name, and give it its own when it is whole."""
        database = self.database
        if database is None or (database.exists() and database.stat().st_size):
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        unfinished = database.with_name(f"{database.name}.unfinished")
        for suffix in ("", "-journal", "-wal", "-shm"):  # of a creation that was killed
            unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)
        artifacts = self.artifacts or (database.parent / "artifacts").as_uri()
        make: Any = SqlAlchemyStore  # it has no types
        store = make(f"{SQLITE}{unfinished.as_posix()}", artifacts)
        store.engine.dispose()
        unfinished.replace(database)
        fsync_folder(database.parent)

    def relocate(self) -> None:
        """Point every stored place of artifacts to where the folder is now, in one transaction."""
        assert self.database is not None
        assert self.artifacts is not None
        with closing(sqlite3.connect(self.database)) as connection, connection:
            for (place,) in connection.execute(EXPERIMENTS).fetchall():
                before = place.rpartition("/")[0]
                if before == self.artifacts:
                    continue
                for table, column in PLACES:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE {column} LIKE ? || '/%'",
                        (self.artifacts, len(before) + 1, before),
                    )
