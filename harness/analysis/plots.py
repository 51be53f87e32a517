"""Pictures, drawn after the training from what was recorded."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harness.files import write_atomically

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
