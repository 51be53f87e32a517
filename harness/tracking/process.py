"""The command's side of the delivery process: start it, name runs to it, wait for its report."""

import json
import os
import queue
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from harness.runfolder import journal
from harness.tracking.delivery import PATIENCE_S, Report
from harness.tracking.follower import read_state
from harness.tracking.target import Target

# MLflow's own patience is 8 tries of 120 s for one call; ours is the loop that looks first whether
# the lost call was carried out, so that a run is not created twice.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}

SAY_EVERY_S = 3.0
SILENCE_S = 60.0  # beyond its own patience: a call's time-outs, and a slow import


class DeliveryProcess:
    """One delivery process. What it has to say goes to `outputs/delivery.log`.

    It ends with this process, however this one ends.
    """

    def __init__(self, target: Target, outputs: Path, patience: float = PATIENCE_S) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.tracking.delivery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | ENVIRONMENT,
        )
        self._folders: list[Path] = []
        with suppress(sqlite3.Error):  # opening the store says what is wrong with it
            if warning := target.moved(patience=1):
                print(warning, file=sys.stderr, flush=True)
        outputs.mkdir(parents=True, exist_ok=True)
        self._target, self._patience = target, patience
        log = str(outputs.resolve() / "delivery.log")
        self._say({"target": asdict(target), "log": log, "patience": patience})

    def follow(self, folder: Path) -> None:
        """Deliver this run from now on."""
        self._folders.append(folder)
        self._say({"follow": str(folder.resolve())})

    def close(self) -> Report:
        """Wait until everything is delivered or given up; says what it waits for.

        The process gives up by itself; one that does not even do that is ended.
        """
        why = ""
        try:
            self._say({"close": True})
            answer = self._answer()
            if not answer:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(2)  # it died: with which status?
        except KeyboardInterrupt:
            answer, why = "", "interrupted while it was delivered"
        finally:
            self._end()
        if answer.strip():
            return Report(**json.loads(answer))
        code = self._process.returncode
        why = why or f"the delivery process ended with status {code}, see delivery.log"
        return Report(undelivered={f.name: why for f in self._folders if self._left(f)})

    def _end(self) -> None:
        """End it at once; what is not delivered stays on disk."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # what one that died did not take is sent now
                pipe.close()

    def _answer(self) -> str:
        answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        assert self._process.stdout is not None
        read = self._process.stdout.readline
        threading.Thread(target=lambda: answers.put(read()), daemon=True).start()
        moved_on, left = time.monotonic(), sum(map(self._left, self._folders))
        while time.monotonic() - moved_on < self._patience + SILENCE_S:
            try:
                return answers.get(timeout=SAY_EVERY_S)
            except queue.Empty:
                before, left = left, sum(map(self._left, self._folders))
            if left < before:
                moved_on = time.monotonic()
            print(
                f"delivering to {self._target.uri}: {left} bytes of journals to go; "
                f"gives up {self._patience:.0f} s after the last progress",
                flush=True,
            )
        return ""

    def _left(self, folder: Path) -> int:
        """Bytes of a run's journal that are not delivered."""
        state = read_state(folder)
        done = state.get("offset", 0) if state.get("store") == self._target.key else 0
        path = folder / journal.FILE_NAME
        return path.stat().st_size - int(done) if path.exists() else 0

    def _say(self, order: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError:
            return  # it died; `close` reports every run as undelivered
