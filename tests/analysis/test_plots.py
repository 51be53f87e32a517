"""The plots of a run: PNG files with something drawn in them."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from harness.analysis import plots


def test_learning_curves(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    curves = {"train": [0.5, 0.2], "validation": []}
    plots.learning_curves(path, "a run without validation", {"loss": curves, "error": curves})
    without = imread(path)
    curves["validation"] = [0.6, 0.0]
    plots.learning_curves(path, "a run", {"loss": curves, "error": curves})
    assert imread(path).shape == without.shape
    assert not np.array_equal(imread(path), without)


def test_the_next_run_of_a_sweep_is_drawn_as_the_first_one_was(tmp_path: Path) -> None:
    """The figure is used again: nothing of the run before stays in it."""
    path, of_seed_1 = tmp_path / "curves.png", {"loss": {"train": [0.5, 0.2, 0.1]}}
    plots.learning_curves(path, "seed=1", of_seed_1)
    first = imread(path)
    plots.learning_curves(path, "seed=2", {"loss": {"train": [9.0, 4.0]}})
    second = imread(path)
    plots.learning_curves(path, "seed=1", of_seed_1)
    assert np.array_equal(imread(path), first)
    assert not np.array_equal(second, first)
    plots._figure.cache_clear()
    plots.learning_curves(path, "seed=2", {"loss": {"train": [9.0, 4.0]}})
    assert np.array_equal(imread(path), second)


def test_a_picture_holds_the_pixels_of_its_figure(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    plots.learning_curves(path, "a run", {"loss": {"train": [0.5, 0.2]}})
    figure = plots._figure(0, (("loss", ("train",)),), (plots.scale([0.5, 0.2]),))
    figure.savefig(tmp_path / "by_matplotlib.png", dpi=110)
    expected = imread(tmp_path / "by_matplotlib.png")[:, :, :3]
    assert np.array_equal(imread(path), expected)


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures, as they are saved."""
    figures: list[Figure] = []

    def keep(figure: Figure) -> bytes:
        figures.append(figure)
        return b""

    monkeypatch.setattr(plots, "_png", keep)
    return figures


@pytest.mark.parametrize("panels", [1, 2])
@pytest.mark.parametrize("values", [[60.0, 4.5], [0.0004, 0.006], [10.5, 11.25], [0.0, 12.5]])
@pytest.mark.parametrize("words", [1, 4, 20])
def test_labels_and_title_are_inside_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, panels: int, values: list[float], words: int
) -> None:
    figures = drawn(monkeypatch)
    curves = {f"error {number} (%)": {"train": values} for number in range(panels)}
    plots.learning_curves(tmp_path / "a.png", "trainer=mine.train:fit " * words, curves)
    (figure,) = figures
    figure.set_dpi(110)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]  # that of Agg
    inside = figure.bbox
    title = figure.texts[0].get_window_extent(renderer)
    assert (title.x0 >= inside.x0, title.x1 <= inside.x1, title.y1 <= inside.y1) == (True,) * 3
    for axes in figure.axes:
        box = axes.get_tightbbox(renderer)
        assert box is not None
        assert (box.x0 >= inside.x0, box.x1 <= inside.x1, box.y0 >= inside.y0) == (True,) * 3
        assert box.y1 < title.y0
    if panels == 2:
        first, second = (axes.get_tightbbox(renderer) for axes in figure.axes)
        assert first is not None
        assert second is not None
        assert first.x1 <= second.x0


def test_an_error_of_zero_is_on_the_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch)
    for values, scale in (([50, 20, 0.0], "linear"), ([50, 20, 1.0], "log")):
        plots.learning_curves(tmp_path / "a.png", "a run", {"error (%)": {"train": values}})
        (axes,) = figures.pop().axes
        assert axes.get_yscale() == scale
        low, high = axes.get_ylim()
        assert low <= min(values) < max(values) <= high


def test_a_single_epoch_is_a_point_above_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = drawn(monkeypatch)
    plots.learning_curves(tmp_path / "a.png", "a run", {"loss": {"train": [0.5]}})
    (axes,) = figures.pop().axes
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]
    assert axes.get_lines()[0].get_marker() == "."


def test_deformations(tmp_path: Path) -> None:
    path = tmp_path / "samples.png"
    samples = np.zeros((2, 3, 8, 6))
    plots.deformations(path, "elastic", samples)
    blank = imread(path)
    samples[1, 2] = 255
    plots.deformations(path, "elastic", samples)
    changed = (imread(path) != blank).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert rows.min() > len(blank) / 2, "the second of two rows"
    assert columns.min() > 0.6 * blank.shape[1], "the third of three columns"


def test_a_dollar_sign_in_a_title_is_no_formula(tmp_path: Path) -> None:
    """A run's name has its overrides, such as a path."""
    title = r"outputs=/tmp/$\bad{$/x"
    plots.learning_curves(tmp_path / "curves.png", title, {"loss": {"a": [0.5, 0.1]}})
    plots.deformations(tmp_path / "samples.png", title, np.zeros((1, 2, 4, 4)))
    assert len(imread(tmp_path / "curves.png")) > 0
