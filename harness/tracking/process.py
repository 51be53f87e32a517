"""The command's side of the delivery process: start it, name runs to it, wait for its report."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from harness.tracking.delivery import Report
from harness.tracking.store import Target

# MLflow's own patience is 8 tries of 120 s for one call; ours is the loop that repeats the call.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


class DeliveryProcess:
    """One delivery process. What it has to say goes to `outputs/delivery.log`."""

    def __init__(self, target: Target, outputs: Path) -> None:
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
        self._say({"target": asdict(target)})

    def follow(self, folder: Path) -> None:
        """Deliver this run from now on."""
        self._folders.append(folder)
        self._say({"follow": str(folder.resolve())})

    def close(self) -> Report:
        """Wait until everything is delivered or given up."""
        self._say({"close": True})
        answer, _ = self._process.communicate()
        if not answer.strip():
            died = f"the delivery process ended with status {self._process.returncode}"
            return Report(undelivered={folder.name: died for folder in self._folders})
        return Report(**json.loads(answer))

    def _say(self, order: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # it died; `close` reports every run as undelivered
