"""The pipe from a command to its job, as the job sees it: its order, and that the command lives."""

import importlib.util
import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from harness.nn.compiled import numba_loading as compiler

LAST_WORDS_S = 15.0


def prepare() -> None:
    """Load what takes long, while the command still composes."""
    if importlib.util.find_spec("numba"):
        with suppress(ImportError):  # the job that needs it will say so
            compiler.load()


def told() -> Path | None:
    """The folder that the pipe names; None when it closes before: there is nothing to train.

    Its line is JSON, as `jobs.JobProcess` writes it: folder; log, a file for what is printed, or
    null; cores, how many are for this job, or null.
    """
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 4096)
        if not more:
            return None
        line += more
    order = json.loads(line)
    if order["log"]:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
    if order["cores"]:
        os.environ["HARNESS_CORES"] = str(order["cores"])
    return Path(order["folder"])


def watch(status: int) -> None:
    """Wait until the command dies; then end this process, with `status` if nothing else does."""
    # Straight from the descriptor: a reader blocked inside sys.stdin breaks the interpreter's exit.
    while os.read(0, 1):
        continue
    signal.raise_signal(signal.SIGTERM)
    time.sleep(LAST_WORDS_S)  # inside a long call no signal is handled
    os._exit(status)
