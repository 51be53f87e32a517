"""Processes that leave Ctrl-C to the command that started them."""

import signal
import subprocess
import sys

import pytest

from harness.runfolder import ctrl_c

IGNORING = "from harness.runfolder import ctrl_c; ctrl_c.ignore(); print('ready', flush=True); "


@pytest.mark.usefixtures("heard_sigint")
@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no masks")
def test_a_process_that_is_started_meanwhile_outlives_an_interrupt() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with ctrl_c.held_back():
        process = subprocess.Popen(
            [sys.executable, "-c", IGNORING + "input()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    process.send_signal(signal.SIGINT)  # before it has a handler
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    process.communicate(b"\n", timeout=60)
    assert process.returncode == 0
