"""Thin and thick strokes become as thick as MNIST's; usual ones and blots are recognized."""

import numpy as np
import pytest
from PIL import Image

from harness.recognizer import strokes


@pytest.mark.parametrize("thickness", [3, 6, 12])
def test_the_thickness_of_a_bar(thickness: int) -> None:
    # Edges along the axes are counted exactly, so the factor 4/pi for slanted edges shows.
    bar = np.ones((400, thickness), bool)
    assert strokes.mean_thickness(bar) == pytest.approx(thickness * 4 / np.pi, rel=0.05)


def test_the_thickness_of_a_ring() -> None:
    radius = np.hypot(*np.mgrid[-100:101, -100:101])
    ring = (radius > 75) & (radius < 85)
    assert strokes.mean_thickness(ring) == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("thickness", [2, 4, 20, 26])
def test_unusual_strokes_become_usual(thickness: int) -> None:
    radius = np.hypot(*np.mgrid[-40:40, -40:40] + 0.5)
    ring = (radius < 40) & (radius > 40 - thickness)
    normalized = strokes.normalize(ring.astype(np.float32))
    assert normalized is not None
    # Thick strokes are corrected by 0.8 of the difference.
    assert strokes.THIN <= strokes.mean_thickness(normalized > 0.5) < strokes.THICK + 1


def test_usual_strokes_are_only_resampled() -> None:
    ink = np.zeros((40, 20), np.float32)
    ink[:, 8:12] = 1  # 8 of 80 pixels
    expected = np.asarray(Image.fromarray(ink).resize((40, 80), Image.Resampling.BICUBIC))
    normalized = strokes.normalize(ink)
    assert normalized is not None
    assert np.array_equal(normalized, expected)


def test_a_disc_is_a_blot() -> None:
    disc = np.hypot(*np.mgrid[-40:40, -40:40] + 0.5) < 40
    assert strokes.normalize(disc.astype(np.float32)) is None
