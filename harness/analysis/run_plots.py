"""Draw the plots of a finished run from its journal and its frozen configuration."""

import sys

import numpy as np
from numpy.typing import NDArray

from harness.analysis import plots
from harness.data.augmentation import Augmentation
from harness.data.dataset import Part
from harness.job import build
from harness.runfolder import own_code
from harness.runfolder.history import History
from harness.runfolder.objective import DEFAULT, Objective
from harness.runfolder.run import LEARNING_CURVES, Run
from harness.runfolder.schema import ScratchConfig
from harness.runfolder.status import RunStatus
from harness.training import randomness

AUGMENTATION = "plots/augmentation.png"
DEFORMED = 9  # deformed copies of each sample


def draw(run: Run) -> None:
    """Draw the missing plots of a run that has ended, and record them in its journal.

    A run has learning curves, and samples of its deformed images if it used augmentation.
    """
    history = run.history()
    if not history.epochs or history.status is RunStatus.DAMAGED:
        return
    drawn = [
        path
        for path, draw_one in ((LEARNING_CURVES, _learning_curves), (AUGMENTATION, _augmentation))
        if path not in history.artifacts and draw_one(run, history)
    ]
    if drawn:
        run.add_artifacts(drawn)


def samples(
    part: Part, augmentation: Augmentation, shape: tuple[int, int], seed: int
) -> NDArray[np.float32]:
    """The first image of each of up to ten classes, as stored and `DEFORMED` times deformed.

    shape: (rows, columns) of an image. Returns (n, 1 + DEFORMED, rows, columns) float32, gray
    values 0..255. The same seed gives the same samples.
    """
    labels = part.labels if part.rows is None else part.labels[part.rows]
    first = np.sort(np.unique(labels, return_index=True)[1][:10])
    pixels = part.inputs[first if part.rows is None else part.rows[first]]
    shown = np.empty((len(pixels), 1 + DEFORMED, *shape), np.float32)
    flat = shown.reshape(len(pixels), 1 + DEFORMED, -1)
    flat[:, 0] = pixels
    generator = randomness.generators(seed)["augmentation"]
    deformed = np.empty((len(pixels) * DEFORMED, pixels.shape[1]), np.float32)
    augmentation(np.repeat(pixels, DEFORMED, axis=0), generator, deformed)
    flat[:, 1:] = deformed.reshape(len(pixels), DEFORMED, -1)
    return shown


def _learning_curves(run: Run, history: History) -> bool:
    objective = Objective.of(history.params)
    second = DEFAULT if objective.name == "loss" else objective
    is_entropy = history.params.get("loss.name", "cross_entropy") == "cross_entropy"
    panels = {
        "loss (nats)" if is_entropy else "loss": _curves(history, "loss"),
        f"{second.name}{second.unit}": _curves(history, second.name, second.factor),
    }
    panels = {label: curves for label, curves in panels.items() if any(curves.values())}
    if panels:
        plots.learning_curves(run.folder / LEARNING_CURVES, _title(history), panels)
    return bool(panels)


def _curves(history: History, name: str, factor: int = 1) -> plots.Curves:
    """A metric of the training and the validation part, epoch by epoch, times `factor`."""
    return {
        title: [factor * value for value in history.curve(f"{part}/{name}")]
        for part, title in (("train", "train"), ("val", "validation"))
    }


def _augmentation(run: Run, history: History) -> bool:
    """Draw samples; False if there is no augmentation, no gray images, or no data set."""
    settings = run.config
    if not isinstance(settings, ScratchConfig) or settings.augmentation.name == "none":
        return False
    shape = history.create["dataset"]["image_shape"]
    if len(shape) != 2:
        return False
    rows, columns = shape
    own_code.use(history.code)
    augmentation = build.part("augmentation", settings, (rows, columns))
    try:
        data = run.dataset()
    except ValueError as error:
        print(f"{AUGMENTATION} is not drawn: {error}", file=sys.stderr)
        return False
    strengths = [f"{key} {value}" for key, value in settings.augmentation.options.items()]
    shown = samples(data.train, augmentation, (rows, columns), settings.seed)
    title = f"{_title(history)}\n{settings.augmentation.name}: {', '.join(strengths)}"
    plots.deformations(run.folder / AUGMENTATION, title, shown)
    return True


def _title(history: History) -> str:
    return f"{history.name}  ({history.run})"
