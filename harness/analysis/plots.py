"""The plots of one run, drawn by Matplotlib as PNG files from arrays and lists."""

import struct
import textwrap
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harness.analysis import fonts
from harness.analysis.drawing import scale, set_scale, whole_numbers
from harness.data.atomic import write_atomically

TITLE = 84  # characters of a line of the title
Curves = dict[str, list[float]]


def learning_curves(path: Path, title: str, panels: dict[str, Curves]) -> None:
    """Plot curves against the epoch, each panel beside the last, as a PNG file.

    panels: y axis label -> name -> one value per epoch from 1 on. Axes are logarithmic where
    `drawing.logarithmic` allows it, because the interesting part is near zero.
    """
    title = "\n".join(textwrap.wrap(title, TITLE, max_lines=6, placeholder=" ..."))
    shown = {label: {name: each for name, each in curves.items() if each}
             for label, curves in panels.items()}  # fmt: skip
    values = [[each for curve in curves.values() for each in curve] for curves in shown.values()]
    names = tuple((label, tuple(curves)) for label, curves in shown.items())
    figure = _figure(title.count("\n"), names, tuple(map(scale, values)))
    figure.texts[0].set(text=title, fontfamily=fonts.families(title))
    for axes, curves in zip(figure.axes, shown.values(), strict=True):
        for line, curve in zip(axes.get_lines(), curves.values(), strict=True):
            line.set_data(range(1, len(curve) + 1), curve)
        axes.relim()
        axes.autoscale_view()
    path.parent.mkdir(exist_ok=True)
    with fonts.quiet():
        write_atomically(path, lambda file: file.write(_png(figure)))


@lru_cache(maxsize=8)  # making one takes longer than drawing it; the jobs of a sweep have the same
def _figure(
    breaks: int, panels: tuple[tuple[str, tuple[str, ...]], ...], scales: tuple[str, ...]
) -> Figure:
    """The figure of learning curves without its title and data.

    breaks: lines of the title after the first one. panels: label and names of the curves. scales:
    of the y axes, see `drawing.scale`.
    """
    height = 3.4 + 0.25 * breaks  # inches
    figure = Figure(figsize=(9, height), dpi=110)  # fixed margins: automatic layout is slow
    top = 1 - (height - 3.06) / height
    figure.subplots_adjust(left=0.1, right=0.99, bottom=0.48 / height, top=top, wspace=0.25)
    FigureCanvasAgg(figure)
    # It may have dollar signs.
    figure.suptitle("", y=1 - 0.07 / height, va="top", parse_math=False)
    beside = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (label, names), chosen in zip(beside, panels, scales, strict=True):
        for name in names:
            axes.plot([], [], label=name, marker=".")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(whole_numbers())
        axes.set_ylabel(label)
        set_scale(axes, axes.yaxis, chosen)
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    return figure


def _png(figure: Figure) -> bytes:
    """A figure as the content of a PNG file, without alpha.

    Every row is stored without a filter. Pillow would try five filters per row, which doubles the
    time and hardly makes a chart smaller.
    """
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[:, :, :3]  # type: ignore[attr-defined]  # Agg
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    per_meter = round(figure.dpi / 0.0254)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"pHYs": struct.pack(">IIB", per_meter, per_meter, 1),
        b"IDAT": zlib.compress(rows.tobytes(), 3),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts.items()
    )  # fmt: skip


def deformations(path: Path, title: str, samples: NDArray[Any]) -> None:
    """Draw stored images in the first column, and deformed ones beside them, as a PNG file.

    samples: (n, 1 + deformations, rows, columns), gray values 0..255, 255 is black.
    """
    count, columns, height, width = samples.shape
    tile = 0.65
    figure = Figure(figsize=(tile * columns + 0.3, tile * count * height / width + 0.9))
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9, parse_math=False, fontfamily=fonts.families(title))
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
    with fonts.quiet():
        write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))
