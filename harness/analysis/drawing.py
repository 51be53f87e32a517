"""How charts are drawn by Matplotlib: as SVG text for an HTML page, or as files.

On the page, lines and text take the page's text color, which makes them legible on light and dark
backgrounds. In a file they are black and sized for a column of a paper.
"""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from harness.analysis import fonts
from harness.analysis.settings import rounded

Arguments = ParamSpec("Arguments")
# Eight hues with enough contrast to white and to near black.
COLORS = ("#3b82c4", "#d9822b", "#2a9d74", "#c2548f", "#8a6fd1", "#a58a1c", "#4aa8c9", "#c6534a")
INK = "#123456"  # placeholder for the page's text color, replaced in the SVG text
SIZE = (4.7, 3.3)  # inches on the page, where text has POINTS
POINTS = 10.0
COLUMN = 3.35  # inches: the width of a column of a paper
FORMATS = ("pdf", "svg", "png")
LABELS = 3  # minimum number on a logarithmic axis
SUBS = ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7), tuple(range(1, 10)))  # multiples of powers of ten
CHARACTER = 0.025  # its width as a share of an axis of SIZE
MANY = 8  # values of a swept number that show how they are spread
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar sign in a setting is no formula
    "legend.frameon": False,
    "font.family": "sans-serif",
    "font.size": POINTS,
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
    ),
}
# Fonts are embedded, as TrueType; of an SVG file the letters are outlines.
PAPER: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "path", "savefig.dpi": 300}


@dataclass(frozen=True)
class Chart:
    """A chart that can be drawn in several sizes. draw: makes the figure in the style in effect."""

    draw: Callable[[], Figure]

    @cached_property
    def svg(self) -> str:
        """The chart for a page: text that begins with `<svg`."""
        with mpl.rc_context(STYLE):
            return _svg(self.draw())

    def file(self, form: str, width: float = COLUMN) -> bytes:
        """The content of a file of a format of `FORMATS`, `width` inches wide."""
        style = _in_black(STYLE) | PAPER | {"font.size": POINTS * width / SIZE[0]}
        content = io.BytesIO()
        with mpl.rc_context(style | {"svg.hashsalt": "report"}), fonts.quiet():
            known = {"pdf": "CreationDate", "svg": "Date", "png": "Software"}  # not in the file
            self.draw().savefig(content, format=form, metadata={known[form]: None})
        return content.getvalue()


def _in_black(style: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: "black" if value == INK else value for key, value in style.items()}


def chart(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Chart]:
    """Turn a function that draws a figure into a function that returns its chart."""

    @wraps(draw)
    def made(*given: Arguments.args, **named: Arguments.kwargs) -> Chart:
        return Chart(partial(draw, *given, **named))

    return made


def scaled(length: float) -> float:
    """A length or font size of the page, scaled to the style in effect."""
    return float(length * mpl.rcParams["font.size"] / POINTS)


def new_figure(size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    """A figure of this size on the page, in inches, with one pair of axes."""
    figure = Figure((scaled(size[0]), scaled(size[1])), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    axes.grid(alpha=0.2, color=mpl.rcParams["text.color"])
    return figure, axes


def wide(axes: Axes, values: Sequence[float]) -> None:
    """Make the x axis of a swept number logarithmic if its values span a factor of eight.

    Many values, of a search, stay on a linear axis if their median is nearer to its middle there.
    """
    low, high = min(values), max(values)
    if low <= 0 or high / low < 8:
        return
    middle = float(np.median(values))
    linear, log = (middle - low) / (high - low), math.log(middle / low) / math.log(high / low)
    if len(set(values)) >= MANY and abs(linear - 0.5) < abs(log - 0.5):
        return
    set_scale(axes, axes.xaxis, "log")


def name_ticks(axes: Axes, values: Sequence[float]) -> None:
    """Put ticks at the values of an x axis, in order; name those that have room."""
    places = np.asarray(values, float)
    if axes.get_xscale() == "log":
        places = np.log(places)
    shares = (places - places[0]) / (np.ptp(places) or 1.0)
    texts = [f"{value:g}" for value in values]
    fewer = rounded(texts)
    names: list[str] = []
    end = -math.inf  # of the last name that is shown
    for text, share in zip(texts, shares, strict=True):
        half = CHARACTER * (len(fewer[text]) + 1) / 2
        has_room = share - half >= end
        names.append(fewer[text] if has_room else "")
        end = share + half if has_room else end
    axes.set_xticks(values, names)


def logarithmic(axes: Axes, axis: Any, values: Sequence[float]) -> None:
    """Make an axis logarithmic if the values are positive and span a factor of two or more."""
    set_scale(axes, axis, scale(values))


def whole_numbers() -> MaxNLocator:
    """Put ticks at whole epochs or steps, even if there is only one."""
    return MaxNLocator(integer=True, min_n_ticks=1)


def scale(values: Sequence[float]) -> str:
    """The scale that an axis of these values needs: linear or log."""
    known = [value for value in values if math.isfinite(value)]
    if not known or min(known) <= 0 or max(known) / min(known) < 2:
        return "linear"
    return "log"


def set_scale(axes: Axes, axis: Any, chosen: str) -> None:
    """Give an axis a scale that `scale` returned."""
    if chosen == "linear":
        return
    (axes.set_yscale if axis is axes.yaxis else axes.set_xscale)("log")
    axis.set_major_locator(_FewPowers())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


class _FewPowers(LogLocator):
    """Ticks of a logarithmic axis, even if it spans hardly a power of ten."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """As few round numbers between two bounds as give enough labels."""
        for subs in SUBS:
            ticks = LogLocator(subs=subs).tick_values(vmin, vmax)
            shown = [tick for tick in ticks if vmin <= tick <= vmax]
            if len(shown) >= LABELS:
                return np.array(shown)
        return MaxNLocator(LABELS + 1).tick_values(vmin, vmax)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    # Letters without a font on this machine are measured as boxes; the browser draws the text.
    with mpl.rc_context({"svg.hashsalt": "report"}), fonts.quiet():
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return re.sub(
        r' id="[a-zA-Z]+(?:\.\w+)?_\d+"', "", svg
    )  # ids would repeat in the figures of a page
