"""The charts of a search."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.analysis.charts import short
from harness.analysis.drawing import (
    COLORS,
    chart,
    logarithmic,
    name_ticks,
    new_figure,
    scaled,
    wide,
)
from harness.analysis.importance import Importance

LINE, BAND = COLORS[2], 0.5
# Of the ways in which a trial ends, in their order: marker, color, whether it is filled.
MARKS = (
    ("o", COLORS[0], True), ("o", COLORS[0], False), ("x", COLORS[1], True),
    ("d", COLORS[1], False), ("+", COLORS[7], True),
)  # fmt: skip
MOST_NAMED = 8  # values of a key that are written under the axis
SHORT_NUMBER = 5  # characters of one of these

Points = Mapping[str, Sequence[tuple[float, float]]]


@chart
def history(points: Points, best: Sequence[tuple[float, float]], label: str) -> Figure:
    """Plot each trial where it ended, and the best so far.

    points: how the trial ended -> (epochs spent by the whole search, result). best: the points of
    the best trial so far, and the end of the search. label: the y axis label.
    """
    figure, axes = new_figure()
    _scatter(axes, points)
    if len({spent for spent, _ in best}) > 1:  # else there is no line
        axes.step(*np.array(best).T, where="post", color=LINE, lw=1.4, label="best so far")
    axes.set_xlim(left=0)
    axes.set_xlabel("epochs, of all trials")
    axes.set_ylabel(label)
    logarithmic(axes, axes.yaxis, [y for rows in points.values() for _, y in rows])
    figure.legend(loc="outside lower center", ncols=2, fontsize=scaled(8))
    return figure


@chart
def ends(bars: Points, names: Sequence[str], pauses: Sequence[tuple[float, float]] = ()) -> Figure:
    """Plot the epochs of each trial. bars: how the trial ended -> (trial number, epochs).

    names: all ways to end; each has one color in every chart. pauses: (trial number, the epoch
    after which it paused).
    """
    figure, axes = new_figure()
    for name, rows in bars.items():
        _, color, is_filled = MARKS[names.index(name)]
        x, y = np.array(rows).T
        axes.bar(x, y, 0.8, color=color, alpha=1 if is_filled else BAND, label=name)
    if pauses:
        x, y = np.array(pauses).T
        axes.hlines(y, x - 0.4, x + 0.4, color="white", lw=1.5, zorder=3)
    axes.set_xlabel("trial, in the order of their ends")
    axes.set_ylabel("epochs")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=2, fontsize=scaled(8))
    return figure


@chart
def importances(found: Sequence[Importance]) -> Figure:
    """Plot the importance of each key with its interval, the highest at the top."""
    figure, axes = new_figure((4.7, 1.1 + 0.36 * len(found)))
    rows = np.arange(len(found))[::-1]
    shares = np.array([each.share for each in found])
    reach = np.array([(each.low, each.high) for each in found]).T
    axes.barh(rows, shares, 0.55, color=COLORS[0], alpha=BAND)
    axes.hlines(rows, *reach, color=COLORS[0], lw=2)
    axes.set_yticks(rows, [each.key for each in found])
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the variance of the ranks")
    axes.grid(visible=False, axis="y")
    return figure


@chart
def numbers(key: str, points: Points, label: str) -> Figure:
    """Plot the result of each trial against its value of a key.

    points: how it ended -> (value, result).
    """
    figure, axes = new_figure()
    _scatter(axes, points)
    values = sorted({x for rows in points.values() for x, _ in rows})
    wide(axes, values)
    if len(values) <= MOST_NAMED and max(len(f"{value:g}") for value in values) <= SHORT_NUMBER:
        name_ticks(axes, values)
    return _finish_slice(figure, axes, key, points, label)


@chart
def choices(key: str, values: Sequence[str], points: Points, label: str) -> Figure:
    """Plot the result of each trial above its value.

    values: in the order of the axis. points: how it ended -> (index of the value, result).
    """
    figure, axes = new_figure()
    beside = np.random.default_rng(1)  # so that equal results stay apart
    apart = {
        name: [(x + beside.uniform(-0.18, 0.18), y) for x, y in rows]
        for name, rows in points.items()
    }
    _scatter(axes, apart)
    names = [short(value) for value in values]
    is_long = len(names) > MOST_NAMED or sum(map(len, names)) > 40
    axes.set_xticks(range(len(names)), names, rotation=90 if is_long else 0)
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.grid(visible=False, axis="x")
    return _finish_slice(figure, axes, key, points, label)


def _finish_slice(figure: Figure, axes: Axes, key: str, points: Points, label: str) -> Figure:
    axes.set_xlabel(key)
    axes.set_ylabel(label)
    logarithmic(axes, axes.yaxis, [y for rows in points.values() for _, y in rows])
    figure.legend(loc="outside lower center", ncols=2, fontsize=scaled(8))
    return figure


def _scatter(axes: Axes, points: Points) -> None:
    """points: in the order of `MARKS`, those that have none are empty."""
    for (marker, color, is_filled), (name, rows) in zip(MARKS, points.items(), strict=True):
        if rows:
            x, y = np.array(rows).T
            face = color if is_filled else "none"
            axes.plot(x, y, marker, ms=5, color=color, mfc=face, alpha=0.8, label=name)
