"""The ink of a picture does not depend on the paper it is on."""

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.recognizer.background import FAINT, extract_ink, ink_box, quantile

PEN = np.zeros((60, 50), bool)
PEN[10:50, 20:26] = True


def on_paper(paper: NDArray[np.float64], pen: float) -> NDArray[np.uint8]:
    """Gray values of the pen stroke drawn on paper, `pen` being their difference."""
    return np.clip(paper + pen * PEN, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("pen", [-100, 100])
@pytest.mark.parametrize("slope", [0.0, 0.9])
@pytest.mark.parametrize("noise", [0.0, 8.0])
def test_ink_is_where_the_pen_was(pen: float, slope: float, noise: float) -> None:
    paper = np.full(PEN.shape, 105.0) + slope * np.arange(PEN.shape[1])
    paper += np.random.default_rng(2).normal(0, noise, PEN.shape)
    extracted = extract_ink(on_paper(paper, pen))
    assert extracted is not None
    ink, (rows, columns) = extracted
    assert ink.dtype == np.float32
    assert ink.shape == (rows.stop - rows.start, columns.stop - columns.start)
    whole = np.zeros(PEN.shape, np.float32)
    whole[rows, columns] = ink
    assert whole.max() == 1
    # Averaging 3x3 pixels, against noise, leaves 4/9 in a corner and widens the stroke by a pixel.
    assert (whole[PEN] > 0.3).all()
    outside = np.ones(PEN.shape, bool)
    outside[9:51, 19:27] = False
    assert (whole[outside] > FAINT).mean() < 0.001


def test_a_clean_canvas_is_cropped_to_its_drawing() -> None:
    extracted = extract_ink(on_paper(np.zeros(PEN.shape), 255))
    assert extracted is not None
    assert extracted[1] == (slice(10, 50), slice(20, 26))


@pytest.mark.parametrize("pen", [0, 10, -10])
def test_without_contrast_there_is_no_ink(pen: float) -> None:
    assert extract_ink(on_paper(np.full(PEN.shape, 100.0), pen)) is None


def test_faint_ink_is_outside_the_box() -> None:
    ink = np.zeros((5, 6), np.float32)
    ink[1, 1], ink[2:4, 3] = FAINT / 2, 1
    assert ink_box(ink) == (slice(2, 4), slice(3, 4))


def test_the_quantile_is_one_of_the_values() -> None:
    values = np.random.default_rng(1).permutation(11).astype(np.float32)
    assert [quantile(values, share) for share in (0, 0.5, 0.99, 1)] == [0, 5, 9, 10]
