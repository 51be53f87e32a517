"""`python -m harness WORDS...` in a fork of the test, which need not import MLflow again."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from importlib import import_module
from pathlib import Path

from harness.__main__ import console_script

LIMIT_S = 60


def preload() -> None:
    """Import MLflow now, for all commands that are forked later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_module("mlflow.store.tracking.sqlalchemy_store")


def forked(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; the test must not have opened a store of MLflow itself."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = os.fork()
        if child == 0:
            os._exit(_in_child(folder, words, stdout.fileno(), stderr.fileno()))
        deadline = time.monotonic() + LIMIT_S
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise AssertionError(f"{words} did not end within {LIMIT_S} s")
            time.sleep(0.01)
        told = []
        for file in (stdout, stderr):
            file.seek(0)
            told.append(file.read().decode(errors="replace"))
    return subprocess.CompletedProcess(words, os.waitstatus_to_exitcode(status), *told)


def _in_child(folder: Path, words: tuple[str, ...], stdout: int, stderr: int) -> int:
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    warnings.simplefilter("ignore")
    os.chdir(folder)
    code = 70
    try:
        sys.argv = ["harness", *words]
        console_script()
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return code
