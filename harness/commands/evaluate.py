"""`python -m harness evaluate`: score a saved run on the test images of any data set."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from harness.analysis.ranking import confusion
from harness.analysis.statistics import wilson
from harness.commands.options import JSON, OUTPUTS, refuse
from harness.data import dataset
from harness.data.dataset import Dataset, default_names, is_image
from harness.recognizer import calibration
from harness.recognizer.loading import load_run
from harness.recognizer.recognizer import Recognizer
from harness.run.overrides import parse_each, text_of, value_text
from harness.runfolder.config import expand_home
from harness.runfolder.folder import find
from harness.training import evaluation as scoring

PLACES = {"dataset.dir": "idx", "dataset.file": "arrays"}
NAME = 12  # characters of the name of a class


@click.command()
@click.argument("run")
@click.argument("overrides", nargs=-1)
@OUTPUTS
@JSON
def evaluate(run: str, overrides: tuple[str, ...], outputs: Path, as_json: bool) -> None:
    """Score a saved run on the test set of any data: dataset=NAME and its folder or file."""
    try:
        evaluation = run_on(outputs, run, list(overrides))
    except (ValueError, OSError) as error:
        refuse(error)
    click.echo(json.dumps(evaluation.to_dict()) if as_json else text(evaluation))


@dataclass(frozen=True)
class Evaluation:
    """The score of a run on the test set of some data; `images` is its number of examples.

    error and calibration_error: fractions; interval: of the error, with 95 % confidence; loss in
    nats; confusion: (C, C) counts of examples by true class (row) and predicted class (column);
    class_names: of the C classes.
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

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON can hold."""
        return self.__dict__ | {"confusion": self.confusion.tolist()}


def run_on(outputs: Path, run_id: str, overrides: list[str]) -> Evaluation:
    """Score a run on its own data set, or on that of `dataset=NAME` and its folder or file.

    Raises `ValueError` if the run or the data set does not exist or they do not fit each other.
    """
    run = find(outputs, run_id)
    own = run.config.dataset
    name, place = _dataset(overrides, own.name, own.place)
    trained = load_run(run)  # which also makes the user's modules importable
    if own.is_own and not overrides:
        data = run.dataset()
    else:
        data = dataset.load(name, folder=place, cache=outputs / "cache", num_val=0)
    if _kind(data) != _kind(trained) or not 0 < data.classes <= trained.classes:
        raise ValueError(
            f"dataset={name}: run {run.id} expects {_kind(trained)} in at most {trained.classes} "
            f"classes, found {_kind(data)} in {data.classes}"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # the result is checked
        score, probabilities = scoring.evaluate(
            trained.network, data.test, trained.normalization, trained.loss
        )
    if not math.isfinite(score.loss):
        raise ValueError(f"run {run.id}: its weights are too large to give an answer")
    labels = data.test.labels
    title = (own.title if name == own.name else None) or name
    tempered = calibration.tempered(probabilities, trained.temperature)
    return Evaluation(
        run=run.id,
        dataset=title if place is None else f"{title} ({place})",
        images=score.count,
        error=score.error,
        interval=wilson(score.wrong, score.count),
        loss=score.loss,
        calibration_error=calibration.expected_error(tempered, labels),
        confusion=confusion(labels, probabilities.argmax(axis=1), trained.classes),
        class_names=trained.class_names,
    )


def _kind(data: Dataset | Recognizer) -> str:
    """What the examples are: `images of 28x28`, or `float32 of shape (4,)`."""
    dtype = data.dtype if isinstance(data, Recognizer) else data.train.inputs.dtype
    if is_image(data.input_shape, dtype):
        return f"images of {'x'.join(map(str, data.input_shape))}"
    return f"{dtype} of shape {data.input_shape}"


def text(evaluation: Evaluation) -> str:
    """The scores in two lines, then the confusion matrix."""
    low, high = evaluation.interval
    lines = [
        f"run {evaluation.run} on {evaluation.dataset}: error {evaluation.error:.2%} "
        f"(95 % interval {low:.2%} to {high:.2%}) of {evaluation.images:,} test examples",
        f"loss {evaluation.loss:.4f} nats, "
        f"expected calibration error {evaluation.calibration_error:.2%}",
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


def _dataset(texts: list[str], name: str, place: str | None) -> tuple[str, str | None]:
    """The name of the data set and its folder or file after the overrides. Raises `ValueError`."""
    values = {}
    for override in parse_each(texts):
        values[override.key_or_group] = value_text(override)
        if override.key_or_group not in ("dataset", *PLACES) or not value_text(override):
            raise ValueError(
                f"{text_of(override)}: expected dataset=NAME, dataset.dir=FOLDER or "
                "dataset.file=FILE.npz"
            )
    if "dataset" in values:
        name, place = values["dataset"], None
    for key, kind in PLACES.items():
        if key in values:
            if (name == "arrays") != (kind == "arrays"):
                raise ValueError(
                    f"{key}={values[key]}: dataset={name} has none; add dataset={kind}"
                )
            place = expand_home(key, values[key])
    return name, place
