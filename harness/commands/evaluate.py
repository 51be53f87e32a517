"""`python -m harness evaluate`: the tutorial's test function for any saved run and any data set."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data import dataset
from harness.recognizer import calibration
from harness.recognizer import loading as calibrate
from harness.runfolder.folder import find
from harness.training.evaluation import evaluate

Z95 = 1.959964


@dataclass(frozen=True)
class Evaluation:
    """The score of a run on the test images of a data set.

    error and interval: fractions, the interval with 95 % confidence; loss in nats; confusion (C, C)
    counts of images by true class (row) and answer (column); calibration_error: a fraction.
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
        """As JSON has it."""
        return self.__dict__ | {"confusion": self.confusion.tolist()}


def wilson(wrong: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson, 1927): honest also for few and for no errors."""
    share, z2 = wrong / count, Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def run_on(outputs: Path, run: str, overrides: list[str]) -> Evaluation:
    """Score a run on its own data set, or on that of `dataset=NAME dataset.dir=FOLDER`.

    Raises `ValueError`.
    """
    found = find(outputs, run)
    own = found.config.dataset
    name, place = _wanted(overrides, own.name, own.dir)
    trained = calibrate.load_run(found)
    data = dataset.load(name, folder=place, cache=outputs / "cache", num_val=0)
    if data.image_shape != trained.image_shape or data.classes > trained.classes:
        raise ValueError(
            f"dataset={name}: run {found.id} expects images of "
            f"{'x'.join(map(str, trained.image_shape))} in at most {trained.classes} classes, "
            f"found {'x'.join(map(str, data.image_shape))} in {data.classes}"
        )
    score, probabilities = evaluate(trained.network, data.test, trained.normalization)
    labels = data.test.labels
    classes = trained.classes
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(axis=1)
    tempered = calibration.tempered(probabilities, trained.temperature)
    return Evaluation(
        run=found.id,
        dataset=name if place is None else f"{name} ({place})",
        images=score.count,
        error=score.error,
        interval=wilson(score.wrong, score.count),
        loss=score.loss,
        calibration_error=calibration.expected_error(tempered, labels),
        confusion=np.bincount(pairs, minlength=classes**2).reshape(classes, classes),
    )


def text(found: Evaluation) -> str:
    """For people: one line of figures, then the confusion matrix."""
    low, high = found.interval
    lines = [
        f"run {found.run} on {found.dataset}: error {found.error:.2%} "
        f"(95 % interval {low:.2%} to {high:.2%}) of {found.images:,} test images",
        f"loss {found.loss:.4f} nats, expected calibration error {found.calibration_error:.2%}",
        "",
        "rows: the true class; columns: the answer",
    ]
    width = max(4, len(str(found.confusion.max())) + 1)
    classes = len(found.confusion)
    lines.append(" " * width + "".join(f"{c:{width}}" for c in range(classes)))
    for label, row in enumerate(found.confusion):
        lines.append(f"{label:{width}}" + "".join(f"{n or '.':>{width}}" for n in row))
    return "\n".join(lines)


def _wanted(overrides: list[str], name: str, place: str | None) -> tuple[str, str | None]:
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "dataset" and value:
            name, place = value, None
        elif key != "dataset.dir" or not value:
            raise ValueError(f"{override}: expected dataset=NAME or dataset.dir=FOLDER")
    for override in overrides:
        if override.startswith("dataset.dir="):
            place = override.partition("=")[2]
    return name, place
