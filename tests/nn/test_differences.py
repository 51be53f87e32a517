"""Central differences find wrong derivatives of layers and activations, and only those."""

from typing import Any

import numpy as np
import pytest

from harness.nn.activations import ACTIVATIONS, ReLU, SiLU
from harness.nn.convolution import Conv2D, Flatten, MaxPool2D, Reshape
from harness.nn.differences import activation_fault, contradiction, layer_faults
from harness.nn.layers import Activate, Chain, Dense, Dropout, Layer
from harness.nn.network import Network

DTYPES = [np.float64, np.float32]
MIXES = "the outputs of an example depend on the other examples of the batch"


class Scale(Layer):
    """y = g x + x, or what is like it and wrong."""

    def __init__(self, wrong: str = "") -> None:
        self.wrong = wrong

    def build(self, input_shape: Any) -> Any:
        self.shapes = dict.fromkeys(("g", "mean"), input_shape)
        return input_shape

    def forward(self, inputs: Any, training: bool) -> Any:
        self.x = inputs
        if training:
            self.mean += 0.1 * (inputs.mean(axis=0) - self.mean)
        y = inputs * self.g + inputs
        return y - y.mean(axis=0) if self.wrong == "mixes" and not training else y

    def backward(self, delta: Any) -> Any:
        return delta * self.g + (0 if self.wrong == "skip" else delta)

    def gradient(self, delta: Any, out: Any) -> None:
        out["g"][:] = (delta * self.x).sum(axis=0)
        if self.wrong == "gradient":
            out["g"] /= len(delta)
        out["mean"][:] = 0


def faults(layer: Layer, dtype: Any, shape: tuple[int, ...] = (7,)) -> list[str]:
    size = int(np.prod(shape))
    layers = [Dense(size), Reshape(*shape), layer, Flatten(), Dense(2)]
    Network.create(layers, size, np.random.default_rng(1), dtype)
    return list(
        layer_faults(layer, np.random.default_rng(2).normal(size=(4, *shape)).astype(dtype))
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_built_in_activations_have_no_fault(name: str, dtype: Any) -> None:
    assert activation_fault(ACTIVATIONS[name](), np.dtype(dtype)) is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: Dense(5), (7,)),
        (lambda: Activate(ReLU()), (7,)),
        (lambda: Dropout(0.5), (7,)),
        (lambda: Chain(Dense(30), Activate(ReLU()), Dense(30), Activate(SiLU())), (7,)),
        (lambda: Conv2D(3, 3), (6, 6, 2)),
        (lambda: MaxPool2D(2), (6, 6, 2)),
        (lambda: Flatten(), (6, 6, 2)),
        (Scale, (7,)),
    ],
)
def test_right_layers_have_no_fault(layer: Any, shape: tuple[int, ...], dtype: Any) -> None:
    assert faults(layer(), dtype, shape) == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_wrong_derivatives_are_named(dtype: Any) -> None:
    class Flipped(SiLU):
        def derivative(self, z: Any, a: Any, out: Any) -> None:
            super().derivative(z, a, out)
            np.negative(out, out=out)

    class Cut(ReLU):
        """Its slope is wrong where z is below 0."""

        def forward(self, z: Any, out: Any) -> None:
            np.maximum(z, 0.2 * z, out=out)

    dtype = np.dtype(dtype)
    assert activation_fault(Flipped(), dtype) == (
        "derivative is not that of forward, but -1 times it"
    )
    assert activation_fault(Cut(), dtype) is not None
    (found,) = faults(Scale("skip"), dtype)
    assert found.startswith("Scale.backward(delta) is not the derivative of forward: ")
    assert faults(Scale("gradient"), dtype) == [
        "Scale.gradient(delta, out): out['g'] is not the derivative of forward, but 0.25 times it"
    ]
    (found,) = faults(Chain(Dense(5), Scale("gradient")), dtype)
    assert found.startswith("Scale.gradient(delta, out): out['g']")
    (found,) = faults(Scale("mixes"), dtype)
    assert found.startswith(f"Scale.forward(inputs, training=False): {MIXES}")


def test_derivatives_that_are_zero_or_not_finite_say_nothing() -> None:
    for value in (0.0, np.nan):
        assert contradiction(np.full(3, value), np.zeros(3), 0.1) is None
    assert contradiction(np.zeros(3), np.ones(3), 0.1) == ", but 0 times it"
