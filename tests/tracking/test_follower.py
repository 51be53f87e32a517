"""Delivering one journal: torn records wait, refused records are set aside."""

import json
import math
from pathlib import Path

import pytest

from harness.runfolder import delivered, journal
from harness.runfolder.journal import Journal
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking import follower as module
from harness.tracking.delivery import Delivery
from harness.tracking.store import Store
from tests.tracking.conftest import deliver, fresh_store, make_run

pytestmark = [
    pytest.mark.service,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own
]


def test_infinity_is_not_a_large_number(outputs: Path, store: Store) -> None:
    folder = make_run(outputs, "ddd", epochs=1, status=None)
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("epoch", epoch=2, metrics={"train/loss": math.inf})
    deliver(outputs, folder)
    run = store.client.get_run(delivered.read(folder)["mlflow_id"])
    assert math.isnan(store.client.get_metric_history(run.info.run_id, "train/loss")[-1].value)
    assert run.data.tags["nonfinite"] == "train/loss = inf at step 2"


def test_what_another_machine_has_just_delivered_is_not_sent_again(
    outputs: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its `delivered.json` appears when the network file system is asked, under the lock."""
    folder = make_run(outputs, "aaa")
    run = Run(folder)
    theirs = json.dumps({"store": store.target.key, "offset": run.journal.stat().st_size})
    monkeypatch.setattr(module, "revalidate", lambda path: path.write_text(theirs))
    follower = module.Follower(run, store.target)
    follower.step(store)
    assert (folder / delivered.FILE_NAME).read_text() == theirs
    assert not follower.outstanding


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


def test_a_finished_run_takes_two_calls_for_what_it_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first record, and everything else together: a call takes several milliseconds."""
    folder = make_run(tmp_path, "aaa", epochs=5)
    fresh_store(tmp_path)
    store, calls = Store(Target.local(tmp_path)), []
    log_batch = store.client.log_batch
    monkeypatch.setattr(
        type(store.client), "log_batch",
        lambda _, *given, **named: calls.append(given) or log_batch(*given, **named),
    )  # fmt: skip
    deliver(tmp_path, folder)
    assert len(calls) == 2
    found = store.find_run("mnist", "aaa")
    assert found is not None
    assert found.info.status == "FINISHED"
    assert found.data.tags["host"]
    assert [step for step, _, _ in store.points(found.info.run_id)["train/loss"]] == [1, 2, 3, 4, 5]


def test_a_record_that_the_store_refuses_is_set_aside(tmp_path: Path) -> None:
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
    found = store.find_run("mnist", "aaa")
    assert found is not None
    mlflow_id = found.info.run_id
    run = store.client.get_run(mlflow_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["refused"].startswith("1 records: ")
    assert [step for step, _, _ in store.points(mlflow_id)["train/loss"]] == [1, 2, 4]


def test_a_record_that_a_later_one_replaced_is_skipped(tmp_path: Path) -> None:
    """A report that was written again: its first record describes a file that is no more."""
    folder = make_run(tmp_path, "aaa")
    for text in ("old", "newer"):
        (folder / "report.html").write_text(text)
        Run(folder).add_artifacts(["report.html"])
    delivery = deliver(tmp_path, folder)
    assert (delivery.report().refused, delivery.report().undelivered) == ({}, {})
    (stored,) = tmp_path.glob("artifacts/*/*/artifacts/report.html")
    assert stored.read_text() == "newer"


def test_a_file_that_changed_after_its_record_is_not_sent(tmp_path: Path) -> None:
    """The other records arrive, the run counts as not delivered."""
    folder = make_run(tmp_path, "aaa")
    (folder / "config.yaml").write_text("")
    fresh_store(tmp_path)
    delivery = Delivery(Target.local(tmp_path))
    delivery.follow(Run(folder))
    report = delivery.drain()
    assert "config.yaml has 0 bytes instead of" in report.undelivered["aaa"]
    store = Store(Target.local(tmp_path))
    mlflow_id = delivered.read(folder)["mlflow_id"]
    assert store.client.get_run(mlflow_id).info.status == "FINISHED"
    assert store.client.list_artifacts(mlflow_id) == []
