"""The charts of a report: SVG that fits into a page, and files for a paper.

Covers: harness/analysis/drawing.py
"""

import io
import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from harness.analysis import charts, drawing
from harness.analysis.drawing import Chart

SQUARE = np.array([[0.5, np.nan], [1.0, 2.0]])
CHARTS = {
    "bands": lambda: charts.bands("error (%)", {"a=1": np.array([[3, 2], [4, np.nan]])}),
    "against": lambda: charts.against("batch", {"test": [(16, 2, 1, 3), (128, 3, 2, 4)]}),
    "heat_map": lambda: charts.heat_map(("lr", "batch"), ["0.1", "0.2"], ["16", "32"], SQUARE),
    "front": lambda: charts.front([(1, "a=1", 1, 3), (2, "a=2", 2, 1)], [0, 1], "error (%)"),
    "confusion": lambda: charts.confusion(np.array([[7, 1], [0, 9]]), ["cat", "12 letters ..."]),
    "difference": lambda: charts.confusion(np.array([[0, -3], [4, 0]]), "01", difference=True),
    "gallery": lambda: charts.gallery(np.ones((7, 4, 4)), ["1 as 7"] * 7),
    "color": lambda: charts.gallery(np.ones((7, 4, 4, 3)), ["1 as 7"] * 7),
    "weights": lambda: charts.gallery(np.ones((9, 4, 4)), (), signed=True),
}


@pytest.mark.parametrize("name", CHARTS)
def test_svg_fits_into_a_page(name: str) -> None:
    svg = CHARTS[name]().svg
    root = ElementTree.fromstring(svg.replace("xlink:href", "href"))
    assert "viewBox" in root.attrib
    assert not {"width", "height"} & root.attrib.keys()
    assert drawing.INK not in svg, "text takes the color of the page"
    assert svg == CHARTS[name]().svg, "the same values give the same text"


def test_a_legend_has_names_that_begin_with_an_underscore() -> None:
    values = np.array([[3.0, 2.0]])
    assert ">_target_=a<" in charts.bands("loss", {"_target_=a": values, "b": values}).svg
    assert ">_loss<" in charts.against("batch", {"_loss": [(16, 2, 1, 3)]}).svg


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (np.linspace(0.01, 0.5, 20), "linear"), (np.geomspace(0.001, 1, 20), "log"),
        (np.linspace(0.1, 0.5, 20), "linear"), ([16, 64, 128], "log"), ([0, 1, 10], "linear"),
    ],
)  # fmt: skip
def test_the_axis_of_a_swept_number(values: list[float], scale: str) -> None:
    _, axes = drawing.new_figure()
    drawing.wide(axes, values)
    assert axes.get_xscale() == scale


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([0.3, 0.301, 0.5], ["0.3", "", "0.5"]), ([16, 64, 1024], ["16", "64", "1024"]),
        ([0.302332573, 0.5], ["0.302", "0.5"]), ([5], ["5"]), ([1, 2, 3], ["1", "2", "3"]),
        ([0.0001, 0.00011, 0.1], ["0.0001", "", "0.1"]),
    ],
)  # fmt: skip
def test_names_of_values_do_not_overlap(values: list[float], names: list[str]) -> None:
    _, axes = drawing.new_figure()
    drawing.wide(axes, values)
    drawing.name_ticks(axes, values)
    assert [text.get_text() for text in axes.get_xticklabels()] == names


@pytest.mark.parametrize(
    ("low", "high"), [(0.02, 0.3), (20, 41), (18, 40), (3, 80), (0.02, 0.9), (110, 900), (1, 1e5)]
)
def test_a_logarithmic_axis_has_three_labels_or_more(low: float, high: float) -> None:
    figure, axes = drawing.new_figure()
    axes.plot([low, high], [low, high])
    drawing.logarithmic(axes, axes.yaxis, [low, high])
    drawing.wide(axes, [low, high])
    figure.canvas.draw()
    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        bounds = axis.get_view_interval()
        ticks = [each for each in axis.get_ticklocs() if bounds[0] <= each <= bounds[1]]
        if scale == "log":
            assert 3 <= len(ticks) <= 8
        assert len(axis.get_minorticklocs()) == 0


def texts(chart: Chart) -> set[str]:
    return {"".join(each.itertext()).strip() for each in ElementTree.fromstring(chart.svg).iter()
            if each.tag.endswith("}text")}  # fmt: skip


@pytest.mark.parametrize("text", ["a$b$", "$\\bad{", "<script>x</script>", "[b] & c", "50 % $x$"])
def test_text_of_users_is_only_text(text: str) -> None:
    """Dollar signs are no formula, and tags are no tags."""
    assert text in texts(charts.bands(text, {text: np.array([[3.0, 0.002]])}))
    assert text in texts(charts.against(text, {text: [(16, 2, 1, 3), (128, 3, 2, 4)]}))
    assert text in texts(charts.heat_map((text, text), [text, "1"], ["16", text], SQUARE))
    assert text in texts(charts.front([(1, text, 1, 3), (2, "a=2", 2, 1)], [0, 1], text))


def test_many_values_on_a_logarithmic_axis_are_plain_numbers() -> None:
    rows = [(2.0**power, 2.0, 1.0, 3.0) for power in range(14)]
    assert {"10", "100", "1000"} <= texts(charts.against("batch", {"test": rows}))


def test_the_values_are_written_in() -> None:
    assert {"lr", "batch", "0.1", "32", "0.50", "2.00"} <= texts(CHARTS["heat_map"]())
    assert "nan" not in texts(CHARTS["heat_map"]())
    assert {"true class", "7", "9", "1"} <= texts(CHARTS["confusion"]())
    assert {"+4", "-3"} <= texts(CHARTS["difference"]())
    assert {"a=1", "epoch", "error (%)"} <= texts(CHARTS["bands"]())
    assert {"16", "128", "batch", "test"} <= texts(CHARTS["against"]())
    assert {"a=1", "a=2"} <= texts(CHARTS["front"]())
    assert "1 as 7" in texts(CHARTS["gallery"]())


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 4, 4, 3)])
def test_images_of_few_gray_values_are_not_pale(shape: tuple[int, ...]) -> None:
    ink = np.random.default_rng(1).integers(0, 2, shape)
    assert charts.gallery(ink * 16, []).svg == charts.gallery(ink * 255, []).svg
    assert charts.gallery(ink * 128, []).svg != charts.gallery(ink * 255, []).svg


def test_a_band_has_the_color_of_its_line() -> None:
    """Also after a setting of one seed, which has no band."""
    series = {"a=1": np.array([[3.0, 2.0]]), "a=2": np.array([[3.0, 2.0], [4.0, 3.0]])}
    (axes,) = charts.bands("error", series).draw().axes
    (band,) = axes.collections
    assert mpl.colors.same_color(band.get_facecolor()[0, :3], axes.get_lines()[1].get_color())


def test_a_setting_of_one_epoch_is_a_point() -> None:
    series = {"epochs=1": np.array([[0.5], [0.6]]), "epochs=2": np.array([[0.5, 0.4], [0.6, 0.5]])}
    (axes,) = charts.bands("error", series).draw().axes
    assert [line.get_marker() for line in axes.get_lines()] == ["o", "None"]


def test_long_names_of_settings_have_room() -> None:
    """Warnings are errors: Matplotlib says when there is none."""
    keys = "optimizer=mine.parts:Lion lr=0.001 beta=1.5 gamma=2 blocks=2 metrics=[mine.parts:top]"
    names = [f"activation={number} {keys}" for number in range(6)]
    curves = texts(charts.bands("error (%)", {name: np.ones((2, 3)) for name in names}))
    assert "activation=5 optimizer=mine.parts:Lion lr=0.001 beta=1.5 gamma=2" in curves
    points = [(20 + place, name, 1.0 + place, 5.0 - place) for place, name in enumerate(names)]
    found = texts(charts.front(points, range(6), "error (%)"))
    assert {str(row) for row in range(20, 26)} <= found, "the rows of the ranking"
    assert any(text.startswith("25  activation=5 ") for text in found)
    assert any(text.endswith("blocks=2 metrics=[mine.parts:top]") for text in found)


def test_names_of_neighboring_points_do_not_cover_each_other() -> None:
    points = [(n, f"lr=0.{n},width=64", 1 + n / 50, 3 - n / 50) for n in range(1, 5)]
    (axes,) = charts.front(points, range(4), ("seconds", "error")).draw().axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 4
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


@pytest.mark.parametrize("longest", [8, 14, 15, 26, 27, 36, 66])
@pytest.mark.parametrize("count", [2, 8])
def test_a_legend_is_as_wide_as_the_figure_at_most(longest: int, count: int) -> None:
    names = [f"lr=0.0{number} loss.name=mine.loss:Hube".ljust(longest, "e") for number in range(9)]
    chart = charts.bands("loss", {name[:longest]: np.ones((2, 3)) for name in names[:count]})
    for scale in (1.0, drawing.COLUMN / drawing.SIZE[0]):
        with mpl.rc_context({"font.size": drawing.POINTS * scale}):
            figure = chart.draw()
            figure.draw_without_rendering()
        (legend,) = figure.legends
        assert legend.get_window_extent().x0 >= figure.bbox.x0
        assert legend.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("form", drawing.FORMATS)
def test_a_file_has_the_width_of_a_column(name: str, form: str) -> None:
    chart = CHARTS[name]()
    content = chart.file(form)
    assert content == chart.file(form), "the same values give the same file"
    assert drawing.INK.encode() not in content, "on paper, text is black"
    if form == "png":
        width, dpi = Image.open(io.BytesIO(content)).width, 300
        assert width / dpi == pytest.approx(drawing.COLUMN, abs=0.01)
    elif form == "svg":
        assert ElementTree.fromstring(content).get("width") == f"{72 * drawing.COLUMN:g}pt"
        assert b"<text" not in content, "letters are outlines"
    else:
        (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) [\d.]+ \]", content)
        assert float(box) == pytest.approx(72 * drawing.COLUMN, abs=0.1)
        assert b"/Type3" not in content
        fonts = re.findall(rb"/Subtype /(\w*Type\w*)", content)
        assert set(fonts) <= {b"CIDFontType2", b"Type0"}
        assert b"/FontFile2" in content or name == "weights", "the font is embedded"
