"""The recorder of a job: makes each epoch durable, then shows it."""

from harness.job import interruption
from harness.job.progress import Show
from harness.runfolder.checkpoint import Checkpoints
from harness.runfolder.history import History
from harness.runfolder.journal import Journal
from harness.training.trainer import Trainer


class JobRecorder:
    """Writes the checkpoint of each epoch, then its journal record, then shows it.

    A kill between the two leaves a checkpoint whose epoch the journal lacks; the checkpoint carries
    the record, and resuming writes it. Epochs already in the journal, after resuming from an
    older checkpoint, are not recorded twice.
    """

    def __init__(
        self,
        journal: Journal,
        show: Show,
        checkpoints: Checkpoints,
        history: History,
    ) -> None:
        self._journal = journal
        self._show = show
        self._checkpoints = checkpoints
        self._recorded, self._has_final = len(history.epochs), bool(history.final)

    def epoch(self, epoch: int, values: dict[str, float], trainer: Trainer) -> None:
        """Checkpoint, record and show an epoch."""
        self._journal.check_present()  # a folder that is being removed gets no more checkpoints
        arrays, rest = trainer.state()
        description = {"epoch": epoch, "metrics": values, "state": rest}
        self._checkpoints.save(epoch, trainer.best_epoch, arrays, description)
        if trainer.is_over:
            interruption.ignore_signals()  # finishing takes less time than resuming would
        self.record(epoch, values)
        self._show(epoch, values)

    def final(self, epoch: int, values: dict[str, float]) -> None:
        """Record the test metrics, unless the journal has them: MLflow would get a second row."""
        if not self._has_final:
            self._journal.append("final", epoch=epoch, metrics=values)

    def resume(self, trainer: Trainer) -> None:
        """Restore the trainer from the newest checkpoint, if there is one."""
        newest = self._checkpoints.newest()
        if newest is not None:
            arrays, description = newest
            trainer.restore(arrays, description["state"])
            self.record(description["epoch"], description["metrics"])

    def record(self, epoch: int, values: dict[str, float]) -> None:
        """Write an epoch's record, unless the journal has it."""
        if epoch > self._recorded:
            self._journal.append("epoch", epoch=epoch, metrics=values)
            self._recorded = epoch
