"""Normalizations against NumPy's own float64 arithmetic."""

from typing import Any

import numpy as np
import pytest

from harness.data import normalization
from harness.data.normalization import Affine, Standard

PIXELS = np.arange(256, dtype=np.uint8)


def applied(name: str) -> np.ndarray:
    out = np.empty(256, np.float32)
    normalization.fit(name, PIXELS.reshape(1, -1)).apply(PIXELS, out)
    return out


@pytest.mark.parametrize(
    ("name", "low", "high"), [("minmax", -1, 1), ("unit", 0, 1), ("none", 0, 255)]
)
def test_ends_are_exact(name: str, low: float, high: float) -> None:
    out = applied(name)
    assert out[0] == low
    assert out[255] == pytest.approx(high, abs=1e-6)
    np.testing.assert_allclose(out, np.linspace(low, high, 256), rtol=1e-6, atol=1e-6)


def test_standard_is_fitted_on_the_given_rows_only() -> None:
    images = np.random.default_rng(1).integers(0, 256, (9000, 12)).astype(np.uint8)
    rows = np.flatnonzero(np.arange(9000) % 3 == 0)
    images[np.arange(9000) % 3 != 0] = 255
    fitted = normalization.fit("standard", images, rows)
    truth = images[rows].astype(np.float64)
    assert fitted.scale == pytest.approx(1 / truth.std(), rel=1e-12)
    assert fitted.shift == pytest.approx(-truth.mean() / truth.std(), rel=1e-12)
    out = np.empty(images[rows].shape, np.float32)
    fitted.apply(images[rows], out)
    assert out.mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
    assert out.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="did you mean 'minmax'"):
        normalization.fit("minmx", PIXELS.reshape(1, -1))
    with pytest.raises(ValueError, match="every training pixel is 7"):
        normalization.fit("standard", np.full((3, 4), 7, np.uint8))
    for name in ("minmax", "unit", "standard"):
        with pytest.raises(ValueError, match=r"every training value is 7.* use normalization=none"):
            normalization.fit(name, np.full((3, 4), 7, np.float32))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "low", "high"), [("minmax", -1.0, 1.0), ("unit", 0.0, 1.0), ("none", -3.0, 9.0)]
)
def test_other_numbers_use_the_range_of_the_training_part(
    kind: type, name: str, low: float, high: float
) -> None:
    inputs = np.array([[-3, 1], [9, 2], [100, -100]], kind)
    out = np.empty((3, 2), np.float32)
    normalization.fit(name, inputs, np.array([0, 1], np.uint32)).apply(inputs, out)
    assert (out[0, 0], out[1, 0]) == (pytest.approx(low), pytest.approx(high))
    expected = low + (inputs + 3) * (high - low) / 12
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_standard_of_other_numbers(kind: type) -> None:
    inputs = np.random.default_rng(1).normal(1000, 0.5, (9000, 5)).astype(kind)
    rows = np.arange(0, 9000, 2, dtype=np.uint32)
    fitted = normalization.fit("standard", inputs, rows)
    truth = inputs[rows].astype(np.float64)
    assert isinstance(fitted, Affine)
    assert fitted.scale == pytest.approx(1 / truth.std(), rel=1e-9)
    assert fitted.shift == pytest.approx(-truth.mean() / truth.std(), rel=1e-9)


def test_float64_is_normalized_before_it_is_rounded() -> None:
    """float32 has steps of 64 at 1e9; the values are 0.25 apart."""
    inputs = 1e9 + np.arange(9)[:, None] / 4
    out = np.empty((9, 1), np.float32)
    normalization.fit("unit", inputs).apply(inputs, out)
    np.testing.assert_allclose(out[:, 0], np.arange(9) / 8, atol=1e-6)


@pytest.mark.parametrize("name", normalization.NORMALIZATIONS)
def test_a_restored_state_gives_the_same_bits(name: str) -> None:
    inputs = np.random.default_rng(2).normal(size=(50, 3)).astype(np.float32)
    fitted, again = normalization.fit(name, inputs), normalization.NORMALIZATIONS[name]()
    again.restore({key: array.copy() for key, array in fitted.state.items()})
    outs = [np.empty((50, 3), np.float32) for _ in range(2)]
    for each, out in zip((fitted, again), outs, strict=True):
        each.apply(inputs, out)
    np.testing.assert_array_equal(*outs)
    fitted.apply(outs[1], outs[1])  # in place
    assert np.isfinite(outs[1]).all()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 16, True), (100, 120, True), (200, 255, True), (0, 127, True), (0, 128, False)],
)
def test_a_narrow_range_of_bytes_is_found_anywhere(low: int, high: int, expected: bool) -> None:
    inputs = np.full((2 * normalization.BLOCK, 3), low, np.uint8)
    inputs[-1, -1] = high
    assert normalization.narrow_range(inputs) == ((low, high) if expected else None)
    assert normalization.narrow_range(inputs.astype(np.float32)) is None


class Clipped(Standard):
    """A normalization of the user's that builds on one of the harness."""

    def apply(self, inputs: Any, out: Any) -> None:
        super().apply(inputs, out)
        np.clip(out, -0.5, 0.5, out=out)


def test_a_subclass_of_an_affine_one_is_restored_as_what_it_is() -> None:
    values = np.arange(40, dtype=np.float32).reshape(10, 4)
    fitted = Clipped()
    fitted.fit(values)
    arrays = normalization.state_arrays(fitted)
    assert set(arrays) == {"normalization.scale", "normalization.shift"}
    again = normalization.load({"name": "own:Clipped"}, arrays, {"own:Clipped": Clipped})
    for each in (fitted, again):
        out = np.empty_like(values)
        each.apply(values, out)
        assert out.max() == 0.5


def test_a_range_is_recorded_for_pictures_of_few_values() -> None:
    pixels = np.resize(np.arange(17, dtype=np.uint8), (9, 4))
    assert normalization.recorded_range((2, 2), pixels) == (0, 16)
    assert normalization.recorded_range((2, 2), pixels * 15) is None, "the usual one"
    assert normalization.recorded_range((2, 2), pixels / 16) == (0.0, 1.0)
    assert normalization.recorded_range((4,), pixels / 16) is None, "the columns of a table"


@pytest.mark.parametrize(
    ("known", "values", "expected"),
    [
        ((0, 16), (0, 16), False),
        ((0, 16), (0, 30), False),
        ((0, 16), (0, 255), True),
        ((-1, 1), (0, 2.5), False),
        ((-1, 1), (-3.5, 0), True),
        ((7, 7), (0, 255), False),
    ],
)
def test_values_far_outside_of_a_range(
    known: tuple[int, int], values: tuple[float, float], expected: bool
) -> None:
    assert normalization.is_beyond(known, np.array(values)) is expected
