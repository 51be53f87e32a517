"""Normalizations against NumPy's own float64 arithmetic."""

import numpy as np
import pytest

from harness.data import normalization

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
