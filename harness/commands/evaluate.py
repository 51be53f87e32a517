"""`python -m harness evaluate`: score a saved run on the test images of any data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis.ranking import confusion
from harness.analysis.statistics import wilson
from harness.data import dataset
from harness.recognizer import calibration
from harness.recognizer.loading import load_run
from harness.runfolder import config
from harness.runfolder import folder as runs
from harness.training.evaluation import evaluate


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


def run_on(outputs: Path, run: str, overrides: list[str]) -> Evaluation:
    """Score a run on its own data set, or on that of `dataset=NAME dataset.dir=FOLDER`.

    Raises `ValueError` if the run or the data set does not exist or they do not fit each other.
    """
    folder = runs.find(outputs, run)
    own = config.read_yaml(folder / runs.CONFIG).dataset
    name, directory = _dataset(overrides, own.name, own.dir)
    trained = load_run(folder)
    data = dataset.load(name, folder=directory, cache=outputs / "cache", num_val=0)
    if data.image_shape != trained.image_shape or data.classes > trained.classes:
        raise ValueError(
            f"dataset={name}: run {folder.name} expects images of "
            f"{'x'.join(map(str, trained.image_shape))} in at most {trained.classes} classes, "
            f"found {'x'.join(map(str, data.image_shape))} in {data.classes}"
        )
    score, probabilities = evaluate(trained.network, data.test, trained.normalization)
    labels = data.test.labels
    tempered = calibration.tempered(probabilities, trained.temperature)
    return Evaluation(
        run=folder.name,
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


def _dataset(overrides: list[str], name: str, directory: str | None) -> tuple[str, str | None]:
    """The name and the folder of the data set after the overrides. Raises `ValueError`."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "dataset" and value:
            name, directory = value, None
        elif key != "dataset.dir" or not value:
            raise ValueError(f"{override}: expected dataset=NAME or dataset.dir=FOLDER")
    for override in overrides:
        if override.startswith("dataset.dir="):
            directory = override.partition("=")[2]
    return name, directory
