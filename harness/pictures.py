"""Draws a run's pictures from its journal, after its training."""

from pathlib import Path

from harness import runs
from harness.analysis import plots
from harness.nn import metrics
from harness.training import journal
from harness.training.journal import Journal

LEARNING_CURVES = "plots/learning_curves.png"


def draw(folder: Path) -> None:
    """Draw the learning curves of a run that has ended, and note the picture in its journal."""
    told = journal.history(folder)
    if not told.epochs or LEARNING_CURVES in told.artifacts:
        return
    plots.learning_curves(
        folder / LEARNING_CURVES,
        f"{told.create['name']}  ({told.run})",
        {"train": told.curve(metrics.TRAIN_LOSS), "validation": told.curve(metrics.VAL_LOSS)},
        {"train": told.curve(metrics.TRAIN_ERROR), "validation": told.curve(metrics.VAL_ERROR)},
    )
    with runs.lock(folder), Journal(folder / journal.FILE_NAME) as writer:
        writer.append("artifact", path=LEARNING_CURVES)
