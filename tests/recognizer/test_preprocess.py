"""Drawings become images like those the network was trained on."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from harness.data import dataset
from harness.recognizer.preprocess import prepare, preprocess
from harness.recognizer.recognizer import Recognizer

Digits = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    test = dataset.load("mnist", cache=tmp_path_factory.mktemp("cache")).test
    return np.array(test.inputs[:300]).reshape(-1, 28, 28), test.labels[:300]


def seven(size: int = 100, width: int = 7) -> NDArray[np.uint8]:
    """White on black: a bar on top and a slanted stem."""
    canvas = np.zeros((size, size), np.uint8)
    canvas[20 : 20 + width, 30:70] = 255
    for row in range(20, 80):
        left = 70 - width - (row - 20) // 2
        canvas[row, left : left + width] = 255
    return canvas


def image_of(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = preprocess(picture).image
    assert image is not None
    return image


def test_fits_into_20_pixels_around_the_center_of_mass() -> None:
    image = image_of(seven())
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert rows[-1] - rows[0] + 1 == 20  # 60 pixels high, 40 wide
    assert columns[-1] - columns[0] + 1 == 13
    mass = image.astype(float)
    for axis in (0, 1):
        middle = mass.sum(axis=1 - axis) @ (np.arange(28) + 0.5) / mass.sum()
        assert abs(middle - 14.5) <= 0.5
    assert image.max() == 255


def test_position_size_polarity_and_paper_do_not_matter() -> None:
    expected = image_of(seven()).astype(int)
    drawing = seven()
    for changed in (
        np.roll(drawing, (15, -20), (0, 1)),
        255 - drawing,
        np.pad(drawing, 60),
        (180 - drawing.astype(int) * 120 // 255).astype(np.uint8),
        np.asarray(Image.fromarray(drawing).resize((800, 800), Image.Resampling.NEAREST)),
    ):
        image = image_of(changed).astype(int)  # the center may be rounded to the next pixel
        shifted = [np.roll(image, (r, c), (0, 1)) for r in (-1, 0, 1) for c in (-1, 0, 1)]
        assert min(np.abs(each - expected).mean() for each in shifted) < 4


def test_mnist_stays_where_it_is(digits: Digits) -> None:
    offsets = []
    for digit in digits[0]:
        image = image_of(digit).astype(int)
        shifts = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)]
        offsets.append(
            min(shifts, key=lambda shift: np.abs(np.roll(image, shift, (0, 1)) - digit).mean())
        )
    assert offsets.count((0, 0)) > 0.75 * len(offsets)


def test_the_box_is_where_the_digit_is() -> None:
    assert preprocess(seven()).box == (0.2, 0.3, 0.8, 0.7)


@pytest.mark.parametrize(
    ("picture", "problem"),
    [
        (np.zeros((40, 40)), "empty"),
        (np.full((40, 40), 137), "empty"),
        (np.full((1, 1), 3), "empty"),
        (np.random.default_rng(1).normal(128, 8, (80, 80)).clip(0, 255), "empty"),
        (255.0 * (np.hypot(*np.mgrid[-50:50, -50:50]) < 22), "blot"),
    ],
)
def test_no_digit(picture: NDArray[np.float64], problem: str) -> None:
    preprocessed = preprocess(picture)
    assert preprocessed.image is None
    assert preprocessed.problem.startswith("no digit found")
    assert problem in preprocessed.problem


def test_specks_are_dropped_and_large_pieces_kept() -> None:
    speckled = seven()
    speckled[95, 5] = speckled[3:5, 90] = 255
    assert np.array_equal(image_of(speckled), image_of(seven()))
    split = seven()
    split[48:52] = 0  # a pen that was lifted
    rows = np.flatnonzero(image_of(split).any(axis=1))
    assert rows[-1] - rows[0] + 1 == 20


def test_unusual_strokes_become_usual() -> None:
    usual = (image_of(seven()) > 127).sum()
    thin, thick = image_of(seven(width=2)), image_of(seven(width=16))
    assert 0.6 * usual < (thin > 127).sum() < 1.5 * usual
    assert 0.6 * usual < (thick > 127).sum() < 1.9 * usual


@pytest.mark.parametrize(
    "picture",
    [np.zeros((2, 3, 4)), np.zeros((0, 5)), np.full((4, 4), np.nan), np.full((4, 4), 300)],
)
def test_other_arrays_are_rejected(picture: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="picture: expected"):
        preprocess(picture)


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3)])
def test_fractions_of_white_are_refused(shape: tuple[int, ...]) -> None:
    """As bytes they would all be 0, and the picture empty."""
    for picture in (seven() / 255, np.round(seven() / 255)):
        with pytest.raises(ValueError, match="found fractions of 1; multiply them by 255"):
            prepare(picture, shape)
    assert prepare(np.zeros((5, 5)), (28, 28)).problem == "no digit found: the picture is empty"


def test_drawings_cost_little(digits: Digits, trained: Recognizer) -> None:
    images, labels = digits

    def wrong(pictures: list[NDArray[np.uint8]]) -> float:
        answers = trained.read(list(pictures))
        return float(np.mean([a.digit != n for a, n in zip(answers, labels, strict=True)]))

    random = np.random.default_rng(1)
    large = [np.asarray(Image.fromarray(each).resize((70, 70))) for each in images]
    moved = []
    for each in large:
        canvas = np.full((160, 160), 200, np.uint8)
        top, left = random.integers(0, 90, 2)
        canvas[top : top + 70, left : left + 70] -= (each * 0.6).astype(np.uint8)
        moved.append(canvas)
    plain = float((trained.probabilities(images).argmax(axis=1) != labels).mean())
    naive = np.stack([np.asarray(Image.fromarray(each).resize((28, 28))) for each in moved])
    assert (trained.probabilities(naive).argmax(axis=1) != labels).mean() > 0.6
    assert wrong(moved) <= plain + 0.03  # it was trained without augmentation
