"""Delivery into a real SQLite store: MLflow has what the journal has, however often it is sent."""

import json
import sys
import time
from pathlib import Path

import pytest

from harness.runfolder import delivered, journal
from harness.runfolder.journal import Journal
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.delivery import Delivery
from harness.tracking.follower import Follower
from harness.tracking.store import Store
from harness.tracking.sync import prove
from tests.tracking.conftest import deliver, expected_points, fresh_store, make_run

pytestmark = [
    pytest.mark.service,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own
]


def test_the_store_equals_the_journal(outputs: Path, store: Store) -> None:
    folder = make_run(outputs, "aaa")
    deliver(outputs, folder)
    found = store.find_run("mnist", "aaa")
    assert found is not None
    mlflow_id = found.info.run_id
    run = store.client.get_run(mlflow_id)
    created = Run(folder).history().create
    assert store.points(mlflow_id) == expected_points(folder)
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
    stored = outputs / "artifacts" / "mnist" / mlflow_id / "artifacts" / "config.yaml"
    assert stored.read_bytes() == (folder / "config.yaml").read_bytes()


def test_repeating_changes_nothing(outputs: Path, store: Store) -> None:
    folder = make_run(outputs, "bbb")
    deliver(outputs, folder)
    for lost in (False, True, True):
        if lost:
            (folder / delivered.FILE_NAME).unlink()
        deliver(outputs, folder)
    experiment = store.experiment("mnist")
    assert len(store.runs([experiment], "tags.`run.id` = 'bbb'")) == 1
    found = store.find_run("mnist", "bbb")
    assert found is not None
    mlflow_id = found.info.run_id
    assert store.points(mlflow_id) == expected_points(folder)


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_the_store_has_the_status_and_the_error(outputs: Path, store: Store, status: str) -> None:
    folder = make_run(outputs, f"run-{status}", status=status)
    deliver(outputs, folder)
    run = store.client.get_run(delivered.read(folder)["mlflow_id"])
    assert run.info.status == status
    assert run.data.tags["error"] == "why"


def test_a_resumed_run_is_running_again(outputs: Path, store: Store) -> None:
    folder = make_run(outputs, "ccc", status="KILLED")
    deliver(outputs, folder)
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("start", host="h", pid=2, threads=2, backend="numpy")
    deliver(outputs, folder)
    mlflow_id = delivered.read(folder)["mlflow_id"]
    assert store.client.get_run(mlflow_id).info.status == "RUNNING"
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("epoch", epoch=6, metrics={"train/loss": 0.5})
        writer.append("end", status="FINISHED", error=None)
    deliver(outputs, folder)
    run = store.client.get_run(mlflow_id)
    assert run.info.status == "FINISHED"
    assert "error" not in run.data.tags, "of the earlier attempt"
    assert store.points(mlflow_id) == expected_points(folder)


def test_a_run_of_rows_by_another_trainer_is_described_as_that(outputs: Path, store: Store) -> None:
    """No backend, and the shape of an example is not that of an image."""
    folder = make_run(outputs, "rows")
    records = journal.read(folder / journal.FILE_NAME)[0]
    records[0]["dataset"] |= {"sha256": "cd" * 32, "image_shape": [4], "dtype": "float32"}
    records[1]["backend"] = None
    (folder / journal.FILE_NAME).write_bytes(b"".join(map(journal.encode, records)))
    deliver(outputs, folder)
    run = store.client.get_run(delivered.read(folder)["mlflow_id"])
    assert "backend" not in run.data.tags
    assert run.data.tags["threads"] == "2"
    profile = json.loads(run.inputs.dataset_inputs[0].dataset.profile)
    assert "image_shape" not in profile
    assert profile["input_shape"] == [4]


def test_a_run_with_an_error_does_not_delay_the_others(tmp_path: Path) -> None:
    """One deleted in the store stays deleted, one damaged on disk is named; the others arrive."""
    deleted, damaged, *well = (make_run(tmp_path, name, status=None) for name in "abcde")
    deliver(tmp_path, deleted)
    store = Store(Target.local(tmp_path))
    store.client.delete_run(delivered.read(deleted)["mlflow_id"])
    for folder in (deleted, damaged, *well):
        with Journal(folder / journal.FILE_NAME) as writer:
            writer.append("end", status="FINISHED", error=None)
    content = bytearray((damaged / journal.FILE_NAME).read_bytes())
    content[-9] ^= 1
    (damaged / journal.FILE_NAME).write_bytes(content)
    delivery = Delivery(Target.local(tmp_path))
    for folder in (deleted, damaged, *well):
        delivery.follow(Run(folder))
    report = delivery.drain(patience=3)
    assert list(report.undelivered) == ["b"]
    assert "was deleted in the store and stays deleted" in report.deleted["a"]
    assert "b/journal.jsonl: the record at byte" in report.undelivered["b"]
    assert [proof.differences for proof in prove(store.target, [Run(each) for each in well])] == [
        ()
    ] * 3
    sent = store.points(delivered.read(damaged)["mlflow_id"])
    assert len(sent["train/loss"]) == 5, "what precedes the damage was sent"


def test_an_error_of_a_local_file_is_that_of_one_run(tmp_path: Path) -> None:
    """The others arrive, and nothing waits for what waiting cannot change."""
    broken, well = (make_run(tmp_path, name) for name in "ab")
    fresh_store(tmp_path)
    (broken / ".delivery.lock").mkdir()
    delivery = Delivery(Target.local(tmp_path))
    for folder in (broken, well):
        delivery.follow(Run(folder))
    begin = time.monotonic()
    report = delivery.drain(patience=60)
    assert time.monotonic() - begin < 30
    assert list(report.undelivered) == ["a"]
    assert ".delivery.lock" in report.undelivered["a"]


def test_a_missing_library_is_named_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As boto3, which MLflow needs for artifacts in S3."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    fresh_store(tmp_path)
    store = Store(Target.local(tmp_path))
    store.client.create_experiment("mnist", "s3://bucket/folder")
    delivery = Delivery(store.target, store)
    delivery.follow(Run(make_run(tmp_path, "aaa")))
    begin = time.monotonic()
    report = delivery.drain(patience=60)
    assert time.monotonic() - begin < 30
    assert "boto3" in report.undelivered["aaa"]


def test_a_bug_of_ours_is_not_the_store_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows its traceback in delivery.log, instead of being tried again for 30 s."""
    fresh_store(tmp_path)
    delivery = Delivery(Target.local(tmp_path))
    delivery.follow(Run(make_run(tmp_path, "aaa")))
    monkeypatch.setattr(Follower, "_deliver", lambda *_: len(5))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        delivery.step()
