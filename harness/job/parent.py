"""Read the run folder to train from the parent's pipe; EOF means that the parent died."""

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.nn.compiled import numba_loading
from harness.runfolder.keys import source_digest
from harness.runfolder.status import ExitStatus

END_RECORD_S = 15.0


@dataclass(frozen=True)
class Order:
    """What the parent orders.

    name: the run's name. alone: whether it is the only job, whose failure the parent prints. pause:
    the epoch after which to end; None: the last one.
    """

    folder: Path
    name: str
    alone: bool
    pause: int | None


def preload() -> str | None:
    """Do slow work once for all jobs, while the command still composes configurations.

    Returns why Numba cannot be used, None if it can.
    """
    source_digest()  # 0.1 s in every job
    return numba_loading.obstacle() or numba_loading.failure()


def read_order() -> Order | None:
    """Read the order from stdin; None if the parent closed the pipe first.

    The line is JSON, as `job_process.JobProcess` writes it: folder and name of the run; log, the
    file for the job's output, or null; cores, the number that it may use, or null; alone and pause,
    see `Order`.
    """
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 4096)
        if not more:
            return None
        line += more
    order = json.loads(line)
    if order["log"]:
        with suppress(OSError):  # the folder was removed, or the disk is full: training reports it
            log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(log, 1)
            os.dup2(log, 2)
    if order["cores"]:
        os.environ["HARNESS_CORES"] = str(order["cores"])
    return Order(Path(order["folder"]), order["name"], order["alone"], order["pause"])


def watch() -> None:
    """Wait until the parent dies, then end this process cleanly, or after 15 s by force."""
    # Read the descriptor itself: a thread blocked in sys.stdin hangs the interpreter's exit.
    while os.read(0, 1):
        continue
    signal.raise_signal(signal.SIGTERM)
    time.sleep(END_RECORD_S)  # a long call delays signal handlers
    os._exit(ExitStatus.INTERRUPTED)
