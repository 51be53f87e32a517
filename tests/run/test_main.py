"""The entry point of `python -m harness.run`: signals and the exit status."""

import subprocess
import sys

import pytest

from harness.runfolder.status import ExitStatus

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
    ("name", "error"), [("command", "RuntimeError"), ("_prepare", "ValueError")]
)
def test_a_signal_that_a_library_turns_into_an_error_is_130(name: str, error: str) -> None:
    assert run_main(name, SWALLOWED.format(error=error)) == (130, "", "")


def test_an_error_without_a_signal_has_its_traceback() -> None:
    status, _, stderr = run_main("command", "    raise RuntimeError('a bug')")
    assert status == 1
    assert stderr.endswith("RuntimeError: a bug\n")
