"""One job in its own process: its order, its end, and the end record it could not write."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.run.launchers import job_process
from harness.run.launchers.job_process import LOG, JobProcess
from harness.runfolder import liveness
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from tests.conftest import new_run, record_training

WAIT = "import sys; sys.stdin.read()"  # until the pipe closes
IGNORE = "import sys, time; sys.stdin.read(); time.sleep(600)"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return new_run(tmp_path)


def process_of(code: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", code], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def ended(process: "subprocess.Popen[bytes]") -> None:
    """Close the pipes of a test's process."""
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        if not pipe.closed:
            pipe.close()


@pytest.mark.parametrize(
    ("quiet", "cores", "alone", "pause"),
    [(False, None, False, None), (True, 3, False, 9), (False, None, True, None)],
)
def test_the_order_is_one_line_of_json(
    run: Run, quiet: bool, cores: int | None, alone: bool, pause: int | None
) -> None:
    process = process_of("import sys; sys.stdout.write(sys.stdin.readline())")
    with JobProcess(run, process, quiet=quiet, cores=cores, alone=alone, pause=pause):
        assert process.stdout is not None
        order = json.loads(process.stdout.read())
    log = str(run.folder / LOG) if quiet else None
    assert order == {
        "folder": str(run.folder), "name": run.history().name, "log": log, "cores": cores,
        "alone": alone, "pause": pause,
    }  # fmt: skip
    ended(process)


def test_waiting_returns_the_status_by_the_journal(run: Run) -> None:
    record_training(run, 0.5)
    process = process_of("import sys; sys.stdin.readline()")
    assert JobProcess(run, process).wait() is RunStatus.FINISHED
    ended(process)


def test_waiting_stops_after_the_timeout(run: Run) -> None:
    process = process_of(WAIT)
    with JobProcess(run, process) as job:
        assert job.wait(0.01) is None
        assert process.poll() is None
    assert process.returncode == 0
    ended(process)


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("raise SystemExit(7)", RunStatus.FAILED,
         "its process ended with exit status 7 and no end record"),
        ("import os; os.kill(os.getpid(), 9)", RunStatus.KILLED,
         "its process was ended by signal 9, as the system does when memory runs out"),
        ("import os; os.kill(os.getpid(), 11)", RunStatus.KILLED,
         "its process was ended by signal 11"),
    ],
)  # fmt: skip
def test_a_job_that_dies_before_its_first_record_is_closed(
    run: Run, code: str, status: RunStatus, error: str
) -> None:
    process = process_of(code)
    assert JobProcess(run, process).wait() is status
    history = run.history()
    assert (history.status, history.error, history.start) == (status, error, None)
    ended(process)


def test_a_job_that_dies_after_its_start_is_closed(run: Run) -> None:
    with run.writing() as journal:
        start = liveness.this_process() | {"process_started": 1.0}
        journal.append("start", **start, threads=1, backend="numpy")
    process = process_of("raise SystemExit(1)")
    assert JobProcess(run, process).wait() is RunStatus.FAILED
    ended(process)


def test_an_order_to_a_dead_process_is_no_error(run: Run) -> None:
    process = process_of("raise SystemExit(3)")
    process.wait()
    assert JobProcess(run, process).wait() is RunStatus.FAILED
    ended(process)


def test_leaving_the_context_ends_the_job(run: Run) -> None:
    """A job that never started stays CREATED: the next command trains it."""
    process = process_of(WAIT)
    with JobProcess(run, process):
        pass
    assert process.returncode == 0
    assert run.status is RunStatus.CREATED
    ended(process)


def test_a_job_that_does_not_end_is_killed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_process, "GRACE_S", 0.2)
    with run.writing() as journal:
        start = liveness.this_process() | {"process_started": 1.0}
        journal.append("start", **start, threads=1, backend="numpy")
    process = process_of(IGNORE)
    begin = time.monotonic()
    JobProcess(run, process).end()
    assert time.monotonic() - begin < 30
    assert process.returncode == -signal.SIGKILL
    history = run.history()
    assert (history.status, history.error) == (RunStatus.KILLED, "interrupted")
    ended(process)


def test_a_journal_that_cannot_be_closed_does_not_stop_the_others(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.journal.write_bytes(b"")
    process = process_of("raise SystemExit(7)")
    assert JobProcess(run, process).wait() is RunStatus.FAILED
    assert f"{run.id}: its process ended with exit status 7" in capsys.readouterr().err
    ended(process)
