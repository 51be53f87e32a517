"""`python -m harness evaluate`: score a saved run on the test set of any data."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from harness.analysis.outcome import confusion
from harness.analysis.statistics import wilson
from harness.commands.options import CONFIG_DIR, JSON, OUTPUTS, refuse
from harness.commands.scores import Evaluation, Regression
from harness.data.dataset import Dataset, is_image
from harness.data.normalization import is_beyond, narrow_range
from harness.nn.losses import CrossEntropy, tempered
from harness.nn.metrics import Metric
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


@click.command()
@click.argument("run")
@click.argument("overrides", nargs=-1)
@OUTPUTS
@CONFIG_DIR
@JSON
def evaluate(run: str, overrides: tuple[str, ...], outputs: Path, as_json: bool) -> None:
    """Score a saved run on the test set of any data.

    Give dataset=NAME with its folder, file or keys, as in training, or change keys of the run's own
    data set.
    """
    try:
        evaluation = run_on(outputs, run, list(overrides))
    except (ValueError, OSError) as error:
        refuse(error)
    click.echo(json.dumps(evaluation.to_dict(), allow_nan=False) if as_json else evaluation.text())


def run_on(outputs: Path, run_id: str, overrides: list[str]) -> Evaluation | Regression:
    """Score a run on its own data set, or on `dataset=NAME`, given as for `harness.run`.

    Without `dataset=NAME`, `dataset.KEY=VALUE` changes a key of the run's own data set. Raises
    `ValueError` if the run or the data set does not exist, or if they do not match.
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
    _check_fits(settings.name, data, trained)
    if overrides and (problem := _other_range(data, trained)):
        warn(f"dataset={settings.name}", f"{problem}; scale the values")
    title = settings.title or settings.name
    title = title if settings.place is None else f"{title} ({settings.place})"
    return _scored(trained, data, title, parts.metrics(metrics))


def _scored(
    trained: Recognizer, data: Dataset, title: str, metrics: Mapping[str, Metric]
) -> Evaluation | Regression:
    """The scores of a run on the test set of `data`.

    title: the name of `data`. metrics: the run's additional metrics. Raises `ValueError` if the
    loss is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # the loss is checked below
        score, predictions = scoring.evaluate(
            trained.network, data.test, trained.normalization, trained.loss
        )
    if not math.isfinite(score.loss):
        raise ValueError(f"run {trained.run_id}: its weights are too large to give an answer")
    labels = data.test.labels
    further = scoring.values("test", score, trained.loss, metrics, predictions, labels)
    further = {key.removeprefix("test/"): value for key, value in further.items()}
    further = {name: value for name, value in further.items() if name not in ("loss", "error")}
    for name, value in further.items():
        if not math.isfinite(value):
            warn(f"metric {name}", f"its function returned {value} for these test examples")
    if trained.is_regression:
        return Regression.of(trained.run_id, title, score.loss, predictions, labels, further)
    calibrated = tempered(predictions, trained.temperature)
    return Evaluation(
        run=trained.run_id,
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


def _usable_metrics(run: Run) -> list[str]:
    """The run's additional metrics. Warn about each whose source has changed, and omit it."""
    config, usable = run.config, []
    for name in config.metrics if isinstance(config, ScratchConfig) else []:
        try:
            if ":" in name:
                own_code.use(run.history().code, [name], quiet=True)
        except OwnCodeError as error:
            warn(own_code.what_differs(error), f"skipping metrics=[{name}]")
        else:
            usable.append(name)
    return usable


def _check_fits(name: str, data: Dataset, trained: Recognizer) -> None:
    """Raise `ValueError` for a data set, `name`, that the run cannot answer."""
    fits = 0 < data.classes <= trained.classes
    if trained.is_regression:
        fits = data.classes == 0 and data.outputs == trained.network.outputs
    if _kind(data) != _kind(trained) or not fits:
        expected = _answers(trained.classes, trained.network.outputs, "at most ")
        raise ValueError(
            f"dataset={name}: run {trained.run_id} expects {_kind(trained)} {expected}, found "
            f"{_kind(data)} {_answers(data.classes, data.outputs)}"
        )


def _other_range(data: Dataset, trained: Recognizer) -> str | None:
    """What is wrong with the value range of data that a run was not trained on, or None."""
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
    """The outputs of a network, or the labels of a data set: `in 10 classes`, `with 1 target`."""
    if classes:
        return f"in {most}{classes} classes"
    return f"with {outputs} target{'s' if outputs > 1 else ''}"


def _dataset(texts: list[str], run: Run) -> DatasetConfig:
    """The data set that the overrides name, or the run's with changed keys. Raises `ValueError`."""
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
