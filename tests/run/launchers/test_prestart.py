"""Pre-started job processes: forked or started, taken, and ended when they are not taken.

Covers: harness/run/launchers/fork.py
"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence

import psutil
import pytest

from harness.job import forkserver
from harness.run.launchers import prestart
from harness.run.launchers.base import LauncherError
from harness.run.launchers.fork import Fork
from harness.run.launchers.prestart import JOB, Prestart


@pytest.fixture(params=["forked", "started"], autouse=True)
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the fork server and without."""
    if request.param == "started":
        monkeypatch.setattr(forkserver, "AVAILABLE", False)
    elif not forkserver.AVAILABLE:
        pytest.skip("cannot fork here")


def prepared() -> list[psutil.Process]:
    while True:
        alive = [c for c in psutil.Process().children() if c.status() != psutil.STATUS_ZOMBIE]
        lines = [tuple(child.cmdline()) for child in alive]
        if all(lines):  # empty for a moment while a process begins
            return [
                child for child, line in zip(alive, lines, strict=True) if line[: len(JOB)] == JOB
            ]
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ((), 1),
        (("-m", "batch=16,64"), 1),
        (("--help",), 0),
        (("--cfg", "job"), 0),
        (("-m", "hydra/launcher=joblib", "batch=16,64"), 1),
        (("-m", "hydra/launcher=slurm", "batch=16,64"), 0),
    ],
)
def test_a_job_is_prestarted_only_for_a_command_that_trains(
    arguments: Sequence[str], count: int
) -> None:
    with Prestart() as prestart:
        prestart.start_for(arguments)
        assert len(prepared()) == count
    assert prepared() == []


def test_one_is_prestarted_and_those_taken_are_not_ended() -> None:
    with Prestart() as prestart:
        prestart.start()
        prestart.start()
        assert len(prepared()) == 1
        taken = [prestart.take(), prestart.take()]
    assert len({job.pid for job in taken}) == 2
    for job in taken:
        assert job.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            job.wait(0.01)
        assert job.stdin is not None
        job.stdin.close()
        job.kill()
        assert job.wait(60) == job.poll() == -signal.SIGKILL


def test_a_job_without_an_order_exits_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    with Prestart() as prestart:
        job = prestart.take()
        assert job.stdin is not None
        job.stdin.close()
        assert job.wait(60) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("seconds", [0, 0.1, 0.3, 1.5])
def test_a_waiting_job_ignores_ctrl_c(seconds: float, capfd: pytest.CaptureFixture[str]) -> None:
    with Prestart() as prestart:
        prestart.start()
        time.sleep(seconds)
        (first,) = prepared()
        first.send_signal(signal.SIGINT)
        job = prestart.take()
        for pid in {job.pid, first.pid}:
            os.kill(pid, signal.SIGINT)
        time.sleep(0.2)
        assert job.stdin is not None
        job.stdin.close()
        assert job.wait(60) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("seconds", [0, 0.1, 1.5])
def test_a_prestarted_job_that_died_is_replaced(seconds: float) -> None:
    with Prestart() as prestart:
        prestart.start()
        time.sleep(seconds)
        (first,) = prepared()
        first.kill()
        first.wait()
        job = prestart.take()
        assert job.pid != first.pid
        assert job.poll() is None
        (second,) = prepared()
        assert second.pid != first.pid
        assert isinstance(job, Fork) == (second.pid != job.pid)
        assert isinstance(job, Fork) == forkserver.AVAILABLE
        assert job.stdin is not None
        job.stdin.close()
        assert job.wait(60) == 0


def test_where_no_process_can_be_started_the_job_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prestart, "JOB", ("/nowhere/python",))
    with Prestart() as jobs:
        jobs.start()  # quietly: it only saves time
        with pytest.raises(LauncherError, match=r"no process for a job can be started.*/nowhere"):
            jobs.take()
