"""Run statuses and exit statuses: the values that the README promises."""

import subprocess
import sys
import typing

import pytest

from harness.runfolder.status import ExitStatus, RunStatus


def test_the_exit_statuses_are_the_promised_numbers() -> None:
    assert {status.name: int(status) for status in ExitStatus} == {
        "DONE": 0, "FAILED": 1, "BAD_INPUT": 2, "UNDELIVERED": 3, "INTERRUPTED": 130,
    }  # fmt: skip


def test_the_statuses_are_the_words_of_the_journal() -> None:
    assert [status.value for status in RunStatus] == [
        "CREATED", "RUNNING", "FINISHED", "FAILED", "KILLED", "DAMAGED",
    ]  # fmt: skip
    assert all(status == status.name for status in RunStatus)


@pytest.mark.parametrize("status", ["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"])
def test_every_status_of_mlflow_has_one_here_and_back(status: str) -> None:
    assert RunStatus.of_mlflow(status).mlflow == status


def test_these_are_all_the_statuses_that_mlflow_has() -> None:
    """In a process of its own: importing MLflow takes seconds."""
    code = "from mlflow.entities import RunStatus; print(*RunStatus.all_status())"
    code = f"import warnings; warnings.simplefilter('ignore'); {code.replace('all_status', 'x')}"
    code = code.replace("*RunStatus.x()", "*RunStatus._STRING_TO_STATUS")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {
        "RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED",
    }  # fmt: skip


def test_only_the_status_before_the_first_start_is_renamed() -> None:
    changed = {status for status in RunStatus if status.mlflow != status}
    assert changed == {RunStatus.CREATED}


def test_a_status_that_is_unknown_is_an_error() -> None:
    with pytest.raises(ValueError, match="FINISHD"):
        RunStatus.of_mlflow("FINISHD")
    assert typing.get_type_hints(RunStatus.of_mlflow)["return"] is RunStatus
