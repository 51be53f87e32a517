"""The plots of one run, drawn by Matplotlib as PNG files from arrays and lists."""

import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from harness.analysis.charts import logarithmic
from harness.data.atomic import write_atomically

TITLE = 84  # characters of a line of the title
Curves = dict[str, list[float]]


def learning_curves(path: Path, title: str, panels: dict[str, Curves]) -> None:
    """Plot curves against the epoch, each panel beside the last, as a PNG file.

    panels: label of the y axis -> name -> one value per epoch from 1 on. An axis is logarithmic,
    because the interesting part is near zero, if `charts.logarithmic` can make it so.
    """
    title = "\n".join(textwrap.wrap(title, TITLE, max_lines=6, placeholder=" ..."))
    height = 3.4 + 0.25 * title.count("\n")  # inches
    figure = Figure(figsize=(9, height))  # fixed margins: automatic layout is slow; the user waits
    top = 1 - (height - 3.06) / height
    figure.subplots_adjust(left=0.1, right=0.99, bottom=0.48 / height, top=top, wspace=0.25)
    FigureCanvasAgg(figure)
    figure.suptitle(title, y=1 - 0.07 / height, va="top", parse_math=False)  # may have dollar signs
    beside = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (label, curves) in zip(beside, panels.items(), strict=True):
        for name, values in curves.items():
            if values:
                axes.plot(range(1, len(values) + 1), values, label=name, marker=".")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(label)
        logarithmic(axes, axes.yaxis, [v for values in curves.values() for v in values])
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))


def deformations(path: Path, title: str, samples: NDArray[Any]) -> None:
    """Draw stored images in the first column, and deformed ones beside them, as a PNG file.

    samples: (n, 1 + deformations, rows, columns), gray values 0..255, 255 is black.
    """
    count, columns, height, width = samples.shape
    tile = 0.65
    figure = Figure(figsize=(tile * columns + 0.3, tile * count * height / width + 0.9))
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9, parse_math=False)
    axes = figure.subplots(count, columns, squeeze=False)
    figure.subplots_adjust(0.02, 0.02, 0.98, 1 - 0.75 / figure.get_figheight(), 0.06, 0.06)
    for (row, column), tile_axes in np.ndenumerate(axes):
        tile_axes.imshow(samples[row, column], cmap="gray_r", vmin=0, vmax=255)
        tile_axes.set(xticks=[], yticks=[])
        for side in tile_axes.spines.values():
            side.set_color("tab:blue" if column == 0 else "0.85")
    axes[0, 0].set_title("stored", fontsize=8)
    axes[0, 1].set_title("deformed", fontsize=8)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))


def save_pyplot(path: Path, draw: Callable[[], Axes]) -> None:
    """Save what `draw` plots through pyplot as a PNG file. draw: returns the axes of its figure.

    The style and the backend of other figures stay: the caller may be a notebook.
    """
    import matplotlib
    from matplotlib import pyplot

    chosen = matplotlib.get_backend(auto_select=False)
    matplotlib.use("Agg")  # pyplot would look for a display
    try:
        with matplotlib.rc_context():  # Optuna chooses a style for the whole process
            figure = draw().get_figure()
            assert isinstance(figure, Figure)
            figure.set_layout_engine("constrained")
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, partial(figure.savefig, format="png", dpi=110))
            pyplot.close(figure)
    finally:
        if chosen is not None:
            matplotlib.use(chosen, force=False)  # it may need a display
