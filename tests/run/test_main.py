"""The entry point of `python -m harness.run`: signals and the exit status."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.runfolder.status import ExitStatus
from tests.conftest import ROOT, RUN, python_path, wait_for

SCRIPT = """
import signal, sys
from harness.run import command
from harness.run import __main__ as run

def replaced(*arguments, **named):
{body}

command.{name} = replaced
sys.argv = ["harness-run", "hydra/launcher=slurm"]  # which needs no prestarted job
run.main()
"""
SWALLOWED = """\
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise {error}("of a library") from None
"""


def run_main(name: str, body: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of `main` when `command.NAME` has this body."""
    code = SCRIPT.format(name=name, body=body)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("status", ExitStatus)
def test_the_exit_status_is_that_of_the_command(status: ExitStatus) -> None:
    assert run_main("command", f"    print('out'); return {int(status)}") == (status, "out\n", "")


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_is_130(number: str) -> None:
    assert run_main("command", f"    signal.raise_signal(signal.{number})") == (130, "", "")


@pytest.mark.parametrize(
    ("name", "error"), [("command", "RuntimeError"), ("tasks.prepare", "ValueError")]
)
def test_a_signal_that_a_library_turns_into_an_error_is_130(name: str, error: str) -> None:
    assert run_main(name, SWALLOWED.format(error=error)) == (130, "", "")


def test_an_error_without_a_signal_has_its_traceback() -> None:
    status, _, stderr = run_main("command", "    raise RuntimeError('a bug')")
    assert status == 1
    assert stderr.endswith("RuntimeError: a bug\n")


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("wait", [0, 0.03, 0.1, 0.2, 0.3])
def test_a_signal_while_the_command_is_imported_is_130_and_quiet(
    tmp_path: Path, number: signal.Signals, wait: float
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", RUN, "experiment=smoke", "tracking=none"],
        cwd=tmp_path,
        env=os.environ | python_path(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_for(lambda: catches(process.pid, signal.SIGTERM))
    time.sleep(wait)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, b"Traceback" in stderr) == (130, False)
    if not (tmp_path / "outputs/runs").exists():
        assert stderr == b""
