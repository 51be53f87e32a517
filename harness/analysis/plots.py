"""Pictures, drawn after the training from what was recorded, as PNG files."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harness.files import write_atomically

if TYPE_CHECKING:
    from optuna import Study

Curves = dict[str, list[float]]


def learning_curves(path: Path, title: str, loss: Curves, error: Curves) -> None:
    """Loss and error against the epoch, side by side, as a PNG.

    loss (nats) and error (fractions): one list per name with a value per epoch from 1 on; drawn on
    a logarithmic axis, because the interesting part is near zero.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    both = zip(figure.subplots(1, 2), (loss, error), ("loss (nats)", "error (%)"), strict=True)
    for axes, curves, label in both:
        factor = 100 if curves is error else 1
        for name, values in curves.items():
            if values:
                epochs = range(1, len(values) + 1)
                axes.plot(epochs, [factor * v for v in values], label=name, marker=".")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        if any(value > 0 for values in curves.values() for value in values):
            axes.set_yscale("log")
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))


def deformations(path: Path, title: str, samples: NDArray[Any]) -> None:
    """Images as they are stored, in the first column, and deformed beside them, as a PNG.

    samples: (n, 1 + deformations, rows, columns), gray values 0..255, 255 is ink.
    """
    count, columns, height, width = samples.shape
    tile = 0.65
    figure = Figure(figsize=(tile * columns + 0.3, tile * count * height / width + 0.9))
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(count, columns, squeeze=False)
    figure.subplots_adjust(0.02, 0.02, 0.98, 1 - 0.75 / figure.get_figheight(), 0.06, 0.06)
    for (row, column), place in np.ndenumerate(axes):
        place.imshow(samples[row, column], cmap="gray_r", vmin=0, vmax=255)
        place.set(xticks=[], yticks=[])
        for side in place.spines.values():
            side.set_color("tab:blue" if column == 0 else "0.85")
    axes[0, 0].set_title("stored", fontsize=8)
    axes[0, 1].set_title("deformed", fontsize=8)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))


def robustness(
    path: Path,
    rows: list[tuple[str, float, float]],
    shown: list[list[tuple[NDArray[np.uint8], NDArray[np.uint8] | None]]],
) -> None:
    """Pictures as drawn and as the network saw them, beside the error without and with it.

    rows: name, error without and with preprocessing (fractions). shown: per row the same digits as
    (picture, what was found in it or None), gray values.
    """
    count = len(shown[0])
    figure = Figure(figsize=(9.5, 0.55 * len(rows) + 0.4))
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(rows), 2 * count + 8, left=0.01, right=0.99, bottom=0.01, top=0.95, wspace=0.1
    )
    for number, (name, without, with_it) in enumerate(rows):
        words = figure.add_subplot(grid[number, :7])
        words.axis("off")
        words.text(0, 0.5, name, va="center")
        for right, text, weight in ((0.8, without, "normal"), (1, with_it, "bold")):
            words.text(right, 0.5, f"{text:.2%}", va="center", ha="right", weight=weight)
        if number == 0:
            words.set_title("error without, with", loc="right", fontsize=10)
        for side, title in enumerate(("as drawn", "as the network sees it")):
            for place, pair in enumerate(shown[number]):
                axes = figure.add_subplot(grid[number, 7 + side * (count + 1) + place])
                axes.set_xticks([])
                axes.set_yticks([])
                image = pair[side]
                if image is not None:
                    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
                if number == 0 and place == 0:
                    axes.set_title(title, loc="left", fontsize=10)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=75))


def search(folder: Path, study: "Study") -> list[str]:
    """Optuna's history of a search and the importance of its keys, under `folder`/plots.

    Returns the pictures' relative paths; importance needs at least two finished trials whose values
    differ.
    """
    import matplotlib

    matplotlib.use("Agg")  # Optuna draws through pyplot, which would look for a screen
    from matplotlib import pyplot
    from optuna.exceptions import ExperimentalWarning
    from optuna.trial import TrialState
    from optuna.visualization import matplotlib as drawing

    wanted: dict[str, Callable[..., Any]] = {
        "plots/search_history.png": drawing.plot_optimization_history
    }
    if len({trial.value for trial in study.get_trials(states=(TrialState.COMPLETE,))}) > 1:
        wanted["plots/search_importance.png"] = drawing.plot_param_importances
    for path, draw in wanted.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            figure = draw(study, target_name="validation error").figure
        figure.set_layout_engine("constrained")
        write_atomically(folder / path, partial(figure.savefig, format="png", dpi=110))
        pyplot.close(figure)
    return list(wanted)
