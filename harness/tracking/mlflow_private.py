"""Everything that relies on private parts of MLflow: its schema, store classes and endpoints.

Each part is covered by a test with the real MLflow, so an upgrade that breaks one is noticed.
"""

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from harness.data.atomic import fsync_folder
from harness.runfolder.target import SQLITE, Target

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Columns of MLflow's database that hold absolute locations of artifacts.
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
EXPERIMENTS = "SELECT artifact_location FROM experiments WHERE name != 'Default'"
ACTIVE = EXPERIMENTS + " AND lifecycle_stage = 'active'"
BULK_PATH = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
BULK_RUNS, BULK_ROWS = 100, 25_000  # MLflow's limits for one call
SHARED_VIEW = "mlflow.sharedViewState."  # prefix of the tag of an experiment that holds a view


def moved(target: Target, patience: float) -> str | None:
    """The message for a local store whose folder was moved or copied; None if it was not.

    Fast, because it does not import MLflow. Raises `sqlite3.Error`, also when the database stays
    locked for `patience` seconds.
    """
    if target.artifacts is None or target.database is None or not target.database.exists():
        return None
    with closing(sqlite3.connect(target.database, timeout=patience)) as connection:
        locations = connection.execute(ACTIVE).fetchall()
    for (location,) in locations:
        if not location.startswith(target.artifacts):
            return (
                f"{target.database}: its artifacts are expected in {location}, so the folder was "
                "moved or copied; repair it with `python -m harness sync --relocate`"
            )
    return None


def create_database(target: Target) -> None:
    """Create a fresh database under a temporary name and rename it when it is complete."""
    database = target.database
    if database is None or (database.exists() and database.stat().st_size):
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    unfinished = database.with_name(f"{database.name}.unfinished")
    for suffix in ("", "-journal", "-wal", "-shm"):  # of a creation that was killed
        unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)
    unfinished.touch()  # SQLite itself would not let the group write
    artifacts = target.artifacts or (database.parent / "artifacts").as_uri()
    make: Any = SqlAlchemyStore  # it has no types
    store = make(f"{SQLITE}{unfinished.as_posix()}", artifacts)
    store.engine.dispose()
    unfinished.replace(database)
    fsync_folder(database.parent)


def relocate(target: Target) -> None:
    """Update every stored location of artifacts to where the folder is now, in one transaction."""
    assert target.database is not None
    assert target.artifacts is not None
    with closing(sqlite3.connect(target.database)) as connection, connection:
        for (location,) in connection.execute(EXPERIMENTS).fetchall():
            before = location.rpartition("/")[0]
            if before == target.artifacts:
                continue
            for table, column in LOCATIONS:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} LIKE ? || '/%'",
                    (target.artifacts, len(before) + 1, before),
                )


def metric_history(
    client: "MlflowClient", mlflow_ids: list[str], key: str
) -> list[tuple[str, int, int, float]]:
    """MLflow id, step, timestamp in ms and value of every point of a metric of up to 100 runs.

    The result is cut off at 25,000 rows.
    """
    store = client._tracking_client.store
    if hasattr(store, "get_metric_history_bulk"):
        points = [p.to_dict() for p in store.get_metric_history_bulk(mlflow_ids, key, BULK_ROWS)]
    else:
        from mlflow.utils.rest_utils import http_request, verify_rest_response

        query = [("run_id", mlflow_id) for mlflow_id in mlflow_ids]
        query += [("metric_key", key), ("max_results", str(BULK_ROWS))]
        credentials = store.get_host_creds()
        response = http_request(  # type: ignore[no-untyped-call]  # MLflow's own
            credentials, BULK_PATH, "GET", params=query
        )
        points = json.loads(verify_rest_response(response, BULK_PATH).text)["metrics"]
    return [
        (str(p["run_id"]), int(p["step"]), int(p["timestamp"]), float(p["value"])) for p in points
    ]
