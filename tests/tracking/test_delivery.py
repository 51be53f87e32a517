"""Delivery into a real SQLite store: MLflow holds what the journal says, however often sent."""

import json
import math
import multiprocessing
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from harness.files import write_text
from harness.tracking.delivery import Delivery
from harness.tracking.follower import STATE, read_state
from harness.tracking.process import DeliveryProcess
from harness.tracking.store import Store, StoreError, Target, sweep_link
from harness.training import journal
from harness.training.journal import Journal

pytestmark = [
    pytest.mark.service,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own
]


def make_run(outputs: Path, run: str, *, epochs: int = 5, status: str | None = "FINISHED") -> Path:
    """A run folder as a job leaves it."""
    folder = outputs / "runs" / run
    folder.mkdir(parents=True)
    write_text(folder / "config.yaml", "width: 1\n")
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append(
            "create",
            run=run,
            name="batch=16",
            params={"batch": 16, "dataset.dir": None, "width": "[8,4]"},
            tags={"run.id": run, "sweep": "s1,s2", "mlflow.source.name": "command"},
            experiment="mnist",
            dataset={
                "name": "mnist", "sha256": "ab" * 32, "source": "mnist", "train": 1, "val": 2,
                "test": 3, "image_shape": [28, 28], "classes": 10,
            },
        )  # fmt: skip
        writer.append("start", host="h", pid=1, threads=2, backend="numpy")
        for epoch in range(1, epochs + 1):
            values = {"train/loss": math.pi / epoch, "val/error": 1 / (3 * epoch)}
            writer.append("epoch", epoch=epoch, metrics=values)
        if status is not None:
            writer.append("artifact", path="config.yaml")
            writer.append("final", epoch=epochs, metrics={"test/error": 0.1 + 0.2})
            writer.append("end", status=status, error=None if status == "FINISHED" else "why")
    return folder


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def store(outputs: Path) -> Store:
    return Store(Target.local(outputs))


def deliver(outputs: Path, *folders: Path) -> Delivery:
    delivery = Delivery(Target.local(outputs))
    for folder in folders:
        delivery.follow(folder)
    report = delivery.drain()
    assert report.undelivered == {}
    return delivery


def expected_points(folder: Path) -> dict[str, list[tuple[int, float, int]]]:
    points: dict[str, list[tuple[int, float, int]]] = {}
    for record in journal.read(folder / journal.FILE_NAME)[0]:
        for key, value in record.get("metrics", {}).items():
            points.setdefault(key, []).append((record["epoch"], value, record["ms"]))
    return points


def test_the_store_equals_the_journal(outputs: Path, store: Store) -> None:
    folder = make_run(outputs, "aaa")
    deliver(outputs, folder)
    found = store.find_run(store.experiment("mnist"), "aaa")
    assert found is not None
    run = store.client.get_run(found)
    created = journal.history(folder).create
    assert store.points(found) == expected_points(folder)
    assert run.data.params == {"batch": "16", "dataset.dir": "None", "width": "[8,4]"}
    assert {k: run.data.tags[k] for k in created["tags"]} == created["tags"]
    assert (run.info.status, run.info.run_name) == ("FINISHED", "batch=16")
    assert run.info.start_time == created["ms"]
    assert run.info.end_time == journal.read(folder / journal.FILE_NAME)[0][-1]["ms"]
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("mnist", "ab" * 16)
    stored = outputs / "artifacts" / "mnist" / found / "artifacts" / "config.yaml"
    assert stored.read_bytes() == (folder / "config.yaml").read_bytes()


def test_repeating_changes_nothing(outputs: Path, store: Store) -> None:
    folder = make_run(outputs, "bbb")
    deliver(outputs, folder)
    for lost in (False, True, True):
        if lost:
            (folder / STATE).unlink()
        deliver(outputs, folder)
    experiment = store.experiment("mnist")
    assert len(store.runs(experiment, "tags.`run.id` = 'bbb'")) == 1
    found = store.find_run(experiment, "bbb")
    assert found is not None
    assert store.points(found) == expected_points(folder)


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_statuses_are_true(outputs: Path, store: Store, status: str) -> None:
    folder = make_run(outputs, f"run-{status}", status=status)
    deliver(outputs, folder)
    run = store.client.get_run(read_state(folder)["mlflow_id"])
    assert run.info.status == status
    assert run.data.tags["error"] == "why"


def test_a_resumed_run_runs_again(outputs: Path, store: Store) -> None:
    folder = make_run(outputs, "ccc", status="KILLED")
    deliver(outputs, folder)
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("start", host="h", pid=2, threads=2, backend="numpy")
    deliver(outputs, folder)
    found = read_state(folder)["mlflow_id"]
    assert store.client.get_run(found).info.status == "RUNNING"
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("epoch", epoch=6, metrics={"train/loss": 0.5})
        writer.append("end", status="FINISHED", error=None)
    deliver(outputs, folder)
    assert store.client.get_run(found).info.status == "FINISHED"
    assert store.points(found) == expected_points(folder)


def test_infinity_is_not_a_large_number(outputs: Path, store: Store) -> None:
    folder = make_run(outputs, "ddd", epochs=1, status=None)
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("epoch", epoch=2, metrics={"train/loss": math.inf})
    deliver(outputs, folder)
    run = store.client.get_run(read_state(folder)["mlflow_id"])
    assert math.isnan(store.client.get_metric_history(run.info.run_id, "train/loss")[-1].value)
    assert run.data.tags["nonfinite"] == "train/loss = inf at step 2"


def test_a_torn_record_waits(outputs: Path, store: Store) -> None:
    folder = make_run(outputs, "eee")
    path = folder / journal.FILE_NAME
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    deliver(outputs, folder)  # what is torn was never written: nothing is outstanding
    assert store.client.get_run(read_state(folder)["mlflow_id"]).info.status == "RUNNING"
    path.write_bytes(content)
    deliver(outputs, folder)
    assert store.client.get_run(read_state(folder)["mlflow_id"]).info.status == "FINISHED"


def open_fresh(outputs: Path, number: int) -> str:
    return Store(Target.local(outputs)).experiment("mnist")


def test_eight_processes_open_one_fresh_store(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        ids = pool.map(partial(open_fresh, tmp_path), range(8), chunksize=1)
    assert len(set(ids)) == 1
    assert len(Store(Target.local(tmp_path)).client.search_experiments()) == 2  # and "Default"


def test_a_ruined_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="not a usable MLflow database") as caught:
        Store(Target.local(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_deleted_experiment_is_one_line(tmp_path: Path) -> None:
    store = Store(Target.local(tmp_path))
    store.client.delete_experiment(store.experiment("gone"))
    with pytest.raises(StoreError, match="experiment 'gone' was deleted"):
        Store(Target.local(tmp_path)).experiment("gone")


def test_the_process_follows_and_reports(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "fff", epochs=2, status=None)
    process = DeliveryProcess(Target.local(tmp_path), tmp_path)
    process.follow(folder)
    with Journal(folder / journal.FILE_NAME) as writer:
        for epoch in (3, 4):
            time.sleep(0.3)
            writer.append("epoch", epoch=epoch, metrics={"train/loss": float(np.float32(0.1))})
        writer.append("end", status="FINISHED", error=None)
    report = process.close()
    assert report.undelivered == {}
    store = Store(Target.local(tmp_path))
    assert report.experiments == {"mnist": store.experiment("mnist")}
    assert store.points(read_state(folder)["mlflow_id"]) == expected_points(folder)


def test_the_process_ends_with_its_command(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.tracking.delivery"], stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    order = {"target": {"uri": f"sqlite:///{tmp_path}/x.db"}, "log": f"{tmp_path}/log"}
    process.stdin.write(json.dumps(order).encode() + b"\n")
    process.stdin.close()
    assert process.wait(20) != 0


def test_the_link_is_quoted() -> None:
    link = sweep_link("http://127.0.0.1:5000", "7", "abc")
    assert link.endswith("searchFilter=tags.sweep%20LIKE%20%27%25abc%25%27")
    assert "/#/experiments/7/runs?workflowType=machine_learning&compareRunsMode=CHART" in link
