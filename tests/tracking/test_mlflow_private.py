"""The parts of MLflow that are private: its tables and its store classes, with the real MLflow."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from harness.runfolder.target import Target
from harness.tracking import mlflow_private
from harness.tracking.store import Store
from tests.tracking.conftest import deliver, make_run


def database_of(outputs: Path, *locations: tuple[str, str, str]) -> Target:
    """A local store whose experiments have these names, artifact locations and stages."""
    target = Target.local(outputs)
    assert target.database is not None
    with closing(sqlite3.connect(target.database)) as connection, connection:
        connection.execute(
            "CREATE TABLE experiments (name TEXT, artifact_location TEXT, lifecycle_stage TEXT)"
        )
        connection.executemany("INSERT INTO experiments VALUES (?, ?, ?)", locations)
    return target


def test_a_folder_that_was_not_moved_has_no_message(tmp_path: Path) -> None:
    here = f"{(tmp_path / 'artifacts').as_uri()}/mnist"
    elsewhere = "file:///elsewhere/artifacts/mnist"
    target = database_of(
        tmp_path,
        ("mnist", here, "active"),
        ("old", elsewhere, "deleted"),
        ("Default", elsewhere, "active"),  # MLflow's own, with no runs of ours
    )
    assert mlflow_private.moved(target, 1) is None


def test_a_moved_folder_has_a_message_of_one_line(tmp_path: Path) -> None:
    elsewhere = "file:///elsewhere/artifacts/mnist"
    message = mlflow_private.moved(database_of(tmp_path, ("mnist", elsewhere, "active")), 1)
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
def test_the_history_of_a_metric_of_several_runs(tmp_path: Path) -> None:
    deliver(tmp_path, make_run(tmp_path, "aaa", epochs=2), make_run(tmp_path, "bbb", epochs=3))
    store = Store(Target.local(tmp_path))
    ids = [run.info.run_id for run in store.runs([store.experiment("mnist")])]
    rows = mlflow_private.metric_history(store.client, ids, "val/error")
    assert len(rows) == 5
    for mlflow_id in ids:
        points = sorted((step, value, ms) for run, step, ms, value in rows if run == mlflow_id)
        assert points == store.points(mlflow_id)["val/error"]
