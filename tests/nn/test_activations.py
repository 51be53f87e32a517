"""Activations: values against their definitions, derivatives against central differences."""

import math

import numpy as np
import pytest

from harness.nn.activations import ACTIVATIONS

# Away from 0, where relu has no derivative.
Z = np.array([-300.0, -5, -1.5, -0.1, 0.1, 0.7, 3, 300])
DEFINITIONS = {
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "tanh": math.tanh,
    "relu": lambda z: max(z, 0.0),
}


def forward(name: str, z: np.ndarray) -> np.ndarray:
    a = z.copy()
    ACTIVATIONS[name].forward(a)
    return a


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values(name: str) -> None:
    np.testing.assert_allclose(
        forward(name, Z), [DEFINITIONS[name](z) for z in Z], rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivative(name: str) -> None:
    z, step = Z[1:-1], 1e-6
    numeric = (forward(name, z + step) - forward(name, z - step)) / (2 * step)
    grad = np.full_like(z, 3.0)
    ACTIVATIONS[name].backward(forward(name, z), grad, np.empty_like(z))
    np.testing.assert_allclose(grad, 3 * numeric, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_extremes_do_not_overflow(name: str) -> None:
    z = np.array([-3e38, 3e38], np.float32)
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(forward(name, z)).all()


def test_relu_has_no_slope_at_zero() -> None:
    grad = np.ones(1)
    ACTIVATIONS["relu"].backward(np.zeros(1), grad, np.empty(1))
    assert grad == 0
