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
from harness.recognizer import calibration
from harness.recognizer.loading import load_run
from harness.run.overrides import parse_each, text_of, value_text
from harness.runfolder.config import expand_home
from harness.runfolder.folder import find
from harness.training import evaluation as scoring


@click.command()
@click.argument("run")
@click.argument("overrides", nargs=-1)
@OUTPUTS
@JSON
def evaluate(run: str, overrides: tuple[str, ...], outputs: Path, as_json: bool) -> None:
    """Score a saved run on the test images of any data set: dataset=NAME dataset.dir=FOLDER."""
    try:
        evaluation = run_on(outputs, run, list(overrides))
    except (ValueError, OSError) as error:
        refuse(error)
    click.echo(json.dumps(evaluation.to_dict()) if as_json else text(evaluation))


@dataclass(frozen=True)
class Evaluation:
    """The score of a run on the test images of a data set.

    error and calibration_error: fractions; interval: of the error, with 95 % confidence; loss in
    nats; confusion: (C, C) counts of images by true class (row) and predicted class (column).
    """

    run: str
    dataset: str
    images: int
    error: float
    interval: tuple[float, float]
    loss: float
    calibration_error: float
    confusion: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON can hold."""
        return self.__dict__ | {"confusion": self.confusion.tolist()}


def run_on(outputs: Path, run_id: str, overrides: list[str]) -> Evaluation:
    """Score a run on its own data set, or on that of `dataset=NAME dataset.dir=FOLDER`.

    Raises `ValueError` if the run or the data set does not exist or they do not fit each other.
    """
    run = find(outputs, run_id)
    own = run.config.dataset
    name, directory = _dataset(overrides, own.name, own.dir)
    trained = load_run(run)
    data = dataset.load(name, folder=directory, cache=outputs / "cache", num_val=0)
    if data.input_shape != trained.image_shape or data.classes > trained.classes:
        raise ValueError(
            f"dataset={name}: run {run.id} expects images of "
            f"{'x'.join(map(str, trained.image_shape))} in at most {trained.classes} classes, "
            f"found {'x'.join(map(str, data.input_shape))} in {data.classes}"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # the result is checked
        score, probabilities = scoring.evaluate(trained.network, data.test, trained.normalization)
    if not math.isfinite(score.loss):
        raise ValueError(f"run {run.id}: its weights are too large to give an answer")
    labels = data.test.labels
    tempered = calibration.tempered(probabilities, trained.temperature)
    return Evaluation(
        run=run.id,
        dataset=name if directory is None else f"{name} ({directory})",
        images=score.count,
        error=score.error,
        interval=wilson(score.wrong, score.count),
        loss=score.loss,
        calibration_error=calibration.expected_error(tempered, labels),
        confusion=confusion(labels, probabilities.argmax(axis=1), trained.classes),
    )


def text(evaluation: Evaluation) -> str:
    """The scores in two lines, then the confusion matrix."""
    low, high = evaluation.interval
    lines = [
        f"run {evaluation.run} on {evaluation.dataset}: error {evaluation.error:.2%} "
        f"(95 % interval {low:.2%} to {high:.2%}) of {evaluation.images:,} test images",
        f"loss {evaluation.loss:.4f} nats, "
        f"expected calibration error {evaluation.calibration_error:.2%}",
        "",
        "rows: true class; columns: predicted class",
    ]
    counts = evaluation.confusion
    width = max(4, len(str(counts.max())) + 1)
    lines.append(" " * width + "".join(f"{c:{width}}" for c in range(len(counts))))
    for label, row in enumerate(counts):
        lines.append(f"{label:{width}}" + "".join(f"{n or '.':>{width}}" for n in row))
    return "\n".join(lines)


def _dataset(texts: list[str], name: str, directory: str | None) -> tuple[str, str | None]:
    """The name and the folder of the data set after the overrides. Raises `ValueError`."""
    values = {}
    for override in parse_each(texts):
        values[override.key_or_group] = value_text(override)
        if override.key_or_group not in ("dataset", "dataset.dir") or not value_text(override):
            raise ValueError(f"{text_of(override)}: expected dataset=NAME or dataset.dir=FOLDER")
    if "dataset" in values:
        name, directory = values["dataset"], None
    if "dataset.dir" in values:
        directory = expand_home("dataset.dir", values["dataset.dir"])
    return name, directory
