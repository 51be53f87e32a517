"""Models: layers, initial weights, parameter counts, and whole networks' derivatives."""

from typing import Any

import numpy as np
import pytest

from harness.nn.activations import ACTIVATIONS
from harness.nn.convolution import Conv2D
from harness.nn.layers import Activate, Dense
from harness.nn.losses import CrossEntropy, SquaredError
from harness.nn.models import MODELS, conv, mlp
from harness.nn.network import Network
from harness.nn.parameters import Shape
from tests.nn.differences import check_network, moved


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("width", [(), (4,), (4, 6), (7, 4, 6)])
def test_mlp_against_central_differences(activation: str, width: tuple[int, ...]) -> None:
    generator = np.random.default_rng(11)
    layers = mlp((5,), 3, width=width, activation=ACTIVATIONS[activation]())
    network = moved(Network.create(layers, 5, generator, np.float64), generator)
    targets = np.eye(3)[generator.integers(0, 3, 6)]
    check_network(network, generator.normal(size=(6, 5)), targets, CrossEntropy())


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("shape", [(8, 7), (8, 7, 2)])
def test_conv_against_central_differences(activation: str, shape: tuple[int, ...]) -> None:
    generator, inputs = np.random.default_rng(11), int(np.prod(shape))
    layers = conv(
        shape, 3, channels=(2, 3), kernel=2, width=4, activation=ACTIVATIONS[activation]()
    )
    network = moved(Network.create(layers, inputs, generator, np.float64), generator)
    targets = generator.normal(size=(3, 3))
    check_network(network, generator.normal(size=(3, inputs)), targets, SquaredError())


def test_dropout_with_a_fixed_mask_against_central_differences() -> None:
    """Both hidden layers dropped by the same masks in every forward pass."""
    generator = np.random.default_rng(6)
    network = moved(
        Network.create(mlp((6,), 3, width=(8, 7), dropout=0.4), 6, generator, np.float64),
        generator,
    )
    network.draw(5, generator)
    targets = np.eye(3)[generator.integers(0, 3, 5)]
    check_network(network, generator.normal(size=(5, 6)), targets, CrossEntropy(), training=True)


@pytest.mark.parametrize(
    ("activation", "variance"), [("sigmoid", 2 / 600), ("tanh", 2 / 600), ("relu", 2 / 400)]
)
def test_initial_weights(activation: str, variance: float) -> None:
    """The activation chooses those of the hidden layers; the outputs have Glorot's."""
    layers = mlp((20, 20), 10, width=200, activation=ACTIVATIONS[activation]())
    network = Network.create(layers, 400, np.random.default_rng(0))
    hidden, _, last, _ = network.parameters.arrays.values()
    assert hidden.var() == pytest.approx(variance, rel=0.02)
    assert last.var() == pytest.approx(2 / 210, rel=0.1)


def test_parameter_counts() -> None:
    def count(*width: int) -> int:
        return len(Network(mlp((28, 28), 10, width=width), 784).parameters.flat)

    assert count(128) == 784 * 128 + 128 + 128 * 10 + 10 == 101_770
    assert count(512, 256) == 535_818


def test_width_is_one_number_or_a_list() -> None:
    def widths(**keys) -> list[int]:
        return [layer.outputs for layer in mlp((4,), 2, **keys) if isinstance(layer, Dense)]

    assert widths(width=5, depth=3) == [5, 5, 5, 2]
    assert widths(width=[5, 6]) == [5, 6, 2]
    assert widths(width=(units for units in (5, 6))) == [5, 6, 2]


def test_every_network_has_layers_of_its_own() -> None:
    for make in MODELS.values():
        first, second = (make((6, 6), 2) for _ in "12")
        assert not set(map(id, first)) & set(map(id, second))
        assert any(isinstance(layer, Activate) for layer in first)


def test_conv_refuses_what_is_no_image() -> None:
    with pytest.raises(ValueError, match=r"^expected images .* found .*\(4,\); use mod"):
        conv((4,), 3)


def test_conv_with_a_kernel_and_a_pool_for_each_convolution() -> None:
    layers = conv((9, 9), 3, channels=(2, 3), kernel=(4, 3), pool=[1, 2])
    shapes: list[Shape] = []
    shape: Shape = (81,)
    for layer in layers:
        shape = layer.build(shape)
        shapes.append(shape)
    assert shapes[1:6] == [(6, 6, 2), (6, 6, 2), (4, 4, 3), (4, 4, 3), (2, 2, 3)]
    same = conv((9, 9), 3, channels=(2, 3), kernel=(3, 3), pool=(2, 2))
    assert list(map(type, same)) == list(map(type, conv((9, 9), 3, channels=(2, 3))))
    words = r"=\[1, 2, 1\]: expected one number, or one for each of the 2 convolutions"
    with pytest.raises(ValueError, match="kernel" + words):
        conv((9, 9), 3, channels=(2, 3), kernel=(1, 2, 1))
    with pytest.raises(ValueError, match="pool" + words):
        conv((9, 9), 3, channels=(2, 3), pool=(1, 2, 1))


def test_conv_takes_the_numbers_of_numpy() -> None:
    def sizes(**keys: Any) -> list[int]:
        return [vars(layer).get("kernel", vars(layer).get("size", 0))
                for layer in conv((9, 9), 3, channels=np.array([2, 3]), **keys)]  # fmt: skip

    assert sizes(kernel=np.int64(2), pool=np.int64(2)) == sizes(kernel=2, pool=2)
    assert sizes(kernel=np.array([2, 3])) == sizes(kernel=(2, 3))


@pytest.mark.parametrize("size", [0, 1.5, "3", None])
def test_a_kernel_or_a_pool_that_is_not_allowed_is_named(size: Any) -> None:
    for layer, name, key in (("Conv2D", "kernel", "kernel"), ("MaxPool2D", "size", "pool")):
        with pytest.raises(ValueError, match=f"{layer}: {name}={size!r}: expected a whole number"):
            conv((9, 9), 3, **{key: size})


@pytest.mark.parametrize("width", [0, -1, 1.5, True, "ab", [4, 0], None])
def test_a_width_that_is_not_allowed_is_named(width: Any) -> None:
    with pytest.raises(ValueError, match=r"mlp: width=.*: expected whole numbers of at least 1"):
        mlp((4,), 2, width=width)


@pytest.mark.parametrize("depth", [-1, 1.5, None])
def test_a_depth_that_is_not_allowed_is_named(depth: Any) -> None:
    with pytest.raises(ValueError, match=rf"mlp: depth={depth}: expected a whole number"):
        mlp((4,), 2, depth=depth)


@pytest.mark.parametrize("outputs", [0, 2.5, "2"])
def test_outputs_that_are_not_allowed_are_named(outputs: Any) -> None:
    with pytest.raises(ValueError, match=rf"Dense: outputs={outputs!r}: expected a whole number"):
        mlp((4,), outputs)


def test_an_unknown_initialization_is_named() -> None:
    for layer in (Dense, Conv2D):
        with pytest.raises(
            ValueError, match=rf"{layer.__name__}: .*='xavier': .* 'glorot' or 'he'"
        ):
            layer(3, initialization="xavier")
