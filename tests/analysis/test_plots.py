"""The plots of a run: PNG files with something drawn in them."""

from pathlib import Path

import numpy as np
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
