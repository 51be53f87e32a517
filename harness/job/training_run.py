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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.data.atomic import write_atomically
from harness.data.dataset import Dataset
from harness.job.interruption import Paused, Stopped
from harness.job.machine import PREFIX, Meter
from harness.job.progress import Show
from harness.nn import metrics
from harness.nn.losses import check_probabilities
from harness.runfolder import checkpoints
from harness.runfolder.artifacts import Artifact
from harness.runfolder.checkpoints import Checkpoints, Write
from harness.runfolder.cost import PARAMETERS
from harness.runfolder.journal import Journal
from harness.runfolder.objective import Objective
from harness.runfolder.own_code import shown
from harness.runfolder.run import PREDICTIONS, Run
from harness.training.monitor import Diverged, Monitor, check_finite

ROUNDING = 1e-6  # of a mean of fractions
TIED = 1e-6  # probabilities closer than this may be either way around in another precision
RESERVED = (
    "calibration.json", "checkpoints", "code", "config.yaml", "delivered.json", "environment.txt",
    "job.log", "plots", "predictions", "report", "uncommitted.diff",
)  # fmt: skip
ORDER = "expected run.final once, after the last run.log"
WHERE = {
    "test": "; run.final takes those of the test set",
    "best": "; the harness adds those of the best epoch",
    **dict.fromkeys(("train", "val", "time"), "; run.log takes those of an epoch"),
}
# What the keys of `log` and of `final` may begin with.
OF_EPOCH, OF_END = ("train", "val", "time"), ("test",)
# What MLflow takes as the name of a metric.
NAME = re.compile(r"(?=.{1,250}$)(?!\.{1,2}(?:/|$))[\w.\- :]+(?:/(?!\.{1,2}(?:/|$))[\w.\- :]+)*")


class TrainingRun:
    """What a training function is given, and where its results go.

    folder: the run folder. dataset: the data set with its parts `train`, `val` (or None) and
    `test`. seed, threads: to be used. meter: of what the training takes of the machine;
    None: nothing is recorded of that. pause: the epoch after which the training is interrupted.
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
        self._final: dict[str, float] = {}  # what this process was given
        self._predicted: tuple[NDArray[Any], NDArray[np.float32]] | None = None
        self._recorded, self._has_final = len(history.epochs), bool(history.final)
        newest = self._checkpoints.newest()
        self._restored: Path | None = None if newest is None else newest.folder
        self._is_read = newest is None  # whether the function asked for a checkpoint
        self._epoch = 0 if newest is None else newest.epoch  # the last one that is trained
        if self._epoch > self._recorded + 1:
            raise ValueError(
                f"{run.journal} lost records: it has {self._recorded} epochs, and {self._restored} "
                "was written after more; restore it from a backup, or remove the run folder and "
                "train it again"
            )
        for record in history.epochs[: self._epoch]:
            self._monitor.add(record["epoch"], record["metrics"])
        if newest is not None and self._recorded < newest.epoch:  # killed between the two
            self._record(newest.epoch, newest.metrics)
            self._monitor.add(newest.epoch, newest.metrics)
        self._begin = time.perf_counter()

    @property
    def restored(self) -> Path | None:
        """The folder of the newest checkpoint; None when the training starts at its beginning."""
        self._is_read = True
        return self._restored

    @property
    def has_final(self) -> bool:
        """Whether `final` was called, in this process."""
        return bool(self._final)

    def begin(self) -> None:
        """Count what the training takes of the machine from here on, not from the call of `fit`.

        Called by the built-in trainer, whose kernels are compiled by now.
        """
        self._meter.restart()

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

        epoch: from 1, each once. values: finite numbers by key, each `train/NAME`, `val/NAME` or,
        not negative, `time/NAME`. checkpoint: called with a folder to save the state into, from
        which `restored` continues. Raises `ValueError` for other values, such as an error that is
        no fraction, after `final`, and when a resumed training asked for no checkpoint,
        `Diverged` for a metric that is not finite, `Stopped` where `harness stop` asked for it, and
        `Paused` where a search did.
        """
        if epoch != self._epoch + 1:
            raise ValueError(f"run.log({epoch}, ...): expected epoch {self._epoch + 1}")
        if self.has_final or (self._has_final and epoch > self._recorded):
            raise ValueError(f"run.log({epoch}, ...): called after run.final; {ORDER}")
        self._check_resumed(f"run.log({epoch}, ...)")
        checked = _checked("run.log", values, OF_EPOCH)
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
        """The folder of the best epoch's checkpoint; None when none of that epoch was kept.

        The best epoch so far by the objective; without validation or with `weights=last`, the last
        one.
        """
        self._is_read = True
        return self._checkpoints.of(self._monitor.best_epoch)

    def _record(self, epoch: int, values: dict[str, float]) -> None:
        """Write an epoch's record, unless the journal has it."""
        machine = self._meter.totals()  # in every epoch, as counters wrap
        if epoch > self._recorded:
            self._journal.append("epoch", epoch=epoch, metrics=values, machine=machine)
            self._recorded = epoch

    def final(self, values: Mapping[str, float]) -> None:
        """Take the metrics of the test set, once, after the last epoch. Every run needs it.

        They are recorded when the training function has returned: a failed run has none.

        values: finite numbers by key, each `test/NAME`, or `model/parameters`: how many numbers the
        model learned. `best/epoch` and the objective's value there are added. They tell the truth
        about the test metrics when those are of the state in `best`. Raises `ValueError` for other
        keys, for a second call, before the first epoch, and for a metric that the predictions
        contradict.
        """
        if self.has_final:
            raise ValueError(f"run.final: called twice; {ORDER}")
        if not self._epoch:
            raise ValueError(f"run.final: called before run.log; {ORDER}")
        self._check_resumed("run.final")
        checked = _checked("run.final", values, OF_END)
        check_finite(self._epoch, checked)
        _check_fractions(checked)
        self._check_agreement(checked, self._predicted)
        self._final = checked

    def finish(self) -> None:
        """Record what `final` took; called by the harness, once, after the training function."""
        if not self._has_final:  # else MLflow would get a second row
            machine = {f"{PREFIX}{key}": value for key, value in self._meter.totals().items()}
            content = self._final | self._monitor.best() | machine
            self._journal.append("final", epoch=self._epoch, metrics=content)
            self._has_final = True

    def predictions(self, labels: ArrayLike, probabilities: ArrayLike) -> None:
        """Save what was predicted of the test set, for paired tests.

        labels: (N,) the true classes. probabilities: (N, C), in the same order. In a regression
        both are (N, K): targets and predictions. The file has the arrays `labels`, `probabilities`
        and, of a classification, `classes`: the C names, as texts. Raises `ValueError` for labels
        that are not those of the test set in its order, for other shapes, for rows that are not
        probabilities, and for predictions that contradict a metric of `final`.
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
        self._check_agreement(self._final, (truth, predicted))
        self._predicted = truth, predicted
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

    def _check_agreement(
        self,
        final: Mapping[str, float],
        predicted: tuple[NDArray[Any], NDArray[np.float32]] | None,
    ) -> None:
        """Raise `ValueError` when the predictions contradict a metric of `final`."""
        if predicted is None:
            return
        count, is_regression = len(self.dataset.test), not self.dataset.classes
        for key, value in final.items():
            name = key.removeprefix("test/")
            found = measured(name, *predicted, is_regression=is_regression)
            if found is None:
                continue
            least, most, rounding = found
            if least - rounding <= value <= most + rounding:
                continue
            what = f"the predictions give {least:.4g}"
            if name == "error":
                what = (
                    "the most probable classes of the predictions are wrong for "
                    f"{round(least * count)} of {count} test examples, an error of {least:.4g}"
                )
            raise ValueError(
                f"{key} is {value:.4g}, and {what}; expected both of the same predictions"
            )

    def _check_resumed(self, call: str) -> None:
        """Raise `ValueError` for a training that goes on from nothing where another one ended."""
        if not self._is_read:
            assert self._restored is not None
            raise ValueError(
                f"{call}: the run is resumed after {self._restored.name}, and the training "
                "function did not read run.restored, so it began again; load the state from "
                "run.restored, or call run.log without checkpoint, and a resumed run begins at "
                "epoch 1"
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


def measured(
    name: str,
    labels: NDArray[Any],
    predicted: NDArray[np.float32],
    *,
    is_regression: bool,
) -> tuple[float, float, float] | None:
    """A metric by the predictions (N, K), with ties broken well and badly: least, most, rounding.

    None for one that predictions alone do not determine, such as a loss, or that is not known here.
    """
    if name in metrics.METRICS and is_regression == (name in metrics.OF_REGRESSION):
        if is_regression:
            value = metrics.METRICS[name](predicted.astype(np.float64), labels)
            return value, value, 1e-4 * value + TIED * float(np.abs(predicted).max())
        if labels.max() >= predicted.shape[1]:  # answers of other classes
            return None
        own = np.zeros(predicted.shape)
        own[np.arange(len(labels)), labels.astype(np.intp)] = TIED
        both = [float(metrics.METRICS[name](predicted + sign * own, labels)) for sign in (1, -1)]
        return min(both), max(both), 0.5 / len(labels)
    if is_regression or name not in ("error", "accuracy"):
        return None
    least, most = (wrong / len(labels) for wrong in _wrong(labels, predicted))
    if name == "accuracy":
        least, most = 1 - most, 1 - least
    return least, most, 0.5 / len(labels)


def _wrong(labels: NDArray[Any], probabilities: NDArray[np.float32]) -> tuple[int, int]:
    """How many of the most probable classes are wrong, with ties broken well and badly."""
    rows, labels = np.arange(len(labels)), labels.astype(np.intp)
    is_most = probabilities >= probabilities.max(axis=1, keepdims=True) - TIED
    is_known = labels < probabilities.shape[1]
    right = is_known & is_most[rows, np.where(is_known, labels, 0)]
    alone = right & (is_most.sum(axis=1) == 1)
    return len(labels) - int(right.sum()), len(labels) - int(alone.sum())


def _check_fractions(values: Mapping[str, float]) -> None:
    """Raise `ValueError` for what is shown in percent and is no fraction, and a negative time."""
    for key, value in values.items():
        part, _, _ = key.partition("/")
        if part == "time" and value < 0:
            raise ValueError(f"metric {key}: expected a number of at least 0, found {value:.4g}")
        is_fraction = part != "time" and Objective(key).is_fraction
        if is_fraction and not -ROUNDING <= value <= 1 + ROUNDING:
            raise ValueError(
                f"metric {key}: expected the fraction of the examples, from 0 to 1, found "
                f"{value:.4g}; divide percent by 100, or give another quantity another name"
            )


def _checked(call: str, values: Any, parts: Sequence[str]) -> dict[str, float]:
    """Metrics as Python numbers. parts: what keys may begin with. Raises `ValueError`, one line."""
    first = f"{parts[0]}/error" if parts == OF_END else "val/error"
    if not isinstance(values, Mapping) or not values:
        raise ValueError(
            f"metrics: expected numbers by key such as {first} in {call}, found {shown(values)}"
        )
    checked = {}
    for key, value in values.items():
        if not isinstance(key, str):
            raise ValueError(f"{call}: expected a text such as {first} as the key, found {key!r}")
        number = None
        with suppress(TypeError, ValueError, OverflowError):
            number = float(value)
        if number is None or isinstance(value, str | bytes | bool):
            raise ValueError(f"metric {key!r}: expected a number, found {shown(value)}")
        if not NAME.fullmatch(key):
            raise ValueError(
                f'metric {key!r}: expected a name of letters, digits, spaces and "_", "-", ".", '
                '":", with "/" between its parts, such as val/error, of at most 250 characters'
            )
        if parts == OF_END and key == PARAMETERS:
            checked[key] = number
            continue
        if key.partition("/")[0] not in parts or "/" not in key:
            allowed = " or ".join(f"{part}/NAME" for part in parts)
            raise ValueError(
                f"metric {key!r}: {call} expects metrics of the "
                f"{'test set, such as test/error' if parts == OF_END else 'epoch'}: {allowed}"
                f"{WHERE.get(key.partition('/')[0], '')}"
            )
        checked[key] = number
    return checked
