"""Parameters: one vector, and arrays that are views into it."""

import numpy as np
import pytest

from harness.nn.parameters import Parameters

SHAPES = {
    "layer1.weights": (4, 3), "layer1.bias": (3,), "layer2.weights": (3, 2), "layer2.bias": (2,)
}  # fmt: skip


def test_arrays_are_views_in_order() -> None:
    parameters = Parameters.zeros(SHAPES)
    assert parameters.flat.shape == (23,)
    assert parameters.flat.dtype == np.float32
    parameters.flat[:] = np.arange(23)
    assert list(parameters.arrays) == list(SHAPES)
    np.testing.assert_array_equal(parameters.arrays["layer1.bias"], [12, 13, 14])
    parameters.arrays["layer2.bias"][:] = -1
    np.testing.assert_array_equal(parameters.flat[-2:], [-1, -1])


def test_weights_are_the_arrays_of_two_or_more_dimensions() -> None:
    first, second = Parameters.zeros(SHAPES).weights
    assert (first.shape, second.shape) == ((4, 3), (3, 2))


def test_zeros_like_has_the_layout_and_the_dtype() -> None:
    parameters = Parameters(SHAPES, np.ones(23))
    state = parameters.zeros_like()
    assert state.shapes == SHAPES
    assert state.flat.dtype == np.float64
    assert not state.flat.any()


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(AssertionError):
        Parameters(SHAPES, np.zeros(24))


def test_flat_is_changed_in_place_only() -> None:
    """The network has views of it, and would not see another array."""
    parameters = Parameters.zeros({"a": (2, 3), "b": (3,)})
    parameters.flat -= 1
    assert (parameters.arrays["a"] == -1).all()
    with pytest.raises(AttributeError, match=r"change it in place: flat\[:\] = "):
        parameters.flat = parameters.flat - 1
    assert (parameters.flat == -1).all()
