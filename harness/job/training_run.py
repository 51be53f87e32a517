"""The run as a training function sees it: `fit(settings, run)`.

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

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.data.atomic import write_atomically
from harness.data.dataset import Dataset
from harness.job.progress import Show
from harness.nn import metrics
from harness.nn.losses import check_probabilities
from harness.runfolder.artifacts import Artifact
from harness.runfolder.checkpoints import Checkpoints, Write
from harness.runfolder.journal import Journal
from harness.runfolder.objective import Objective
from harness.runfolder.run import Run
from harness.training.monitor import Diverged, Monitor, check_finite

PREDICTIONS = "predictions/test.npz"
TIED = 1e-6  # probabilities closer than this may be either way around in another precision
RESERVED = (
    "calibration.json", "checkpoints", "code", "config.yaml", "delivered.json", "environment.txt",
    "job.log", "plots", "predictions", "report", "uncommitted.diff",
)  # fmt: skip
# What MLflow takes as the name of a metric.
NAME = re.compile(r"(?=.{1,250}$)(?!\.{1,2}(?:/|$))[\w.\- :]+(?:/(?!\.{1,2}(?:/|$))[\w.\- :]+)*")


class TrainingRun:
    """What a training function is given, and where its results go.

    folder: the run folder. dataset: the data set with its parts `train`, `val` (or None) and
    `test`. seed, threads: to be used. restored: the folder of the newest checkpoint, None when the
    training starts at its beginning.
    """

    def __init__(
        self, run: Run, journal: Journal, show: Show, *, dataset: Dataset, threads: int
    ) -> None:
        config, history = run.config, run.history()
        self.dataset, self.seed, self.threads = dataset, config.seed, threads
        self.files: list[str] = []
        self.folder, self._journal, self._show = run.folder, journal, show
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
            run.folder / "checkpoints",
            every=keeping.every,
            keep=keeping.keep,
            milestones=keeping.milestones,
        )
        self._test_error: float | None = None
        self._wrong: tuple[int, int] | None = None  # at least and at most, by the predictions
        self._recorded, self._has_final = len(history.epochs), bool(history.final)
        newest = self._checkpoints.newest()
        self.restored: Path | None = None if newest is None else newest.folder
        self._epoch = 0 if newest is None else newest.epoch  # the last one that is trained
        if self._epoch > self._recorded + 1:
            raise ValueError(
                f"{run.journal} lost records: it has {self._recorded} epochs, and {self.restored} "
                "was written after more; restore it from a backup, or remove the run folder and "
                "train it again"
            )
        for record in history.epochs[: self._epoch]:
            self._monitor.add(record["epoch"], record["metrics"])
        if newest is not None and self._recorded < newest.epoch:  # killed between the two
            self._record(newest.epoch, newest.metrics)
            self._monitor.add(newest.epoch, newest.metrics)
        self._begin = time.perf_counter()

    def epochs(self, total: int | None = None) -> Iterator[int]:
        """The numbers of the epochs that are left, each of which must be logged.

        total: of the training, by default the key `epochs`. It ends early by `patience`, or by a
        `break` of the caller's after an epoch that was logged.
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

        epoch: from 1, each once. values: metrics by key, such as `val/error`, finite numbers.
        checkpoint: called with a folder to save the state into, from which `restored` continues.
        Raises `ValueError` for other values, such as an error that is no fraction, and `Diverged`
        for a metric that is not finite.
        """
        if epoch != self._epoch + 1:
            raise ValueError(f"run.log({epoch}, ...): expected epoch {self._epoch + 1}")
        checked = _checked(values)
        checked.setdefault(metrics.EPOCH_S, time.perf_counter() - self._begin)
        try:
            check_finite(epoch, checked)
        except Diverged:
            self._record(epoch, checked)  # without a checkpoint to resume from
            raise
        _check_fractions(checked)
        self._journal.check_present()  # a folder that is being removed gets no more checkpoints
        self._monitor.add(epoch, checked)
        self._epoch = epoch
        if checkpoint is not None:
            self._checkpoints.save(epoch, self._monitor.best_epoch, checked, checkpoint)
        self._record(epoch, checked)
        self._show(epoch, checked)

    @property
    def best(self) -> Path | None:
        """The folder of the best epoch's checkpoint; None when none of that epoch was kept.

        The best epoch so far by the objective; without validation or with `weights=last`, the last
        one.
        """
        return self._checkpoints.of(self._monitor.best_epoch)

    def _record(self, epoch: int, values: dict[str, float]) -> None:
        """Write an epoch's record, unless the journal has it."""
        if epoch > self._recorded:
            self._journal.append("epoch", epoch=epoch, metrics=values)
            self._recorded = epoch

    def final(self, values: Mapping[str, float]) -> None:
        """Record the metrics of the test set, once, after the last epoch. Every run needs it.

        `best/epoch` and the objective's value at that epoch are added. They tell the truth about
        the test metrics when those are of the state in `best`. Raises `ValueError` without a metric
        of the test set, and for a test error that the predictions contradict.
        """
        checked = _checked(values)
        check_finite(self._epoch, checked)
        _check_fractions(checked)
        if not any(key.startswith("test/") for key in checked):
            raise ValueError(
                "run.final: expected metrics of the test set, such as test/error; found "
                f"{', '.join(checked)}"
            )
        self._test_error = checked.get(metrics.TEST_ERROR)
        self._check_agreement()
        for key, value in self._monitor.best().items():
            checked.setdefault(key, value)
        if not self._has_final:  # else MLflow would get a second row
            self._journal.append("final", epoch=self._epoch, metrics=checked)
            self._has_final = True

    def predictions(self, labels: ArrayLike, probabilities: ArrayLike) -> None:
        """Save what was predicted of the test set, for paired tests.

        labels: (N,) the true classes. probabilities: (N, C), in the same order. In a regression
        both are (N, K): targets and predictions. The file has the arrays `labels`, `probabilities`
        and, of a classification, `classes`: the C names, as texts. Raises `ValueError` for labels
        that are not those of the test set in its order, for other shapes, for rows that are not
        probabilities, and for predictions that contradict the test error of `final`.
        """
        truth, predicted = np.asarray(labels), np.asarray(probabilities, np.float32)
        if predicted.ndim != 2 or len(truth) != len(predicted) or not len(truth):
            raise ValueError(
                f"run.predictions: expected (N,) labels and (N, C) probabilities, found shapes "
                f"{truth.shape} and {predicted.shape}"
            )
        if not np.isfinite(predicted).all():
            raise ValueError("run.predictions: the probabilities are not all finite")
        _check_labels(truth, self.dataset.test.arrays()[1])
        if self.dataset.classes:
            check_probabilities("run.predictions", predicted)
            self._wrong = _wrong(truth, predicted)
            self._check_agreement()
        arrays: dict[str, NDArray[Any]] = {"labels": truth, "probabilities": predicted}
        if self.dataset.classes and len(self.dataset.class_names) == predicted.shape[1]:
            arrays["classes"] = np.array(self.dataset.class_names, np.str_)
        (self.folder / PREDICTIONS).parent.mkdir(exist_ok=True)
        write_atomically(
            self.folder / PREDICTIONS,
            lambda file: np.savez(file, **arrays),  # type: ignore[arg-type]  # none is a bool
        )
        self._add_file(PREDICTIONS)

    def artifact(self, name: str, path: str | Path | Callable[[Path], object]) -> None:
        """Keep a file with the run, under `name`, such as `model/tree.json`.

        path: a file that is copied, or a function that writes the file to the path that it gets.
        """
        file = Artifact(name).file(self.folder)
        if name.split("/")[0] in RESERVED or name.startswith((".", "journal", "traceback")):
            raise ValueError(f"run.artifact({name!r}): the name belongs to the harness")
        self._journal.check_present()  # a folder that is being removed does not come back
        file.parent.mkdir(parents=True, exist_ok=True)
        if callable(path):
            path(file)
            if not file.is_file():
                raise ValueError(f"run.artifact({name!r}): the function wrote no such file")
        else:
            with Path(path).open("rb") as source:
                write_atomically(file, lambda target: shutil.copyfileobj(source, target))
        self._add_file(name)

    def _check_agreement(self) -> None:
        """Raise `ValueError` when the predictions contradict the test error."""
        if self._test_error is None or self._wrong is None:
            return
        (least, most), count = self._wrong, len(self.dataset.test)
        if not least - 0.5 <= self._test_error * count <= most + 0.5:
            raise ValueError(
                f"test/error is {self._test_error:.4g} in run.final, and the most probable classes "
                f"in run.predictions are wrong for {least} of {count} test examples, an error of "
                f"{least / count:.4g}; expected both of the same predictions"
            )

    def _add_file(self, path: str) -> None:
        """Note a finished file of the run folder, which is recorded when the run ends."""
        if path not in self.files:
            self.files.append(path)


def _check_labels(found: NDArray[Any], expected: NDArray[Any]) -> None:
    """Raise `ValueError` when labels or targets are not those of the test set in its order."""
    is_alike = found.shape == expected.shape and found.dtype.kind in "biuf"
    if is_alike and np.allclose(found, expected):
        return
    what = f"shape {found.shape} of {found.dtype}"
    if is_alike:
        row = int(np.argmin(np.isclose(found, expected).reshape(len(found), -1).all(axis=1)))
        what = f"{found[row]} instead of {expected[row]} for example {row}"
    raise ValueError(
        f"run.predictions: expected the labels of the test set in its order, shape "
        f"{expected.shape}, as run.dataset.test.arrays() returns them; found {what}"
    )


def _wrong(labels: NDArray[Any], probabilities: NDArray[np.float32]) -> tuple[int, int]:
    """How many of the most probable classes are wrong, with ties broken well and badly."""
    rows, labels = np.arange(len(labels)), labels.astype(np.intp)
    is_most = probabilities >= probabilities.max(axis=1, keepdims=True) - TIED
    is_known = labels < probabilities.shape[1]
    right = is_known & is_most[rows, np.where(is_known, labels, 0)]
    alone = right & (is_most.sum(axis=1) == 1)
    return len(labels) - int(right.sum()), len(labels) - int(alone.sum())


def _check_fractions(values: Mapping[str, float]) -> None:
    """Raise `ValueError` for an error or an accuracy outside [0, 1]."""
    for key, value in values.items():
        part, _, name = key.partition("/")
        is_fraction = part in ("train", "val", "test") and name in ("error", "accuracy")
        if is_fraction and not 0 <= value <= 1:
            raise ValueError(
                f"metric {key}: expected the fraction of the examples, from 0 to 1, found "
                f"{value:.4g}; divide percent by 100, or give another quantity another name"
            )


def _checked(values: Any) -> dict[str, float]:
    """Metrics as Python numbers. Raises `ValueError`, one line."""
    if not isinstance(values, Mapping) or not values:
        raise ValueError(f"metrics: expected numbers by key such as val/error, found {values!r}")
    checked = {}
    for key, value in values.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = None
        if number is None or not isinstance(key, str) or isinstance(value, str | bool):
            raise ValueError(f"metric {key!r}: expected a number, found {value!r}")
        if not NAME.fullmatch(key):
            raise ValueError(
                f'metric {key!r}: expected a name of letters, digits, spaces and "_", "-", ".", '
                '":", with "/" between its parts, such as val/error, of at most 250 characters'
            )
        checked[key] = number
    return checked
