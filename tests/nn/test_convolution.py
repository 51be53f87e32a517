"""Convolution and pooling: against plain loops, and against central differences."""

import numpy as np
import pytest

from harness.nn import convolution
from harness.nn.activations import ACTIVATIONS
from harness.nn.convolution import Conv2D, Flatten, MaxPool2D, Reshape
from harness.nn.layers import Activate, Dense, Layer
from harness.nn.losses import SquaredError
from harness.nn.network import Network
from tests.nn.differences import check_network, moved


def convolved(image: np.ndarray, layer: Conv2D) -> np.ndarray:
    """One image (R, S, C), by the definition."""
    k = layer.kernel
    kernel = layer.weights.reshape(k, k, image.shape[2], layer.channels)
    rows, columns = image.shape[0] - k + 1, image.shape[1] - k + 1
    out = np.empty((rows, columns, layer.channels))
    for p, q, o in np.ndindex(*out.shape):
        out[p, q, o] = (image[p : p + k, q : q + k] * kernel[..., o]).sum() + layer.bias[o]
    return out


@pytest.mark.parametrize(
    ("kernel", "padding"),
    [(1, "valid"), (2, "valid"), (3, "valid"), (1, "same"), (3, "same"), (5, "same")],
)
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_a_convolution_against_its_definition(
    kernel: int, padding: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "CHUNK_BYTES", chunk)
    generator, layer = np.random.default_rng(1), Conv2D(3, kernel, padding=padding)
    network = Network.create(
        [Reshape(6, 5, 2), layer, Flatten(), Dense(1)], 60, generator, np.float64
    )
    moved(network, generator)
    images = generator.normal(size=(4, 6, 5, 2))
    network.forward(images.reshape(4, 60))
    frame = (kernel - 1) // 2 if padding == "same" else 0
    framed = np.pad(images, ((0, 0), (frame, frame), (frame, frame), (0, 0)))
    expected = [convolved(image, layer) for image in framed]
    np.testing.assert_allclose(layer.forward(images, False), expected, rtol=1e-12, atol=1e-12)


STACKS: dict[str, list] = {
    "valid": [lambda: Conv2D(3, 3)],
    "same": [lambda: Conv2D(3, 3, padding="same")],
    "even": [lambda: Conv2D(2, 2)],
    "two": [lambda: Conv2D(3, 2), lambda: Activate(ACTIVATIONS["tanh"]()), lambda: Conv2D(2, 3)],
    "pool": [lambda: MaxPool2D(2), lambda: Conv2D(2, 2)],
    "pool of three": [lambda: Conv2D(3, 1), lambda: MaxPool2D(3)],
    "all": [lambda: Conv2D(3, 2), lambda: Activate(ACTIVATIONS["gelu"]()), lambda: MaxPool2D(2)],
}


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_every_derivative_against_central_differences(
    name: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one piece and example by example; rows and columns that pooling leaves over included."""
    monkeypatch.setattr(convolution, "CHUNK_BYTES", chunk)
    generator = np.random.default_rng(2)
    stack: list[Layer] = [Reshape(7, 5, 2), *[make() for make in STACKS[name]], Flatten(), Dense(2)]
    network = moved(Network.create(stack, 70, generator, np.float64), generator)
    inputs, targets = generator.normal(size=(3, 70)), generator.normal(size=(3, 2))
    check_network(network, inputs, targets, SquaredError())


def test_pooling_by_hand() -> None:
    pool = MaxPool2D(2)
    pool.dtype = np.dtype(np.float64)
    assert pool.build((3, 4, 1)) == (1, 2, 1)
    image = np.array([[1.0, 5, 2, 2], [7, 0, 2, 1], [9, 9, 9, 9]]).reshape(1, 3, 4, 1)
    np.testing.assert_array_equal(pool.forward(image, False).ravel(), [7, 2])
    below = pool.backward(np.array([10.0, 20.0]).reshape(1, 1, 2, 1))
    # Of the three twos the first counts; the third row belongs to no window.
    np.testing.assert_array_equal(below[0, :, :, 0], [[0, 0, 20, 0], [10, 0, 0, 0], [0, 0, 0, 0]])


def test_initial_weights_go_by_the_size_of_the_kernel() -> None:
    layer = Conv2D(40, 5, initialization="he")
    Network.create([Reshape(9, 9, 8), layer, Flatten(), Dense(1)], 648, np.random.default_rng(0))
    assert layer.weights.shape == (200, 40)
    assert layer.weights.var() == pytest.approx(2 / 200, rel=0.05)
    layer = Conv2D(40, 5)
    Network.create([Reshape(9, 9, 8), layer, Flatten(), Dense(1)], 648, np.random.default_rng(0))
    assert layer.weights.var() == pytest.approx(2 / (200 + 1000), rel=0.05)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Network([Conv2D(2), Flatten(), Dense(1)], 9),
         r"layer 1: Conv2D: expected images .* found .*\(9,\); put Reshape"),
        (lambda: Network([Reshape(2, 9, 1), Conv2D(2, 3), Flatten(), Dense(1)], 18),
         "layer 2: Conv2D: expected images of at least 3x3 for kernel=3, found 2x9"),
        (lambda: Conv2D(2, 3, padding="full"), "padding='full': expected 'valid' or 'same'"),
        (lambda: Conv2D(2, 2, padding="same"), "kernel=2: padding='same' expects an odd kernel"),
        (lambda: Conv2D(0), "Conv2D: channels=0: expected a whole number of at least 1"),
        (lambda: Conv2D(2, -1), "Conv2D: kernel=-1: expected a whole number of at least 1"),
        (lambda: MaxPool2D(0), "MaxPool2D: size=0: expected a whole number of at least 1"),
        (lambda: Network([Reshape(3, 1, 1), MaxPool2D(2), Flatten(), Dense(1)], 3),
         r"layer 2: MaxPool2D: expected images .* of at least 2x2, found \(3, 1, 1\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(made, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made()
