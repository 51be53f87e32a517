"""Delivery into a real SQLite store: MLflow holds what the journal says, however often sent."""

import json
import math
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from harness.data.atomic import write_text
from harness.run import compose
from harness.runfolder import delivered, journal
from harness.runfolder.config import to_yaml
from harness.runfolder.folder import all_runs
from harness.runfolder.journal import Journal
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.delivery import Delivery
from harness.tracking.process import DeliveryProcess
from harness.tracking.store import Store, StoreError
from harness.tracking.sync import prove
from harness.tracking.views import sweep_link
from tests.conftest import command_in

pytestmark = [
    pytest.mark.service,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own
]


RACES = 5


@cache
def default_config() -> str:
    return to_yaml(compose.compose_one([]))


def make_run(outputs: Path, run: str, *, epochs: int = 5, status: str | None = "FINISHED") -> Path:
    """A run folder as a job leaves it."""
    folder = outputs / "runs" / run
    folder.mkdir(parents=True)
    write_text(folder / "config.yaml", default_config())
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append(
            "create",
            run=run,
            name="batch=16",
            params={
                "batch": 16, "dataset.dir": None, "width": "[8,4]",
                "tracking.name": "local", "tracking.uri": None, "checkpoint.milestones": 0,
            },
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
        delivery.follow(Run(folder))
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
    created = Run(folder).history().create
    assert store.points(found) == expected_points(folder)
    assert run.data.params == {
        "batch": "16", "dataset.dir": "None", "width": "[8,4]", "tracking.name": "local",
        "tracking.uri": "None", "checkpoint.milestones": "0",
    }  # fmt: skip
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
            (folder / delivered.FILE_NAME).unlink()
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
    run = store.client.get_run(delivered.read(folder)["mlflow_id"])
    assert run.info.status == status
    assert run.data.tags["error"] == "why"


def test_a_resumed_run_runs_again(outputs: Path, store: Store) -> None:
    folder = make_run(outputs, "ccc", status="KILLED")
    deliver(outputs, folder)
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("start", host="h", pid=2, threads=2, backend="numpy")
    deliver(outputs, folder)
    found = delivered.read(folder)["mlflow_id"]
    assert store.client.get_run(found).info.status == "RUNNING"
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("epoch", epoch=6, metrics={"train/loss": 0.5})
        writer.append("end", status="FINISHED", error=None)
    deliver(outputs, folder)
    run = store.client.get_run(found)
    assert run.info.status == "FINISHED"
    assert run.data.tags["error"] == "", "of the earlier attempt"
    assert store.points(found) == expected_points(folder)


def test_a_long_name_is_cut(tmp_path: Path) -> None:
    """PostgreSQL would refuse more than 250 characters, and with them the run."""
    folder = make_run(tmp_path, "aaa", status=None)
    record = journal.read(folder / journal.FILE_NAME)[0][0]
    store = Store(Target.local(tmp_path))
    made = store.create_run(store.experiment("mnist"), record | {"name": "lr=0.1," * 100})
    assert store.client.get_run(made).info.run_name == ("lr=0.1," * 100)[:250]


def test_local_damage_to_a_delivered_run_hinders_no_proof(tmp_path: Path) -> None:
    """A rotten record and a rotten config are one run's; a removed artifact is in the store."""
    rotten, unset, removed, well = (make_run(tmp_path, name) for name in "abcd")
    (removed / "note.txt").write_text("a note")
    with Journal(removed / journal.FILE_NAME) as writer:
        writer.append("artifact", path="note.txt")
    deliver(tmp_path, rotten, unset, removed, well)
    content = bytearray((rotten / journal.FILE_NAME).read_bytes())
    content[-9] ^= 1
    (rotten / journal.FILE_NAME).write_bytes(content)
    (unset / "config.yaml").write_text("of: an older schema\n")
    (removed / "note.txt").unlink()
    proofs = prove(
        Target.local(tmp_path),
        [
            Run(each)
            for each in (
                rotten,
                unset,
                removed,
                well,
            )
        ],
    )
    assert "a/journal.jsonl: the record at byte" in proofs[0].differences[0]
    assert "config.yaml: " in proofs[1].differences[0]
    assert [proof.differences for proof in proofs[2:]] == [(), ()]
    done = command_in(tmp_path)("harness", "sync", "--outputs", ".")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "3 of 4 runs complete" in done.stdout
    assert "a: runs/a/journal.jsonl: the record at byte" in done.stderr
    assert command_in(tmp_path)("harness", "clean", "--outputs", ".").returncode == 0


def test_infinity_is_not_a_large_number(outputs: Path, store: Store) -> None:
    folder = make_run(outputs, "ddd", epochs=1, status=None)
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("epoch", epoch=2, metrics={"train/loss": math.inf})
    deliver(outputs, folder)
    run = store.client.get_run(delivered.read(folder)["mlflow_id"])
    assert math.isnan(store.client.get_metric_history(run.info.run_id, "train/loss")[-1].value)
    assert run.data.tags["nonfinite"] == "train/loss = inf at step 2"


def test_a_torn_record_waits(outputs: Path, store: Store) -> None:
    folder = make_run(outputs, "eee")
    path = folder / journal.FILE_NAME
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    deliver(outputs, folder)  # what is torn was never written: nothing is outstanding
    assert store.client.get_run(delivered.read(folder)["mlflow_id"]).info.status == "RUNNING"
    path.write_bytes(content)
    deliver(outputs, folder)
    assert store.client.get_run(delivered.read(folder)["mlflow_id"]).info.status == "FINISHED"


def open_fresh(place: Path, start: Any, number: int) -> list[str]:
    ids = []
    for round_ in range(RACES):
        start.wait(300)
        ids.append(Store(Target.local(place / str(round_))).experiment("mnist"))
    return ids


def test_eight_processes_race_for_a_fresh_store(tmp_path: Path) -> None:
    """Again and again, started by a barrier each time."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(8) as pool:
        race = partial(open_fresh, tmp_path, manager.Barrier(8))
        ids = pool.map(race, range(8), chunksize=1)
    assert [len(set(each)) for each in zip(*ids, strict=True)] == [1] * RACES
    for round_ in range(RACES):
        client = Store(Target.local(tmp_path / str(round_))).client
        assert len(client.search_experiments()) == 2  # and "Default"


def test_eight_commands_race_for_a_fresh_store(tmp_path: Path, idx_folder: Path) -> None:
    own = ("dataset=idx", f"dataset.dir={idx_folder}", "batch=20", "width=8", "epochs=1")
    commands = [
        subprocess.Popen(
            [sys.executable, "-m", "harness.run", *own, f"seed={seed}"],
            cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(8)
    ]  # fmt: skip
    for process in commands:
        _, stderr = process.communicate(timeout=900)
        assert (process.returncode, stderr) == (0, "")
    target = Target.local(tmp_path / "outputs")
    proofs = prove(target, all_runs(tmp_path / "outputs"))
    assert [proof.differences for proof in proofs] == [()] * 8
    store = Store(target)
    assert len(store.runs(store.experiment("idx"))) == 8


# Ends the creation of a store, MLflow's own way or ours, before its n-th change of the database.
KILLED_CREATION = """
import itertools, os, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
changes = itertools.count(1)
@event.listens_for(Engine, "before_cursor_execute")
def strike(connection, cursor, statement, *rest):
    if statement.split()[0].upper() in ("CREATE", "ALTER", "INSERT", "UPDATE", "DROP"):
        if next(changes) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "ours":
    from harness.tracking.store import Store
    from harness.runfolder.target import Target
    Store(Target.local(Path.cwd())).experiment("mnist")
else:
    from mlflow import MlflowClient
    MlflowClient(tracking_uri="sqlite:///mlflow.db").search_experiments()
"""


def kill_creation(place: Path, whose: str, change: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_CREATION, whose, str(change)], cwd=place, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("change", [1, 30, 230, 430])
def test_a_killed_creation_leaves_nothing_behind(tmp_path: Path, change: int) -> None:
    kill_creation(tmp_path, "ours", change)
    assert not (tmp_path / "mlflow.db").exists()
    folder = make_run(tmp_path, "aaa")
    deliver(tmp_path, folder)
    assert not list(tmp_path.glob("*.unfinished*"))
    (proof,) = prove(Target.local(tmp_path), [Run(folder)])
    assert proof.differences == ()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_half_migrated_database_is_one_line(tmp_path: Path) -> None:
    """As MLflow itself leaves it; what the line says to do helps."""
    make_run(tmp_path, "aaa")
    sync = partial(command_in(tmp_path), "harness", "sync", "--outputs", ".")
    kill_creation(tmp_path, "theirs", 250)
    done = sync()
    assert done.returncode == 3
    said, left = done.stderr.splitlines()
    assert "not a usable MLflow database, or one whose creation was interrupted" in said
    assert said.endswith("move it away and deliver everything again with `python -m harness sync`")
    assert left == "not delivered yet: 1 runs"
    (tmp_path / "mlflow.db").rename(tmp_path / "away.db")
    done = sync()
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 of 1 runs complete" in done.stdout


def test_a_ruined_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="not a usable MLflow database") as caught:
        Store(Target.local(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_store_that_was_made_anew_gets_everything_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "aaa", status=None)
    sync = partial(command_in(tmp_path), "harness", "sync", "--outputs", ".")
    sync()
    (tmp_path / "mlflow.db").unlink()
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("end", status="FINISHED", error=None)
    done = sync()
    assert done.returncode == 0, done.stderr
    assert "1 of 1 runs complete, 10 metric rows compared" in done.stdout


def test_what_the_store_lost_is_found_and_sent_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "aaa")
    deliver(tmp_path, folder)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("DELETE FROM metrics WHERE step = 3")
    (proof,) = prove(Target.local(tmp_path), [Run(folder)])
    assert proof.differences == (
        "train/loss: 4 of 5 rows as in the journal", "val/error: 4 of 5 rows as in the journal",
    )  # fmt: skip
    done = command_in(tmp_path)("harness", "sync", "--outputs", ".")
    assert "sending 1 runs again" in done.stdout
    assert done.returncode == 0, done.stderr
    assert prove(Target.local(tmp_path), [Run(folder)])[0].differences == ()


def test_a_record_that_the_store_refuses_is_put_aside(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "aaa", epochs=2, status=None)
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("epoch", epoch=3, metrics={"train/loss": 1.0, "a bad key ?": 2.0})
        writer.append("epoch", epoch=4, metrics={"train/loss": 4.0})
        writer.append("end", status="FINISHED", error=None)
    for _ in range(2):  # repeating counts it once
        delivery = deliver(tmp_path, folder)
        assert delivery.report().refused == {"aaa": 1}
        (line,) = (folder / "refused.jsonl").read_text().splitlines()
        assert json.loads(line)["record"] == 4
        assert "a bad key ?" in json.loads(line)["reason"]
        (folder / delivered.FILE_NAME).unlink()
    store = Store(Target.local(tmp_path))
    mlflow_id = store.find_run(store.experiment("mnist"), "aaa")
    assert mlflow_id is not None
    run = store.client.get_run(mlflow_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["refused"].startswith("1 records: ")
    assert [step for step, _, _ in store.points(mlflow_id)["train/loss"]] == [1, 2, 4]


def test_an_ill_run_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """Deleted in the store, damaged on disk: each is named, everything else arrives."""
    ill, damaged, *well = (make_run(tmp_path, name, status=None) for name in "abcde")
    deliver(tmp_path, ill)
    store = Store(Target.local(tmp_path))
    store.client.delete_run(delivered.read(ill)["mlflow_id"])
    for folder in (ill, damaged, *well):
        with Journal(folder / journal.FILE_NAME) as writer:
            writer.append("end", status="FINISHED", error=None)
    content = bytearray((damaged / journal.FILE_NAME).read_bytes())
    content[-9] ^= 1
    (damaged / journal.FILE_NAME).write_bytes(content)
    delivery = Delivery(Target.local(tmp_path))
    for folder in (ill, damaged, *well):
        delivery.follow(Run(folder))
    report = delivery.drain(patience=3)
    assert list(report.undelivered) == ["a", "b"]
    assert "the run was deleted in the store; `mlflow runs restore" in report.undelivered["a"]
    assert "b/journal.jsonl: the record at byte" in report.undelivered["b"]
    assert [proof.differences for proof in prove(store.target, [Run(each) for each in well])] == [
        ()
    ] * 3
    sent = store.points(delivered.read(damaged)["mlflow_id"])
    assert len(sent["train/loss"]) == 5, "what stands before the damage was sent"


def test_two_deliveries_of_one_run_make_one_run(tmp_path: Path) -> None:
    """`sync` beside a command that still delivers."""
    folders = [make_run(tmp_path, f"r{number}") for number in range(6)]
    Store(Target.local(tmp_path))
    processes = [DeliveryProcess(Target.local(tmp_path), tmp_path) for _ in range(3)]
    for process in processes:
        for folder in folders:
            process.follow(Run(folder))
    assert [process.close().undelivered for process in processes] == [{}, {}, {}]
    proofs = prove(Target.local(tmp_path), [Run(each) for each in folders])
    assert [proof.differences for proof in proofs] == [()] * 6


def test_a_deleted_experiment_is_one_line(tmp_path: Path) -> None:
    store = Store(Target.local(tmp_path))
    store.client.delete_experiment(store.experiment("gone"))
    with pytest.raises(StoreError, match="experiment 'gone' was deleted"):
        Store(Target.local(tmp_path)).experiment("gone")


def test_the_process_follows_and_reports(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "fff", epochs=2, status=None)
    process = DeliveryProcess(Target.local(tmp_path), tmp_path, patience=30)
    process.follow(Run(folder))
    time.sleep(0.5)
    assert psutil.Process(process._process.pid).nice() == 10
    with Journal(folder / journal.FILE_NAME) as writer:
        for epoch in (3, 4):
            time.sleep(0.3)
            writer.append("epoch", epoch=epoch, metrics={"train/loss": float(np.float32(0.1))})
        writer.append("end", status="FINISHED", error=None)
    report = process.close()
    assert report.undelivered == {}
    store = Store(Target.local(tmp_path))
    assert report.experiments == {"mnist": store.experiment("mnist")}
    assert store.points(delivered.read(folder)["mlflow_id"]) == expected_points(folder)


def test_a_broken_mlflow_is_said_and_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/mlflow.py").write_text("raise ImportError('not well installed')\n")
    paths = [str(tmp_path / "broken"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
    process = DeliveryProcess(Target.local(tmp_path), tmp_path)
    process.follow(Run(make_run(tmp_path, "aaa")))
    report = process.close()
    assert report.undelivered == {
        "aaa": "the delivery process ended with status 1, see delivery.log"
    }
    assert "ImportError: not well installed" in (tmp_path / "delivery.log").read_text()


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
