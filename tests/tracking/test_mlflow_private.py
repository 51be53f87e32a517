"""The parts of MLflow that are private: its tables and its store classes, with the real MLflow."""

import math
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from harness.runfolder.status import RunStatus
from harness.runfolder.target import Target
from harness.tracking import mlflow_private
from harness.tracking.store import Store
from tests.tracking.conftest import deliver, fresh_store, make_run


def database_of(outputs: Path, *locations: tuple[str, str, str]) -> Target:
    """A local store with experiments of ours of these names, artifact locations and stages."""
    target = Target.local(outputs)
    fresh_store(outputs)
    assert target.database is not None
    with closing(sqlite3.connect(target.database)) as connection, connection:
        for number, (name, location, stage) in enumerate(locations, 1):
            connection.execute(
                "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage,"
                " workspace) VALUES (?, ?, ?, ?, 'default')",
                (number, name, location, stage),
            )
            connection.execute(
                "INSERT INTO experiment_tags (key, value, experiment_id) VALUES (?, 'true', ?)",
                (mlflow_private.OURS, number),
            )
    return target


def test_a_folder_that_was_not_moved_has_no_message(tmp_path: Path) -> None:
    here = f"{(tmp_path / 'artifacts').as_uri()}/mnist"
    elsewhere = "file:///elsewhere/artifacts/mnist"
    target = database_of(tmp_path, ("mnist", here, "active"), ("old", elsewhere, "deleted"))
    assert mlflow_private.moved(target, 1) is None


@pytest.mark.parametrize("before", ["/elsewhere", "{here}-2"])
def test_a_moved_folder_has_a_message_of_one_line(tmp_path: Path, before: str) -> None:
    """Also when the path of now is the beginning of that of before."""
    elsewhere = f"file://{before.format(here=tmp_path)}/artifacts"
    target = database_of(tmp_path, ("mnist", f"{elsewhere}/mnist", "active"))
    message = mlflow_private.moved(target, 1)
    assert message is not None
    assert elsewhere in message
    assert "python -m harness sync --relocate" in message
    assert "\n" not in message


def test_a_server_and_a_new_store_were_not_moved(tmp_path: Path) -> None:
    assert mlflow_private.moved(Target("http://host:5000"), 1) is None
    assert mlflow_private.moved(Target.local(tmp_path), 1) is None
    assert list(tmp_path.iterdir()) == []


def test_a_server_has_no_database_to_create(tmp_path: Path) -> None:
    mlflow_private.create_database(Target("http://host:5000"))
    existing = Target.local(tmp_path)
    assert existing.database is not None
    existing.database.write_bytes(b"content")
    mlflow_private.create_database(existing)
    assert existing.database.read_bytes() == b"content"


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_every_location_is_a_column_of_mlflows_database(tmp_path: Path) -> None:
    target = Target.local(tmp_path)
    mlflow_private.create_database(target)
    assert target.database is not None
    with closing(sqlite3.connect(target.database)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        columns = {
            (table, row[1])
            for (table,) in tables.fetchall()
            for row in connection.execute(f"PRAGMA table_info({table})")
        }
    assert set(mlflow_private.LOCATIONS) <= columns
    located = {(t, c) for t, c in columns if c in ("artifact_location", "artifact_uri")}
    assert located <= set(mlflow_private.LOCATIONS), "no location is left behind by a move"


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_a_foreign_experiment_is_left_alone(tmp_path: Path) -> None:
    """In the same database, made with MLflow's own command, with a run of ours in it as well."""
    before, after = tmp_path / "b_f%re", tmp_path / "after"
    deliver(before, make_run(before, "aaa"))
    client = Store(Target.local(before)).client
    locations = [
        "/notebooks/mlruns/2",
        f"{tmp_path}/b_f%re2/artifacts/x",
        "s3://bucket/artifacts/y",
        (tmp_path / "bxfyre/artifacts/z").as_uri(),
    ]
    ids = [client.create_experiment(f"own {where}", where) for where in locations]
    for number in ids:
        client.create_run(number)
    client.create_run(ids[0], tags={"run.id": "bbb"})
    assert mlflow_private.moved(Target.local(before), 1) is None
    before.rename(after)
    store = Store(Target.local(after), relocate=True)
    for number, where in zip(ids, locations, strict=True):
        assert store.client.get_experiment(number).artifact_location.endswith(where)
        for run in store.runs([number]):
            assert where in run.info.artifact_uri
    (run,) = store.runs([store.experiment("mnist")])
    assert run.info.artifact_uri.startswith((after / "artifacts").as_uri())
    assert mlflow_private.moved(Target.local(after), 1) is None


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_relocating_updates_every_run(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    deliver(before, make_run(before, "aaa"))
    before.rename(after)
    store = Store(Target.local(after), relocate=True)
    (run,) = store.runs([store.experiment("mnist")])
    assert run.info.artifact_uri.startswith((after / "artifacts").as_uri())
    assert [a.path for a in store.client.list_artifacts(run.info.run_id)] == ["config.yaml"]
    assert mlflow_private.moved(Target.local(after), 1) is None


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_a_status_is_set_and_nothing_else(tmp_path: Path) -> None:
    deliver(tmp_path, make_run(tmp_path, "aaa"))
    store = Store(Target.local(tmp_path))
    (before,) = store.runs([store.experiment("mnist")])
    store.set_status(before.info.run_id, RunStatus.RUNNING)
    (after,) = store.runs([store.experiment("mnist")])
    assert (before.info.status, after.info.status) == ("FINISHED", "RUNNING")
    assert (after.info.run_name, after.info.end_time) == (
        before.info.run_name,
        before.info.end_time,
    )
    assert after.data.tags == before.data.tags


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_the_history_of_a_metric_of_several_runs(tmp_path: Path) -> None:
    deliver(tmp_path, make_run(tmp_path, "aaa", epochs=2), make_run(tmp_path, "bbb", epochs=3))
    store = Store(Target.local(tmp_path))
    ids = [run.info.run_id for run in store.runs([store.experiment("mnist")])]
    rows = mlflow_private.metric_history(store.client, ids, "val/error")
    assert len(rows) == 5
    for mlflow_id in ids:
        points = sorted((step, value, ms) for run, step, ms, value in rows if run == mlflow_id)
        assert points == store.points(mlflow_id)["val/error"]
    for value in (math.nan, math.inf, -math.inf):
        store.client.log_metric(ids[0], "odd", value, timestamp=1, step=3)
    told = store.client._tracking_client.store.get_metric_history_bulk(ids, "odd", 100)
    expected = [(each.run_id, 3, 1, each.value) for each in told]
    assert repr(mlflow_private.metric_history(store.client, ids, "odd")) == repr(expected)


def test_the_store_of_databases_is_imported() -> None:
    mlflow_private.load(mlflow_private.DATABASE)
    assert "mlflow.store.tracking.sqlalchemy_store" in sys.modules
