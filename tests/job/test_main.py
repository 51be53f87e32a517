"""The command line of a job: its exit status, and what it does about a bad run folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.job.__main__ import EXIT
from harness.runfolder.run import Run
from harness.runfolder.status import ExitStatus, RunStatus
from tests.conftest import RUN, Command, new_run, only_folder, record_training, small


def test_every_status_of_a_job_has_an_exit_status() -> None:
    assert EXIT == {
        RunStatus.FINISHED: ExitStatus.DONE,
        RunStatus.FAILED: ExitStatus.FAILED,
        RunStatus.KILLED: ExitStatus.INTERRUPTED,
    }


def test_a_finished_run_is_not_trained_again(command: Command, tmp_path: Path) -> None:
    run = record_training(new_run(tmp_path), 0.5)
    before = run.journal.read_bytes()
    done = command("harness.job", str(run.folder))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run.journal.read_bytes() == before


def test_a_run_is_trained_by_its_folder(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    """From a copy of the folder, with a relative path; here after the journal was reset."""
    assert command(RUN, *small(idx_folder, "tracking=none", "epochs=2")).returncode == 0
    folder = only_folder(tmp_path)
    run = Run(folder)
    run.journal.write_bytes(run.journal.read_bytes().split(b"\n", 1)[0] + b"\n")
    done = command("harness.job", str(folder.relative_to(tmp_path) / "weights/.."))
    assert (done.returncode, done.stderr) == (0, "")
    assert [record["epoch"] for record in run.history().epochs] == [1, 2]


def test_a_run_without_its_data_fails(command: Command, tmp_path: Path) -> None:
    run = new_run(tmp_path)
    done = command("harness.job", str(run.folder))
    assert done.returncode == 1
    assert f"({run.id}) failed: " in done.stderr
    assert "Traceback" not in done.stderr
    assert run.status is RunStatus.FAILED
    assert "traceback.txt" in run.history().artifacts


def test_a_folder_that_is_no_run_is_one_line(command: Command, tmp_path: Path) -> None:
    done = command("harness.job", str(tmp_path / "missing"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path / 'missing'}: expected a run folder" in done.stderr
    assert not (tmp_path / "missing").exists()


def test_a_run_that_another_process_trains_is_refused(command: Command, tmp_path: Path) -> None:
    run = new_run(tmp_path)
    with run.lock():
        done = command("harness.job", str(run.folder))
    assert done.returncode == 1
    assert done.stderr == f"{run.folder}: another process is training it\n"
    assert run.status is RunStatus.CREATED


@pytest.mark.parametrize("arguments", [(), ("a", "b"), ("--attached", "folder"), ("--forked",)])
def test_bad_arguments_exit_2(command: Command, arguments: tuple[str, ...]) -> None:
    assert command("harness.job", *arguments).returncode == 2


@pytest.mark.parametrize("how", ["--attached", "--forking"])
def test_a_closed_pipe_ends_a_waiting_job(how: str) -> None:
    import socket

    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.job", how], stdin=theirs.fileno(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    ours.close()
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 0
