"""`python -m harness evaluate`: score a saved run on the test set of any data."""

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from harness.analysis.outcome import confusion
from harness.analysis.statistics import mean_interval, wilson
from harness.commands.options import CONFIG_DIR, JSON, OUTPUTS, refuse
from harness.data.dataset import Dataset, default_names, is_image
from harness.data.normalization import is_beyond, narrow_range
from harness.nn.losses import CrossEntropy, tempered
from harness.recognizer import calibration
from harness.recognizer.loading import load_run
from harness.recognizer.recognizer import Recognizer
from harness.run import compose
from harness.run.overrides import parse_each, text_of, value_text
from harness.runfolder import own_code, own_dataset, parts
from harness.runfolder.config import expand_home
from harness.runfolder.kinds import DATASET
from harness.runfolder.optional import warn
from harness.runfolder.own_code import OwnCodeError
from harness.runfolder.run import Run
from harness.runfolder.schema import DatasetConfig, ScratchConfig
from harness.runfolder.selection import one_run
from harness.training import evaluation as scoring

PLACES = {"dir": "idx", "file": "arrays"}
EXPECTED = (
    "expected dataset=NAME, dataset.dir=FOLDER, dataset.file=FILE.npz or a key of your own data set"
)
NAME = 12  # characters of the name of a class


@click.command()
@click.argument("run")
@click.argument("overrides", nargs=-1)
@OUTPUTS
@CONFIG_DIR
@JSON
def evaluate(run: str, overrides: tuple[str, ...], outputs: Path, as_json: bool) -> None:
    """Score a saved run on the test set of any data.

    dataset=NAME with its folder, file or keys, as in training, or other keys of the run's own data.
    """
    try:
        evaluation = run_on(outputs, run, list(overrides))
    except (ValueError, OSError) as error:
        refuse(error)
    click.echo(json.dumps(evaluation.to_dict()) if as_json else text(evaluation))


@dataclass(frozen=True)
class Evaluation:
    """The score of a run on the test set of some data; `images` is its number of examples.

    error and both calibration errors: fractions; interval: of the error, with 95 % confidence;
    loss: the mean of the run's own, in the unit loss_unit, nats or none. raw_calibration_error: of
    the probabilities that the loss is of. calibration_error: of the calibrated ones, divided by the
    temperature, which `predict` answers; uncalibrated: why there are none. confusion: (C, C) counts
    of examples by true class (row) and predicted class (column); class_names: of the C classes;
    metrics: the run's further ones, by name.
    """

    run: str
    dataset: str
    images: int
    error: float
    interval: tuple[float, float]
    loss: float
    calibration_error: float
    confusion: NDArray[np.int64]
    class_names: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    loss_unit: str = "nats"
    raw_calibration_error: float | None = None
    temperature: float = 1.0
    uncalibrated: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON can hold."""
        return self.__dict__ | {"confusion": self.confusion.tolist()}


@dataclass(frozen=True)
class Regression:
    """The score of a run that predicts numbers, on the test set of some data.

    loss: the mean of the run's own. mean_squared_error, mean_absolute_error: over all examples and
    targets; the intervals are theirs, with 95 % confidence, None for a single example. r2: the
    coefficient of determination of each target, 1 - sum (t - p)^2 / sum (t - mean t)^2, and of
    several their mean ("uniform_average" of scikit-learn) over those that vary; None where none
    does. metrics: the run's further ones, by name.
    """

    run: str
    dataset: str
    examples: int
    loss: float
    mean_squared_error: float
    squared_interval: tuple[float, float] | None
    mean_absolute_error: float
    absolute_interval: tuple[float, float] | None
    r2: float | None
    metrics: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON can hold."""
        return dict(self.__dict__)


def run_on(outputs: Path, run_id: str, overrides: list[str]) -> Evaluation | Regression:
    """Score a run on its own data set, or on that of `dataset=NAME`, as `harness.run` takes it.

    Without `dataset=NAME`, `dataset.KEY=VALUE` changes a key of the run's own data set. Raises
    `ValueError` if the run or the data set does not exist or they do not fit each other.
    """
    run = one_run(outputs, run_id)
    config = run.config
    metrics = _usable_metrics(run)
    trained = load_run(run, also=[name for name in metrics if ":" in name])
    settings = _dataset(overrides, run) if overrides else config.dataset
    if overrides:
        data = own_dataset.load(replace(settings, num_val=0, num_train=None), run.cache)
    else:
        data = run.dataset()
    fits = 0 < data.classes <= trained.classes
    if trained.is_regression:
        fits = data.classes == 0 and data.outputs == trained.network.outputs
    if _kind(data) != _kind(trained) or not fits:
        expected = _answers(trained.classes, trained.network.outputs, "at most ")
        raise ValueError(
            f"dataset={settings.name}: run {run.id} expects {_kind(trained)} {expected}, "
            f"found {_kind(data)} {_answers(data.classes, data.outputs)}"
        )
    if overrides and (problem := _other_range(data, trained)):
        warn(f"dataset={settings.name}", f"{problem}; scale the values")
    with np.errstate(over="ignore", invalid="ignore"):  # the result is checked
        score, predictions = scoring.evaluate(
            trained.network, data.test, trained.normalization, trained.loss
        )
    if not math.isfinite(score.loss):
        raise ValueError(f"run {run.id}: its weights are too large to give an answer")
    labels = data.test.labels
    functions = parts.metrics(metrics)
    further = scoring.values("test", score, trained.loss, functions, predictions, labels)
    further = {key.removeprefix("test/"): value for key, value in further.items()}
    further = {name: value for name, value in further.items() if name not in ("loss", "error")}
    title = settings.title or settings.name
    title = title if settings.place is None else f"{title} ({settings.place})"
    if trained.is_regression:
        return regression(run.id, title, score.loss, predictions, labels, further)
    calibrated = tempered(predictions, trained.temperature)
    return Evaluation(
        run=run.id,
        dataset=title,
        images=score.count,
        error=score.error,
        interval=wilson(score.wrong, score.count),
        loss=score.loss,
        calibration_error=calibration.expected_error(calibrated, labels),
        confusion=confusion(labels, predictions.argmax(axis=1), trained.classes),
        class_names=trained.class_names,
        metrics=further,
        loss_unit="nats" if type(trained.loss) is CrossEntropy else "",
        raw_calibration_error=calibration.expected_error(predictions, labels),
        temperature=trained.temperature,
        uncalibrated=trained.uncalibrated,
    )


def regression(
    run: str,
    title: str,
    loss: float,
    predictions: NDArray[np.float32],
    targets: NDArray[np.float32],
    metrics: dict[str, float],
) -> Regression:
    """The score of predictions (N, K) for targets (N, K)."""
    wanted = targets.astype(np.float64)
    differences = predictions - wanted
    squared, absolute = (differences**2).mean(axis=1), np.abs(differences).mean(axis=1)
    spread = ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
    explained = 1 - (differences**2).sum(axis=0)[spread > 0] / spread[spread > 0]
    return Regression(
        run=run,
        dataset=title,
        examples=len(wanted),
        loss=loss,
        mean_squared_error=float(squared.mean()),
        squared_interval=mean_interval(squared),
        mean_absolute_error=float(absolute.mean()),
        absolute_interval=mean_interval(absolute),
        r2=float(explained.mean()) if len(explained) else None,
        metrics=metrics,
    )


def _usable_metrics(run: Run) -> list[str]:
    """The run's further metrics, without those whose source has changed, which are warnings."""
    config, usable = run.config, []
    for name in config.metrics if isinstance(config, ScratchConfig) else []:
        try:
            if ":" in name:
                own_code.use(run.history().code, [name], quiet=True)
        except OwnCodeError as error:
            warn(own_code.what_differs(error), f"metrics=[{name}] is left out")
        else:
            usable.append(name)
    return usable


def _other_range(data: Dataset, trained: Recognizer) -> str | None:
    """What is wrong with the range of other data than a run was trained on; None if nothing is."""
    known, test = trained.value_range, data.test.inputs
    if known is not None and is_beyond(known, test):
        of, found = f"{known[0]:g} to {known[1]:g}", f"{test.min():g} to {test.max():g}"
    elif trained.reads_pictures and known is None and (narrow := narrow_range(test)):
        of, found = "0 to 255", f"{narrow[0]} to {narrow[1]}"
    else:
        return None
    return f"run {trained.run_id} was trained on values {of}, and the test examples have {found}"


def _kind(data: Dataset | Recognizer) -> str:
    """What the examples are: `images of 28x28`, or `float32 of shape (4,)`."""
    dtype = data.dtype if isinstance(data, Recognizer) else data.train.inputs.dtype
    if is_image(data.input_shape, dtype):
        return f"images of {'x'.join(map(str, data.input_shape))}"
    return f"{dtype} of shape {data.input_shape}"


def _answers(classes: int, outputs: int, most: str = "") -> str:
    """What a network answers, or a data set asks for: `in 10 classes`, or `with 1 target`."""
    if classes:
        return f"in {most}{classes} classes"
    return f"with {outputs} target{'s' if outputs > 1 else ''}"


def text(evaluation: Evaluation | Regression) -> str:
    """The scores in some lines; of a classification, then the confusion matrix."""
    if isinstance(evaluation, Regression):
        return _regression_text(evaluation)
    low, high = evaluation.interval
    lines = [
        f"run {evaluation.run} on {evaluation.dataset}: error {evaluation.error:.2%} "
        f"(95 % interval {low:.2%} to {high:.2%}) of {evaluation.images:,} test examples",
        f"{f'loss {evaluation.loss:.4f} {evaluation.loss_unit}'.strip()}, "
        f"expected calibration error {_calibration_text(evaluation)}",
        *(f"{name} {value:.4g}" for name, value in evaluation.metrics.items()),
        "",
        "rows: true class; columns: predicted class",
    ]
    counts = evaluation.confusion
    names = [name[:NAME] for name in evaluation.class_names or default_names(len(counts))]
    longest = max(map(len, names))
    width = max(4, len(str(counts.max())) + 1, longest + 1)
    first = max(4, longest + 1)
    lines.append(" " * first + "".join(f"{name:>{width}}" for name in names))
    for name, row in zip(names, counts, strict=True):
        lines.append(f"{name:>{first}}" + "".join(f"{n or '.':>{width}}" for n in row))
    return "\n".join(lines)


def _calibration_text(evaluation: Evaluation) -> str:
    calibrated, raw = evaluation.calibration_error, evaluation.raw_calibration_error
    if raw is None or evaluation.temperature == 1:
        why = f": {evaluation.uncalibrated}" if evaluation.uncalibrated else ""
        return f"{calibrated:.2%} (not calibrated{why})"
    return (
        f"{raw:.2%}, calibrated {calibrated:.2%} (temperature {evaluation.temperature:.2f}, as "
        "`predict` answers)"
    )


def _regression_text(evaluation: Regression) -> str:
    def spelled(value: float, interval: tuple[float, float] | None) -> str:
        if interval is None:
            return f"{value:.4g}"
        low, high = interval
        return f"{value:.4g} (95 % interval {low:.4g} to {high:.4g})"

    mean_squared = spelled(evaluation.mean_squared_error, evaluation.squared_interval)
    mean_absolute = spelled(evaluation.mean_absolute_error, evaluation.absolute_interval)
    r2 = "" if evaluation.r2 is None else f", R^2 {evaluation.r2:.3f}"
    further = {"loss": evaluation.loss} | evaluation.metrics
    shown = {"mean_absolute_error"}
    if math.isclose(evaluation.loss, evaluation.mean_squared_error, rel_tol=1e-5):
        shown.add("loss")
    return "\n".join(
        [
            f"run {evaluation.run} on {evaluation.dataset}: mean squared error {mean_squared} of "
            f"{evaluation.examples:,} test examples",
            f"mean absolute error {mean_absolute}{r2}",
            *(f"{name} {value:.4g}" for name, value in further.items() if name not in shown),
        ]
    )


def _dataset(texts: list[str], run: Run) -> DatasetConfig:
    """The data set that overrides name, or the run's with other keys. Raises `ValueError`."""
    given: dict[str, Any] = {}
    for override in parse_each(texts):
        group, _, key = override.key_or_group.partition(".")
        is_fixed = key in own_dataset.FIELDS and key not in PLACES
        if group != DATASET.name or is_fixed or override.is_sweep_override() or not (
            value_text(override)
        ):  # fmt: skip
            raise ValueError(f"{text_of(override)}: {EXPECTED}")
        given[key] = override.value()
    if "" in given:  # dataset=NAME
        return compose.compose_one(texts).dataset
    own = run.config.dataset
    for key, kind in PLACES.items():
        if key in given and (own.name == "arrays") != (kind == "arrays"):
            typed = f"dataset.{key}={given[key]}"
            raise ValueError(f"{typed}: dataset={own.name} has none; add dataset={kind}")
    if own.is_own:
        own_code.use(run.history().code, [own.name])
        options = {**own.options, **given, "name": own.name}
        return replace(own, options=dict(parts.check(DATASET.name, options).options))
    for key in given.keys() - PLACES.keys():
        raise ValueError(f"dataset.{key}: dataset={own.name} has no such key; {EXPECTED}")
    places: dict[str, Any] = {
        key: expand_home(f"dataset.{key}", str(place)) for key, place in given.items()
    }
    return replace(own, **places)
