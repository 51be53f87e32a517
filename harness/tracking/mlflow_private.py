"""All code that relies on private parts of MLflow: its schema, store classes and endpoints.

A test with the real MLflow covers each part, so an upgrade that breaks one is noticed.
"""

import gc
import json
import math
import os
import re
import sqlite3
import warnings
from collections.abc import Iterable, Sequence
from contextlib import closing
from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness.data.atomic import fsync_folder
from harness.runfolder.target import Target, sqlite_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = "mlflow.store.tracking.sqlalchemy_store"  # imported when a database is first opened
LOGGER = "mlflow.store.db.utils"  # gets the traceback of each error of a database that is raised
APP = "mlflow.server.fastapi_app"
# Columns of MLflow's database that hold absolute locations of artifacts.
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
OURS = "harness.experiment"  # the tag of an experiment that the harness created
# The artifact locations of experiments that the harness created or that hold our runs: version 0.1
# set no tag. MLflow's own locations end with the number of the experiment.
OUR_LOCATIONS = f"""
SELECT artifact_location FROM experiments AS e WHERE lifecycle_stage IN (?, ?) AND (EXISTS (
    SELECT 1 FROM experiment_tags AS t WHERE t.experiment_id = e.experiment_id AND t.key = '{OURS}'
) OR NOT artifact_location GLOB '*/' || e.experiment_id AND EXISTS (
    SELECT 1 FROM runs AS r JOIN tags AS t ON t.run_uuid = r.run_uuid
    WHERE r.experiment_id = e.experiment_id AND t.key = 'run.id'
))
"""
BULK_PATH = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
BULK_RUNS, BULK_ROWS = 100, 25_000  # MLflow's limits for one call
SHARED_VIEW = "mlflow.sharedViewState."  # prefix of the tag of an experiment that holds a view

CURVES = "curves"  # the name and id of the first section
CURVE_HEIGHT = 440  # px; MLflow's own charts have 360


def chart_state(first: Sequence[str], collapsed: Iterable[str]) -> dict[str, object]:
    """The part of a view's state that puts some charts first, as large curves.

    first: their metrics. The UI makes the charts of all other metrics, in sections named after the
    first part of their keys; those in `collapsed` are closed. Charts without data are hidden.
    """
    cards = [
        {
            "type": "LINE",
            "uuid": f"curve-{metric}",
            "metricSectionId": CURVES,
            "metricKey": metric,
            "selectedMetricKeys": [metric],
            "isGenerated": True,
            "deleted": False,
            "lineSmoothness": 0,
            "scaleType": "linear",
            "xAxisKey": "step",
            "xAxisScaleType": "linear",
            "useGlobalXaxisKey": True,
            "useGlobalLineSmoothing": True,
        }
        for metric in first
    ]
    sections = [_section(CURVES) | {"columns": len(first), "cardHeight": CURVE_HEIGHT}]
    sections += [_section(name) | {"display": False} for name in collapsed]
    return {
        "compareRunCharts": cards,
        "compareRunSections": sections,
        "isAccordionReordered": True,  # otherwise the UI sorts them by name
    }


def _section(name: str) -> dict[str, object]:
    return {"uuid": name, "name": name, "display": True, "isReordered": False, "deleted": False}


def moved(target: Target, patience: float) -> str | None:
    """The message for a local store whose folder was moved or copied; None if it was not.

    It is fast because it does not import MLflow. Raises `sqlite3.Error`, also if the database stays
    locked for `patience` seconds.
    """
    if target.artifacts is None or target.database is None or not target.database.exists():
        return None
    with closing(sqlite3.connect(target.database, timeout=patience)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone():
            return None  # no MLflow database (yet): opening the store reports it
        roots = _roots(connection, "active")
    for root in sorted(roots - {target.artifacts}):
        return (
            f"{target.database}: its artifacts are expected in {root}, so the folder was "
            "moved or copied; repair it with `python -m harness sync --relocate`"
        )
    return None


def _roots(connection: sqlite3.Connection, *stages: str) -> set[str]:
    """The artifact folders of our experiments, as URIs.

    We create `<outputs>/artifacts/<experiment>`. Somebody else created an experiment with artifacts
    elsewhere, so it is ignored.
    """
    rows = connection.execute(OUR_LOCATIONS, (stages[0], stages[-1])).fetchall()
    matches = (re.fullmatch(r"(file://.*/artifacts)/[^/]+", each or "") for (each,) in rows)
    return {match[1] for match in matches if match}


def create_database(target: Target) -> None:
    """Create a fresh database under a temporary name and rename it when it is complete."""
    database = target.database
    if database is None or (database.exists() and database.stat().st_size):
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    unfinished = database.with_name(f"{database.name}.unfinished")
    for suffix in ("", "-journal", "-wal", "-shm"):  # left by a killed creation
        unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)
    unfinished.touch()  # a file made by SQLite is not writable for the group
    make: Any = SqlAlchemyStore  # it has no types
    store = make(sqlite_uri(unfinished), target.artifact_root)
    store.engine.dispose()
    unfinished.replace(database)
    fsync_folder(database.parent)


def relocate(target: Target) -> None:
    """Update the stored locations of our artifacts to the folder's new place, in one transaction.

    The new folder has everything from the old one, including what others logged there.
    """
    assert target.database is not None
    assert target.artifacts is not None
    with closing(sqlite3.connect(target.database)) as connection, connection:
        for before in _roots(connection, "active", "deleted") - {target.artifacts}:
            for table, column in LOCATIONS:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE substr({column}, 1, ?) = ?",
                    (target.artifacts, len(before) + 1, len(before) + 1, f"{before}/"),
                )


def run_server(target: Target, host: str, port: int) -> None:
    """Serve the UI of a store in this process, until it is stopped.

    `mlflow server` does the same with two processes that both import MLflow. Raises MLflow's errors
    if the store cannot be used.
    """
    load(DATABASE)
    from mlflow.server import constants, handlers
    from mlflow.store.tracking import DEFAULT_ARTIFACTS_URI

    root = target.artifact_root or DEFAULT_ARTIFACTS_URI
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: target.uri,
        constants.ARTIFACT_ROOT_ENV_VAR: root,
        constants.ARTIFACTS_DESTINATION_ENV_VAR: "./mlartifacts",
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "_MLFLOW_SGI_NAME": "uvicorn",
    }
    handlers.initialize_backend_stores(target.uri, target.uri, root)
    load(APP)
    import_module("uvicorn").run(f"{APP}:app", host=host, port=port, log_level="critical")


def load(module: str = "mlflow") -> None:
    """Import MLflow or one of its modules, without the warnings that the imports cause.

    Garbage collection is off: it would take a fifth of the time and find nothing.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings(action="ignore"):
            import_module(module)
    finally:
        if was_on:
            gc.enable()


def set_status(client: "MlflowClient", mlflow_id: str, status: str) -> None:
    """Set a run's status, without reading the whole run like `MlflowClient.update_run`."""
    from mlflow.entities import RunStatus

    store, number = client._tracking_client.store, RunStatus.from_string(status)
    store.update_run_info(mlflow_id, number, end_time=None, run_name=None)


def erase(client: "MlflowClient", mlflow_id: str) -> None:
    """Remove a run from a database for good, as `mlflow gc` does."""
    store: Any = client._tracking_client.store
    store._hard_delete_run(mlflow_id)


def metric_history(
    client: "MlflowClient", mlflow_ids: list[str], key: str
) -> list[tuple[str, int, int, float]]:
    """MLflow id, step, timestamp in ms and value of every point of a metric of up to 100 runs.

    MLflow truncates the result at 25,000 rows.
    """
    store = client._tracking_client.store
    if hasattr(store, "ManagedSessionMaker"):
        return _database_rows(store, mlflow_ids, key)
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


def _database_rows(
    store: Any, mlflow_ids: list[str], key: str
) -> list[tuple[str, int, int, float]]:
    """Like `get_metric_history_bulk`, but without an object per row: a third of the time."""
    from mlflow.store.tracking.dbmodels.models import SqlMetric as Row

    with store.ManagedSessionMaker() as session:
        rows = (
            session.query(Row.run_uuid, Row.step, Row.timestamp, Row.value, Row.is_nan)
            .filter(Row.key == key, Row.run_uuid.in_(mlflow_ids))
            .order_by(Row.run_uuid, Row.timestamp, Row.step, Row.value)
            .limit(BULK_ROWS)
            .all()
        )
    return [(run, step, ms, math.nan if nan else value) for run, step, ms, value, nan in rows]


def check_model(name: str, alias: str) -> None:
    """Raise `ValueError` for a model name or alias that MLflow refuses."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils import validation

    for option, value, rules in (
        ("--name", name, [validation._validate_model_name]),
        ("--alias", alias, [validation._validate_model_alias_name,
                            validation._validate_model_alias_name_reserved]),
    ):  # fmt: skip
        try:
            for rule in rules:
                rule(value)
        except MlflowException as error:
            raise ValueError(f"{option} {value!r}: {str(error).splitlines()[0]}") from None
