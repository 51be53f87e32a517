"""Stopping a training after its epoch, from another process."""

from pathlib import Path

import pytest

from harness.runfolder.folder import all_runs
from harness.runfolder.run import STOP
from harness.runfolder.status import RunStatus
from tests.conftest import Command, new_run, record_training, start, wait_for


@pytest.mark.service
def test_a_stopped_job_can_be_resumed_and_the_others_go_on(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    own = [
        "dataset=idx", f"dataset.dir={idx_folder}", "dataset.num_val=40", "width=8", "seed=1",
        "tracking=none", "checkpoint.every=1",
    ]  # fmt: skip
    training = start(tmp_path, "-m", *own, "epochs=100000,2")
    outputs = tmp_path / "outputs"
    wait_for(lambda: any(run.history().epochs for run in all_runs(outputs)))
    runs = all_runs(outputs)
    done = command("harness", "stop", runs[0].id)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{runs[0].id}: stops after its current epoch\n"
    printed, errors = training.communicate(timeout=120)
    assert training.returncode == 1
    assert f"killed: epochs=100000 ({runs[0].id}): stopped by `harness stop`" in errors
    (line,) = [line for line in printed.splitlines() if line.startswith("to continue: ")]
    assert line.split(":", 1)[1].split()[:4] == ["python", "-m", "harness.run", "-m"]
    assert "epochs=100000,2" in line
    assert [run.status for run in runs] == [RunStatus.KILLED, RunStatus.FINISHED]
    assert not (runs[0].folder / STOP).exists()
    count = len(runs[0].history().epochs)
    again = start(tmp_path, f"resume={runs[0].id}")
    wait_for(lambda: len(runs[0].history().epochs) > count)
    assert command("harness", "stop", "since=1h").returncode == 0
    printed, _ = again.communicate(timeout=120)
    command_line = f"python -m harness.run resume={runs[0].id}"
    assert f"to continue:               {command_line}\n" in printed
    assert again.returncode == 1
    epochs = [record["epoch"] for record in runs[0].history().epochs]
    assert epochs == [*range(1, len(epochs) + 1)], "every epoch once"
    assert len(epochs) > count


def test_no_epoch_is_named_that_may_be_over_by_then(command: Command, tmp_path: Path) -> None:
    run = record_training(new_run(tmp_path / "outputs"), 0.5, status=None)
    with run.lock():
        done = command("harness", "stop", run.id)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{run.id}: stops after its current epoch\n"
    assert (run.folder / STOP).exists()


def test_what_is_not_being_trained_is_said(command: Command, tmp_path: Path) -> None:
    run = record_training(new_run(tmp_path / "outputs"), 0.5)
    done = command("harness", "stop", run.id)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "none of its runs is being trained at this moment" in done.stderr
    assert not (run.folder / STOP).exists()
