"""The object `run` that a training function receives: `fit(settings, run)`.

    def fit(settings: Settings, run: TrainingRun) -> None:
        model = make(settings, run.seed)
        if run.restored:
            model.load(run.restored / "model.npz")
        for epoch in run.epochs():
            train(model, run.dataset.train)
            error = score(model, run.dataset.val)
            run.log(epoch, {"val/error": error}, checkpoint=lambda d: model.save(d / "model.npz"))
        if run.best:
            model.load(run.best / "model.npz")
        run.final({"test/error": score(model, run.dataset.test)})

The built-in trainer (scratch.py) uses the same methods.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from numpy.typing import ArrayLike

from harness.data.atomic import write_atomically
from harness.data.dataset import Dataset
from harness.job.interruption import Paused, Stopped
from harness.job.machine import PREFIX, Meter
from harness.job.predictions import Predictions
from harness.job.progress import Show
from harness.job.reported_metrics import FINAL, LOG, check_fractions
from harness.nn import metrics
from harness.runfolder import checkpoints
from harness.runfolder.artifacts import Artifact
from harness.runfolder.checkpoints import Checkpoints, Write
from harness.runfolder.journal import Journal
from harness.runfolder.objective import Objective
from harness.runfolder.run import PREDICTIONS, Run
from harness.training.monitor import Diverged, Monitor, check_finite

RESERVED = (
    "calibration.json", "checkpoints", "code", "config.yaml", "delivered.json", "environment.txt",
    "job.log", "plots", "predictions", "report", "uncommitted.diff",
)  # fmt: skip
ORDER = "expected run.final once, after the last run.log"


class TrainingRun:
    """What a training function receives, and where its results go.

    folder: the run folder. dataset: the data set with its parts `train`, `val` (or None) and
    `test`. seed, threads: the values to use. meter: measures the machine use; None: it is not
    recorded. pause: the epoch after which training is interrupted.
    """

    def __init__(
        self, run: Run, journal: Journal, show: Show, *, dataset: Dataset, threads: int,
        meter: Meter | None = None, pause: int | None = None,
    ) -> None:  # fmt: skip
        config, history = run.config, run.history()
        self.dataset, self.seed, self.threads = dataset, config.seed, threads
        self.files: list[str] = []
        self._meter = meter or Meter()
        self._pause = pause
        self.folder, self._journal, self._show = run.folder, journal, show
        self._take_stop_request = run.take_stop_request
        self._total, objective = config.epochs, Objective.parse(config.objective)
        self._monitor = Monitor(
            objective.metric,
            maximize=objective.is_max,
            patience=config.patience,
            is_validated=dataset.val is not None,
            weights=config.weights,
            ties=run.ties,
        )
        keeping = config.checkpoint
        self._checkpoints = Checkpoints(
            run.folder / checkpoints.FOLDER,
            every=keeping.every,
            keep=keeping.keep,
            milestones=keeping.milestones,
        )
        self._final: dict[str, float] = {}  # the metrics that this process passed
        self._predicted: Predictions | None = None
        self._recorded, self._has_final = len(history.epochs), bool(history.final)
        newest = self._checkpoints.newest()
        self._restored: Path | None = None if newest is None else newest.folder
        self._is_read = newest is None  # whether the function asked for a checkpoint
        self._epoch = 0 if newest is None else newest.epoch  # the last one that was trained
        if self._epoch > self._recorded + 1:
            raise ValueError(
                f"{run.journal} lost records: it has {self._recorded} epochs, and {self._restored} "
                "was written after more; restore it from a backup, or remove the run folder and "
                "train it again"
            )
        for record in history.epochs[: self._epoch]:
            self._monitor.add(record["epoch"], record["metrics"])
        if newest is not None and self._recorded < newest.epoch:  # killed before the record
            self._record(newest.epoch, newest.metrics)
            self._monitor.add(newest.epoch, newest.metrics)
        self._begin = time.perf_counter()

    @property
    def restored(self) -> Path | None:
        """The folder of the newest checkpoint; None if training starts at epoch 1."""
        self._is_read = True
        return self._restored

    @property
    def has_final(self) -> bool:
        """Whether `final` was called in this process."""
        return bool(self._final)

    def begin(self) -> None:
        """Measure the machine use from here on, not from the call of `fit`.

        The built-in trainer calls this once its kernels are compiled.
        """
        self._meter.restart()

    def epochs(self, total: int | None = None) -> Iterator[int]:
        """Yield the numbers of the epochs that are left; each must be logged.

        total: the number of epochs, by default the key `epochs`. `patience` can end it early,
        and so can the caller with a `break` after an epoch that was logged.
        """
        total = self._total if total is None else total
        while self._epoch < total and not self._monitor.is_stale(self._epoch):
            epoch = self._epoch + 1
            self._begin = time.perf_counter()
            yield epoch
            if self._epoch != epoch:
                raise ValueError(f"epoch {epoch} was not logged; call run.log({epoch}, ...)")

    def log(self, epoch: int, values: Mapping[str, float], checkpoint: Write | None = None) -> None:
        """Record an epoch; it is durable when this returns.

        epoch: from 1, each once. values: finite numbers by key: `train/NAME`, `val/NAME` or
        `time/NAME` (not negative). checkpoint: called with a folder to save the state in, which
        `restored` returns in a resumed run. Raises `ValueError` for other values, such as an error
        that is not a fraction, after `final`, and if a resumed run read no checkpoint;
        `Diverged` for a metric that is not finite; `Stopped` after `harness stop`; and `Paused` if
        a search pauses the run.
        """
        if epoch != self._epoch + 1:
            raise ValueError(f"run.log({epoch}, ...): expected epoch {self._epoch + 1}")
        if self.has_final or (self._has_final and epoch > self._recorded):
            raise ValueError(f"run.log({epoch}, ...): called after run.final; {ORDER}")
        self._check_resumed(f"run.log({epoch}, ...)")
        checked = LOG.checked(values)
        checked.setdefault(metrics.EPOCH_S, time.perf_counter() - self._begin)
        try:
            check_finite(epoch, checked)
        except Diverged:
            self._record(epoch, checked)  # without a checkpoint to resume from
            raise
        check_fractions(checked)
        self._journal.check_present()  # a folder that is being removed gets no more checkpoints
        self._monitor.add(epoch, checked)
        self._epoch = epoch
        if checkpoint is not None:
            best, is_due = self._monitor.best_epoch, epoch == self._pause
            self._checkpoints.save(epoch, best, checked, checkpoint, is_due=is_due)
        self._record(epoch, checked)
        self._show(epoch, checked)
        if self._take_stop_request() and epoch < self._total:
            raise Stopped
        if epoch == self._pause and epoch < self._total:
            raise Paused

    @property
    def best(self) -> Path | None:
        """The folder of the best epoch's checkpoint; None if there is none.

        The objective decides which epoch is the best so far; without validation or with
        `weights=last`, it is the last one.
        """
        self._is_read = True
        return self._checkpoints.of(self._monitor.best_epoch)

    def _record(self, epoch: int, values: dict[str, float]) -> None:
        """Write an epoch's record, unless the journal has it."""
        machine = self._meter.totals()  # in every epoch, because counters wrap
        if epoch > self._recorded:
            self._journal.append("epoch", epoch=epoch, metrics=values, machine=machine)
            self._recorded = epoch

    def final(self, values: Mapping[str, float]) -> None:
        """Take the metrics of the test set, once, after the last epoch. Every run needs this call.

        They are recorded after the training function returns, so a failed run has none.

        values: finite numbers by key: `test/NAME`, or `model/parameters`, how many numbers the
        model learned. `best/epoch` and the objective's value there are added; they fit the test
        metrics only if those were computed with the state in `best`. Raises `ValueError` for other
        keys, for a second call, before the first epoch, and for a metric that the predictions
        contradict.
        """
        if self.has_final:
            raise ValueError(f"run.final: called twice; {ORDER}")
        if not self._epoch:
            raise ValueError(f"run.final: called before run.log; {ORDER}")
        self._check_resumed("run.final")
        checked = FINAL.checked(values)
        check_finite(self._epoch, checked)
        check_fractions(checked)
        if self._predicted is not None:
            self._predicted.check_agreement(checked)
        self._final = checked

    def finish(self) -> None:
        """Record the metrics of `final`; the harness calls it once after the training function."""
        if not self._has_final:  # else MLflow would get a second row
            machine = {f"{PREFIX}{key}": value for key, value in self._meter.totals().items()}
            content = self._final | self._monitor.best() | machine
            self._journal.append("final", epoch=self._epoch, metrics=content)
            self._has_final = True

    def predictions(self, labels: ArrayLike, probabilities: ArrayLike) -> None:
        """Save the predictions of the test set, for paired tests.

        labels: (N,) the true classes. probabilities: (N, C), in the same order. In a regression
        both are (N, K): targets and predictions. The file has the arrays `labels`, `probabilities`
        and, for a classification, `classes`: the C names as strings. Raises `ValueError` for labels
        that are not those of the test set in its order, for other shapes, for rows that are not
        probabilities, and for predictions that contradict a metric of `final`.
        """
        predicted = Predictions.checked(labels, probabilities, self.dataset)
        predicted.check_agreement(self._final)
        self._predicted = predicted
        (self.folder / PREDICTIONS).parent.mkdir(exist_ok=True)
        write_atomically(self.folder / PREDICTIONS, predicted.save)
        self._add_file(PREDICTIONS)

    def artifact(self, name: str, path: str | Path | Callable[[Path], object]) -> None:
        """Keep a file with the run, under `name`, such as `model/tree.json`.

        path: a file to copy, or a function that writes the file to the path that it gets.
        """
        file = Artifact(name).file(self.folder)
        if name.split("/")[0] in RESERVED or name.startswith((".", "journal", "traceback")):
            raise ValueError(f"run.artifact({name!r}): the name is reserved by the harness")
        self._journal.check_present()  # do not recreate a folder that is being removed
        file.parent.mkdir(parents=True, exist_ok=True)
        if callable(path):
            path(file)
            if not file.is_file():
                raise ValueError(f"run.artifact({name!r}): the function wrote no such file")
        else:
            with Path(path).open("rb") as source:
                write_atomically(file, lambda target: shutil.copyfileobj(source, target))
        self._add_file(name)

    def _check_resumed(self, call: str) -> None:
        """Raise `ValueError` if a resumed training did not read its checkpoint."""
        if not self._is_read:
            assert self._restored is not None
            raise ValueError(
                f"{call}: the run is resumed after {self._restored.name}, but the training "
                "function did not read run.restored, so it began again; load the state from "
                "run.restored, or call run.log without checkpoint; a resumed run then starts at "
                "epoch 1"
            )

    def _add_file(self, path: str) -> None:
        """Note a finished file of the run folder, to be recorded when the run ends."""
        if path not in self.files:
            self.files.append(path)
