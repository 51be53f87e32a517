"""The charts of a report on runs and settings: curves, results, confusion matrices and images."""

import math
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from harness.analysis.drawing import (
    COLORS,
    SIZE,
    chart,
    logarithmic,
    name_ticks,
    new_figure,
    scaled,
    whole_numbers,
    wide,
)

Numbers = NDArray[np.floating[Any]]
BESIDE = ((5, 3), (5, -3), (-5, 3), (-5, -3))  # where a point's name begins, in points
SHORT = 12  # characters of the name of a class
CROWDED = 80  # characters of the names of all points
LONG, LEGEND_WIDTH = 36, 66  # characters of the name of a setting
COLUMNS = {3: 14, 2: 26}  # columns of a legend: most characters of a name


@chart
def bands(
    label: str, series: Mapping[str, Numbers], steps: NDArray[np.int64] | None = None
) -> Figure:
    """Plot the mean and range over seeds of each setting against the epoch, or the step.

    label: the y axis label. series: name -> (seeds, epochs), NaN after the end of a run. steps:
    (epochs,), the x values; by default the epochs from 1 on.
    """
    columns = _columns(series)
    figure, axes = new_figure(_with_legend(series, columns))
    lines = []
    for number, values in enumerate(series.values()):
        seen = np.isfinite(values).any(axis=0)
        epochs = np.flatnonzero(seen) + 1 if steps is None else steps[seen]
        shown = values[:, seen]
        style = ("-", "--", ":")[number // len(COLORS) % 3]
        (line,) = axes.plot(epochs, np.nanmean(shown, axis=0), style, lw=1.4)
        lines.append(line)
        if len(epochs) == 1:  # which is no line
            line.set_marker("o")
        if len(values) > 1:
            axes.fill_between(
                epochs, np.nanmin(shown, axis=0), np.nanmax(shown, axis=0), alpha=0.2, lw=0,
                color=line.get_color(),
            )  # fmt: skip
    axes.set_xlabel("epoch" if steps is None else "step")
    axes.xaxis.set_major_locator(whole_numbers())
    axes.set_ylabel(label)
    logarithmic(axes, axes.yaxis, [float(v) for values in series.values() for v in values.ravel()])
    _legend(figure, lines, map(_wrapped, series), columns)
    return figure


@chart
def against(
    key: str,
    points: Mapping[str, Sequence[tuple[float, float, float, float]]],
    label: str = "error (%)",
) -> Figure:
    """Plot results against a swept number.

    points: name -> (value, mean, lowest, highest). label: the y axis label.
    """
    figure, axes = new_figure()
    lines = []
    for rows in points.values():
        x, mean, low, high = np.array(rows).T
        bars = np.abs(np.array([mean - low, high - mean]))
        lines.append(axes.errorbar(x, mean, yerr=bars, marker="o", ms=4, capsize=3, lw=1.2))
    values = sorted({row[0] for rows in points.values() for row in rows})
    wide(axes, values)
    if len(values) <= 12:
        name_ticks(axes, values)
    axes.set_xlabel(key)
    axes.set_ylabel(label)
    _legend(figure, lines, points, 2)
    return figure


@chart
def heat_map(
    keys: tuple[str, str],
    rows: list[str],
    columns: list[str],
    means: Numbers,
    form: str = "{:.2f}",
    *,
    maximize: bool = False,
) -> Figure:
    """Draw mean results, (rows, columns), as colored cells; NaN where there is no run.

    keys: labels of the rows and of the columns. form: the format of the values. maximize: higher
    is better; better values are brighter.
    """
    figure, axes = new_figure()
    _cells(axes, means, "viridis" if maximize else "viridis_r", form)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
    axes.set_ylabel(keys[0])
    axes.set_xlabel(keys[1])
    return figure


@chart
def front(
    points: Sequence[tuple[int, str, float, float]], best: Sequence[int], labels: tuple[str, str]
) -> Figure:
    """Plot points (row of the ranking, name, cost, result); best: indices of the Pareto front.

    labels: the axis labels. Long names are listed below the chart, by their rows.
    """
    shown = best[:8]
    longest = max(len(points[index][1]) for index in shown)
    is_long = longest > LONG or longest * len(shown) > CROWDED
    names = [f"{row}  {name}" for row, name, *_ in (points[index] for index in shown)]
    figure, axes = new_figure(_with_legend(names, 1) if is_long else SIZE)
    x, y = np.array([point[2:] for point in points]).T
    axes.plot(x, y, "o", ms=5, alpha=0.6)
    axes.step(x[best], y[best], "-o", where="post", ms=5, lw=1.2, color=COLORS[1])
    axes.margins(x=0.25, y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    logarithmic(axes, axes.xaxis, list(x))
    if max(x) >= 1000:  # 50k, in which there is room for the next one
        for formatted in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            formatted(EngFormatter(sep=""))
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    named = {str(points[i][0]) if is_long else points[i][1]: (x[i], y[i]) for i in shown}
    _name_points(figure, axes, named)
    if is_long:
        lines = [Line2D([], [], ls="", label=_wrapped(name)) for name in names]
        figure.legend(
            handles=lines, loc="outside lower center", fontsize=scaled(8), handlelength=0,
            handletextpad=0,
        )  # fmt: skip
    return figure


def _name_points(figure: Figure, axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Write the names of points (x, y) beside them, where they cover no point or name, if possible.

    Call it when the limits and scales of the axes are final.
    """
    figure.draw_without_rendering()  # places the axes
    size = scaled(5) * figure.dpi / 72  # of a marker
    taken = [
        Bbox.from_bounds(x - size / 2, y - size / 2, size, size)
        for x, y in axes.transData.transform(list(points.values()))
    ]
    for name, place in points.items():
        text = axes.annotate(
            name, place, xytext=BESIDE[0], fontsize=scaled(7.5), textcoords="offset points"
        )
        for x, y in (*BESIDE, BESIDE[0]):
            text.set_position((x, y))
            text.set(ha="left" if x > 0 else "right", va="bottom" if y > 0 else "top")
            box = text.get_window_extent()
            if not any(map(box.overlaps, taken)):
                break
        taken.append(box)


def _legend(figure: Figure, lines: Sequence[Any], names: Iterable[str], columns: int) -> None:
    """Add a legend below; include names with a leading underscore, which Matplotlib omits."""
    figure.legend(lines, list(names), loc="outside lower center", ncols=columns, fontsize=scaled(8))


def _columns(names: Collection[str]) -> int:
    """The number of legend columns that leave room for the longest name."""
    longest = max(map(len, names))
    fitting = (columns for columns, most in COLUMNS.items() if longest <= most)
    return min(next(fitting, 1), 3 if len(names) <= 3 else 2)


def _wrapped(name: str) -> str:
    """The name of a setting broken at spaces into lines that fit in a legend."""
    return "\n".join(textwrap.wrap(name, LEGEND_WIDTH)) or name


def _with_legend(names: Iterable[str], columns: int) -> tuple[float, float]:
    """The size of a figure with room for the names below it, in inches."""
    lines = sum(1 + _wrapped(name).count("\n") for name in names) // columns
    return SIZE[0], SIZE[1] + 0.16 * max(0, lines - 4)


def short(name: str) -> str:
    """The name of a class, cut to fit into a chart."""
    return name if len(name) <= SHORT else f"{name[: SHORT - 1]}\N{HORIZONTAL ELLIPSIS}"


@chart
def confusion(
    counts: NDArray[np.int64], names: Sequence[str], *, difference: bool = False
) -> Figure:
    """Draw (C, C) counts by true class (row) and predicted class (column); names: class names.

    The diagonal has numbers but no color. difference: the counts are those of one network minus
    those of another; all cells are colored by sign.
    """
    figure, axes = new_figure((4.7, 4.2))
    shown = counts.astype(float)
    if not difference:
        np.fill_diagonal(shown, np.nan)
    shown[shown == 0] = np.nan
    widest = float(np.nanmax(np.abs(shown))) if np.isfinite(shown).any() else 1.0
    limits = (-widest, widest) if difference else (0.0, widest)
    _cells(axes, shown, "RdBu_r" if difference else "Oranges", "{:+.0f}" if difference
           else "{:.0f}", limits)  # fmt: skip
    if not difference and len(counts) <= 12:
        for label, count in enumerate(np.diag(counts)):
            axes.text(
                label + 0.5, label + 0.5, str(count), ha="center", va="center", fontsize=scaled(7),
                alpha=0.6, in_layout=False,
            )  # fmt: skip
    ticks = np.arange(0, len(counts), 1 + len(counts) // 30)
    labels = [short(names[tick]) for tick in ticks.tolist()]
    axes.set_xticks(ticks + 0.5, labels, rotation=90 if max(map(len, labels)) > 3 else 0)
    axes.set_yticks(ticks + 0.5, labels)
    axes.set_ylabel("true class")
    axes.set_xlabel("predicted class")
    return figure


@chart
def gallery(images: Numbers, captions: Sequence[str], *, signed: bool = False) -> Figure:
    """Draw images (N, rows, columns), six in a row with captions, or eight without.

    Color images are (N, rows, columns, 3). signed: the images are weights, each scaled to [-1, 1];
    otherwise values are 0..255, and gray 255 is black, or the highest value if all are below 128.
    """
    columns, gap = (6, 3) if captions else (8, 1)
    lines = math.ceil(len(images) / columns)
    rows, width = images.shape[1] + 2 * gap, images.shape[2] + 2 * gap
    # A single mosaic: Matplotlib needs a second to lay out forty small images.
    mosaic = np.full((lines * rows, columns * width, *images.shape[3:]), np.nan)
    for number, image in enumerate(images):
        y, x = number // columns * rows, number % columns * width
        scale = float(np.abs(image).max()) or 1.0
        mosaic[y + gap : y + rows - gap, x + gap : x + width - gap] = (
            image / scale if signed else image
        )
    low, high = (-1.0, 1.0) if signed else (0.0, 255.0)
    if not signed and images.max() < 128:
        high = max(1.0, float(images.max()))
    if mosaic.ndim == 3:
        alpha = np.where(np.isnan(mosaic[..., :1]), 0.0, 1.0)
        mosaic = np.concatenate([np.nan_to_num(mosaic) / high, alpha], axis=2)
    height = 4.7 * lines / columns * (1.2 if captions else 1)
    figure = Figure((scaled(4.7), scaled(height)))
    FigureCanvasSVG(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.imshow(
        mosaic, "RdBu_r" if signed else "gray_r", interpolation="none", aspect="auto",
        vmin=low, vmax=high,
    )  # fmt: skip
    for number, caption in enumerate(captions):
        x, y = (number % columns + 0.5) * width, number // columns * rows + 1.6
        axes.text(x, y, caption, ha="center", va="center", fontsize=scaled(7.5))
    return figure


def _cells(
    axes: Axes, values: Numbers, colors: str, form: str, limits: tuple[float, float] | None = None
) -> None:
    """Draw a grid of colored cells with their values in them; the first row is at the top."""
    low, high = limits or (float(np.nanmin(values)), float(np.nanmax(values)))
    high = high if high > low else low + 1
    colormap = mpl.colormaps[colors]
    axes.pcolormesh(values, cmap=colormap, vmin=low, vmax=high, edgecolors="none")
    axes.grid(visible=False)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if max(values.shape) > 12:
        return
    for (row, column), value in np.ndenumerate(values):
        if not math.isnan(value):
            red, green, blue, _ = colormap((value - low) / (high - low))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
            axes.text(
                column + 0.5, row + 0.5, form.format(value), ha="center", va="center",
                fontsize=scaled(7.5), color="white" if dark else "#111111",
                in_layout=False,  # it is inside the axes; measuring it takes longer than drawing it
            )  # fmt: skip
