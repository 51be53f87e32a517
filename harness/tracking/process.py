"""The command's side of the delivery process: start it, name runs to it, wait for its report."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from harness.tracking.delivery import Report
from harness.tracking.follower import read_state
from harness.tracking.store import Target
from harness.training import journal

# MLflow's own patience is 8 tries of 120 s for one call; ours is the loop that looks first whether
# the lost call was carried out, so that a run is not created twice.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}

SAY_EVERY_S = 3.0
SILENCE_S = 60.0  # beyond its own patience: a call's time-outs, and a slow import


class DeliveryProcess:
    """One delivery process. What it has to say goes to `outputs/delivery.log`."""

    def __init__(self, target: Target, outputs: Path, patience: float) -> None:
        outputs.mkdir(parents=True, exist_ok=True)
        with (outputs / "delivery.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "harness.tracking.delivery"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | ENVIRONMENT,
            )
        self._folders: list[Path] = []
        self._target = target
        self._patience = patience
        self._say({"target": asdict(target), "patience": patience})

    def follow(self, folder: Path) -> None:
        """Deliver this run from now on."""
        self._folders.append(folder)
        self._say({"follow": str(folder.resolve())})

    def close(self) -> Report:
        """Wait until everything is delivered or given up; says what it waits for.

        The process gives up by itself; one that does not even do that is ended.
        """
        self._say({"close": True})
        moved, left, answer = time.monotonic(), self._left(), ""
        while not answer and time.monotonic() - moved < self._patience + SILENCE_S:
            try:
                answer, _ = self._process.communicate(timeout=SAY_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                before, left = left, self._left()
                if left < before:
                    moved = time.monotonic()
                print(
                    f"delivering to {self._target.uri}: {left} bytes of journals to go", flush=True
                )
        self._process.kill()
        self._process.wait()
        if not answer.strip():
            died = f"the delivery process ended with status {self._process.returncode}"
            return Report(undelivered={folder.name: died for folder in self._folders})
        return Report(**json.loads(answer))

    def _left(self) -> int:
        """Bytes of journals that are not delivered."""
        left = 0
        for folder in self._folders:
            state = read_state(folder)
            done = state.get("offset", 0) if state.get("store") == self._target.key else 0
            left += (folder / journal.FILE_NAME).stat().st_size - done
        return left

    def _say(self, order: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # it died; `close` reports every run as undelivered
