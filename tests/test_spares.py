"""The job processes that start up before they have a folder: taken, ended, never left behind."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence

import psutil
import pytest

from harness.spares import JOB, Spares


def waiting() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if tuple(each.cmdline()) == JOB]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((), 1),
        (("-m", "batch=16,64"), 1),
        (("--help",), 0),
        (("--cfg", "job"), 0),
        (("-m", "hydra/launcher=joblib", "batch=16,64"), 2),
        (("-m", "hydra/launcher=slurm", "batch=16,64"), 0),
    ],
)
def test_started_where_one_will_be_needed_and_ended_where_not(
    arguments: Sequence[str], wanted: int
) -> None:
    with Spares() as spares:
        spares.start_for(arguments)
        assert len(waiting()) == wanted
    assert waiting() == []


def test_only_one_waits_and_who_takes_it_owns_it() -> None:
    with Spares() as spares:
        spares.start()
        spares.start()
        (first,) = waiting()
        taken, other = spares.take(), spares.take()
        assert taken.pid == first.pid != other.pid
    for process in (taken, other):
        assert process.poll() is None
        with process:
            process.kill()


def test_a_job_that_is_told_nothing_ends_quietly() -> None:
    done = subprocess.run(JOB, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("seconds", [0, 0.1, 0.3, 1.5])
def test_ctrl_c_is_the_commands_business(seconds: float, capfd: pytest.CaptureFixture[str]) -> None:
    with Spares() as spares, spares.take() as taken:
        time.sleep(seconds)
        taken.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert taken.stdin is not None
        taken.stdin.close()
        assert taken.wait(60) == 0
    assert capfd.readouterr() == ("", "")


def test_one_that_died_while_it_waited_is_replaced() -> None:
    with Spares() as spares:
        spares.start()
        (first,) = waiting()
        first.kill()
        first.wait()
        with spares.take() as taken:
            assert taken.pid != first.pid
            assert taken.poll() is None
            taken.kill()
