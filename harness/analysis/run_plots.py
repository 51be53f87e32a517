"""Draws a run's pictures from its journal and its frozen settings, after its training."""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.analysis import plots
from harness.data.augmentation import Augmentation
from harness.data.dataset import Part, open_dataset
from harness.job import build
from harness.nn import metrics
from harness.runfolder import config, journal
from harness.runfolder import folder as runs
from harness.runfolder.journal import History, Journal
from harness.training import randomness

LEARNING_CURVES = "plots/learning_curves.png"
AUGMENTATION = "plots/augmentation.png"
DEFORMED = 9  # times that each sample is shown


def draw(folder: Path) -> None:
    """Draw what a run that has ended lacks, and note the pictures in its journal.

    Always its learning curves; where images were deformed, samples of them.
    """
    told = journal.history(folder)
    if not told.epochs:
        return
    drawn = []
    for path, draw_one in ((LEARNING_CURVES, _learning_curves), (AUGMENTATION, _augmentation)):
        if path not in told.artifacts and draw_one(folder, told):
            drawn.append(path)
    if drawn:
        with runs.lock(folder), Journal(folder / journal.FILE_NAME) as writer:
            for path in drawn:
                writer.append("artifact", path=path)


def samples(
    part: Part, augmentation: Augmentation, shape: tuple[int, int], seed: int
) -> NDArray[np.float32]:
    """The first image of each of up to ten classes, as it is and `DEFORMED` times deformed.

    (n, 1 + DEFORMED, rows, columns) float32, gray values 0..255. The run's own seed gives the
    random numbers, so the picture is the same each time.
    """
    labels = part.labels if part.rows is None else part.labels[part.rows]
    first = np.sort(np.unique(labels, return_index=True)[1][:10])
    pixels = part.images[first if part.rows is None else part.rows[first]]
    shown = np.empty((len(pixels), 1 + DEFORMED, *shape), np.float32)
    flat = shown.reshape(len(pixels), 1 + DEFORMED, -1)
    flat[:, 0] = pixels
    generator = randomness.generators(seed)["augmentation"]
    room = np.empty((len(pixels) * DEFORMED, pixels.shape[1]), np.float32)
    augmentation(np.repeat(pixels, DEFORMED, axis=0), generator, room)
    flat[:, 1:] = room.reshape(len(pixels), DEFORMED, -1)
    return shown


def _learning_curves(folder: Path, told: History) -> bool:
    plots.learning_curves(
        folder / LEARNING_CURVES,
        _title(told),
        {"train": told.curve(metrics.TRAIN_LOSS), "validation": told.curve(metrics.VAL_LOSS)},
        {"train": told.curve(metrics.TRAIN_ERROR), "validation": told.curve(metrics.VAL_ERROR)},
    )
    return True


def _augmentation(folder: Path, told: History) -> bool:
    """Draw samples; False when the run deforms nothing or its data is not there any more."""
    settings = config.read_yaml(folder / runs.CONFIG)
    wanted, cache = settings.dataset, folder.resolve().parents[1] / "cache"
    rows, columns = told.create["dataset"]["image_shape"]
    augmentation = build.augmentation(settings, (rows, columns))
    if augmentation is None:
        return False
    try:
        data = open_dataset(
            told.create["dataset"]["sha256"],
            cache,
            num_val=wanted.num_val,
            num_train=wanted.num_train,
            split_seed=wanted.split_seed,
        )
    except ValueError as error:
        print(f"{AUGMENTATION} is not drawn: {error}", file=sys.stderr)
        return False
    strengths = [
        f"{key.removeprefix('augmentation.')} {value}"
        for key, value in config.leaves(settings).items()
        if key.startswith("augmentation.") and key != "augmentation.name"
    ]
    shown = samples(data.train, augmentation, data.image_shape, settings.seed)
    title = f"{_title(told)}\n{settings.augmentation.name}: {', '.join(strengths)}"
    plots.deformations(folder / AUGMENTATION, title, shown)
    return True


def _title(told: History) -> str:
    return f"{told.create['name']}  ({told.run})"
