"""Activations: values against their definitions, derivatives against central differences."""

import math

import numpy as np
import pytest

from harness.nn.activations import ACTIVATIONS

# Away from 0, where rectifiers have no derivative.
Z = np.array([-300.0, -20, -5, -1.5, -0.1, 0.1, 0.7, 3, 20, 300])
C = math.sqrt(2 / math.pi)
DEFINITIONS = {
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "tanh": math.tanh,
    "relu": lambda z: max(z, 0.0),
    "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
    "gelu": lambda z: 0.5 * z * (1 + math.tanh(C * (z + 0.044715 * z**3))),
    "silu": lambda z: z / (1 + math.exp(-z)),
}


def forward(name: str, z: np.ndarray) -> np.ndarray:
    a = np.empty_like(z)
    ACTIVATIONS[name]().forward(z, a)
    return a


def derivative(name: str, z: np.ndarray) -> np.ndarray:
    """As a layer calls it: z is there only for those that need it."""
    activation, out = ACTIVATIONS[name](), np.empty_like(z)
    activation.derivative(z if activation.needs_input else None, forward(name, z), out)
    return out


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values(name: str) -> None:
    np.testing.assert_allclose(
        forward(name, Z), [DEFINITIONS[name](z) for z in Z], rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivative(name: str) -> None:
    z, step = Z[1:-1].reshape(2, 4), 1e-6
    numeric = (forward(name, z + step) - forward(name, z - step)) / (2 * step)
    np.testing.assert_allclose(derivative(name, z), numeric, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_extremes_do_not_overflow(name: str) -> None:
    z = np.array([-3e38, 3e38], np.float32)
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(forward(name, z)).all()
        assert np.isfinite(derivative(name, z)).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_stays_nan(name: str) -> None:
    """A diverged training shows in its loss."""
    assert np.isnan(forward(name, np.array([np.nan], np.float32))).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_inputs_are_not_changed_and_every_size_fits(name: str) -> None:
    activation = ACTIVATIONS[name]()
    for size in (7, 3, 8):
        z = np.linspace(-2, 2, size, dtype=np.float32)
        kept, a = z.copy(), np.empty_like(z)
        activation.forward(z, a)
        np.testing.assert_allclose(a, forward(name, kept.astype(np.float64)), rtol=1e-5, atol=1e-6)
        was = a.copy()
        activation.derivative(z, a, np.empty_like(z))
        np.testing.assert_array_equal(z, kept)
        np.testing.assert_array_equal(a, was)


def test_relu_has_no_slope_at_zero() -> None:
    assert derivative("relu", np.zeros(1)) == 0


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_the_slope_of_leaky_relu(slope: float) -> None:
    activation, out = ACTIVATIONS["leaky_relu"](slope=slope), np.empty(3)
    activation.forward(np.array([-2.0, 0.0, 2.0]), out)
    np.testing.assert_array_equal(out, [-2 * slope, 0, 2])
    activation.derivative(None, out.copy(), out)
    np.testing.assert_array_equal(out, [slope, slope, 1])


def test_gelu_is_close_to_its_exact_definition() -> None:
    z = np.linspace(-6, 6, 1001)
    exact = [x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in z]
    assert np.abs(forward("gelu", z) - exact).max() < 5e-4
