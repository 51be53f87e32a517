"""Follow a trial while it trains: report its epochs to Optuna, decide whether to end its job."""

import threading
from typing import TYPE_CHECKING, Literal

from harness.runfolder import journal
from harness.runfolder.objective import Objective
from harness.runfolder.run import Run

if TYPE_CHECKING:
    from optuna import Trial


class Watch:
    """Follows a trial's journal and reports each epoch; called to decide whether to end its job.

    trial: None to report nothing to Optuna. pruned: the epoch after which the pruner ended the
    trial; 0 if it has not.
    """

    def __init__(self, trial: "Trial | None", run: Run, stop: threading.Event) -> None:
        self.pruned = 0
        self._trial, self._stop = trial, stop
        self._path, self._offset, self._epoch = run.journal, 0, 0
        self._metric = Objective.of(run.create["params"]).metric

    def __call__(self) -> Literal["end", "leave"] | None:
        """Report new epochs and decide."""
        if self._stop.is_set():
            return "leave"
        return "end" if self.report(may_prune=True) else None

    def report(self, *, may_prune: bool = False) -> bool:
        """Report new epochs. Returns whether the pruner ends the trial."""
        if self._trial is None:
            return False
        records, self._offset, _ = journal.read(self._path, self._offset)
        for record in records:
            if record["kind"] != "epoch" or record["epoch"] <= self._epoch:
                continue
            self._epoch = record["epoch"]
            if self._metric not in record["metrics"]:
                continue  # the job will report that
            self._trial.report(record["metrics"][self._metric], self._epoch)
            if may_prune and self._trial.should_prune():
                self.pruned = self._epoch
                return True
        return False
