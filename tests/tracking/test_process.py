"""The delivery process of a command: it follows, reports, and ends with its command."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from harness.runfolder import delivered, journal
from harness.runfolder.journal import Journal
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.delivery import NICENESS
from harness.tracking.process import DeliveryProcess
from harness.tracking.store import Store
from harness.tracking.sync import prove
from harness.tracking.views import View
from tests.conftest import python_path, wait_for
from tests.tracking.conftest import expected_points, fresh_store, make_run

pytestmark = [
    pytest.mark.service,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own
]


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


def test_the_process_follows_and_reports(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "fff", epochs=2, status=None)
    process = DeliveryProcess(Target.local(tmp_path), tmp_path, patience=30)
    process.follow(Run(folder))
    started = psutil.Process(process._process.pid)
    assert wait_for(lambda: started.nice() == NICENESS), "as soon as it has started"
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


def test_a_process_that_makes_no_progress_is_said_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.tracking.process.SILENCE_S", 0.5)
    process = DeliveryProcess(Target.local(tmp_path), tmp_path, patience=0.5)
    started = psutil.Process(process._process.pid)
    started.suspend()
    process.follow(Run(make_run(tmp_path, "abc")))
    why = process.close().undelivered["abc"]
    assert why == "the delivery process made no progress for 1 s, see delivery.log"
    assert not started.is_running()


def test_the_view_of_a_sweep_is_stored_with_its_runs(tmp_path: Path) -> None:
    process = DeliveryProcess(Target.local(tmp_path), tmp_path)
    process.follow(Run(make_run(tmp_path, "aaa")))
    view = View("0123456789", ["batch"])
    report = process.close(view)
    store = Store(Target.local(tmp_path))
    experiment = store.experiment("mnist")
    assert report.views == [experiment]
    again = DeliveryProcess(Target.local(tmp_path), tmp_path)
    again.follow(Run(tmp_path / "runs/aaa"))
    assert again.close(view).views == [experiment], "also when there is nothing to deliver"
    key, value = view.tag()
    assert store.client.get_experiment(experiment).tags[key] == value


def test_a_broken_mlflow_is_reported_and_delays_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/mlflow.py").write_text("raise ImportError('not well installed')\n")
    for name, value in python_path(tmp_path / "broken").items():
        monkeypatch.setenv(name, value)
    process = DeliveryProcess(Target.local(tmp_path), tmp_path)
    process.follow(Run(make_run(tmp_path, "aaa")))
    report = process.close()
    assert report.undelivered == {
        "aaa": "the delivery process ended with status 1, see delivery.log"
    }
    assert "ImportError: not well installed" in (tmp_path / "delivery.log").read_text()


def test_a_process_that_delivered_all_and_gave_no_answer_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it, a sweep would end without links and without a word."""
    run = Run(make_run(tmp_path, "aaa"))
    process = DeliveryProcess(Target.local(tmp_path), tmp_path)
    process.follow(run)
    size = run.journal.stat().st_size
    assert wait_for(lambda: run.delivered().get("offset") == size)
    process._process.kill()
    assert process.close().undelivered == {}
    line = "warning: MLflow: the delivery process ended with status -9, see delivery.log; all "
    assert line in capsys.readouterr().err


def test_the_log_has_what_was_tried_in_vain(tmp_path: Path) -> None:
    fresh_store(tmp_path)
    client = Store(Target.local(tmp_path)).client
    client.delete_experiment(client.create_experiment("mnist"))
    process = DeliveryProcess(Target.local(tmp_path), tmp_path)
    process.follow(Run(make_run(tmp_path, "aaa")))
    assert "aaa" in process.close().undelivered
    assert "aaa: experiment 'mnist' was deleted" in (tmp_path / "delivery.log").read_text()


def test_a_log_that_cannot_be_written_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "delivery.log").mkdir()
    process = DeliveryProcess(Target.local(tmp_path), tmp_path)
    process.follow(Run(make_run(tmp_path, "aaa")))
    assert process.close().undelivered == {}
    warning = f"warning: delivery.log: {tmp_path}/delivery.log: Is a directory"
    assert warning in capsys.readouterr().err


@pytest.mark.usefixtures("heard_sigint")
@pytest.mark.parametrize("pause_s", [0.0, 0.05, 0.5, 3.0])
def test_an_interrupt_of_the_whole_group_leaves_the_process_alone(
    tmp_path: Path, pause_s: float
) -> None:
    """As Ctrl-C in a terminal, also before the process has imported anything."""
    process = DeliveryProcess(Target.local(tmp_path), tmp_path)
    time.sleep(pause_s)
    process._process.send_signal(signal.SIGINT)
    process.follow(Run(make_run(tmp_path, "aaa")))
    assert process.close().undelivered == {}
    assert "KeyboardInterrupt" not in (tmp_path / "delivery.log").read_text()


def test_the_process_ends_with_its_command(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.tracking.delivery"], stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    order = {"target": {"uri": f"sqlite:///{tmp_path}/x.db"}, "log": f"{tmp_path}/log"}
    process.stdin.write(json.dumps(order).encode() + b"\n")
    process.stdin.close()
    assert process.wait(20) != 0


def test_progress_is_printed_more_and_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def readline() -> str:
        time.sleep(1)
        return "done"

    monkeypatch.setattr("harness.tracking.process.PRINT_EVERY_S", 0.1)
    delivery = DeliveryProcess.__new__(DeliveryProcess)
    pipes = SimpleNamespace(stdout=SimpleNamespace(readline=readline))
    delivery._process = pipes  # type: ignore[assignment]  # all that is used of it
    delivery._runs, delivery._patience = [Run(make_run(tmp_path, "aaa")), Run(tmp_path)], 1.0
    delivery._target = Target.local(Path())
    assert delivery._answer() == "done"
    out = capsys.readouterr().out
    assert out.count("the results are on disk; copying 1 run(s) to MLflow at sqlite:") in (2, 3), (
        "after 0.1, 0.3, 0.7 s"
    )
