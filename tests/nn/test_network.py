"""The network: a step worked by hand, a naive epoch, its vector, and what it refuses."""

import numpy as np
import pytest

from harness.nn.activations import ACTIVATIONS
from harness.nn.layers import Activate, Chain, Dense, Layer
from harness.nn.losses import CrossEntropy
from harness.nn.models import mlp
from harness.nn.network import Network
from harness.nn.optimizers import SGD


def test_a_step_worked_by_hand() -> None:
    """One example x = (1, 0) of class 0 through 2-2-2, all weights 0 but W2 = identity.

    Both hidden units are sigmoid(0) = 1/2, both logits 1/2, so p = (1/2, 1/2) and
    delta2 = (-1/2, 1/2). delta1 = delta2 W2^T * 1/2 * 1/2 = (-1/8, 1/8). With lr = 1:
    W2 -= (1/2, 1/2)^T delta2 = [[-1/4, 1/4], [-1/4, 1/4]];  W1 -= (1, 0)^T delta1.
    """
    network = Network(mlp((2,), 2, width=2), 2, np.float64)
    w1, b1, w2, b2 = network.parameters.arrays.values()
    w2[:] = np.eye(2)
    targets, delta = np.array([[1.0, 0.0]]), np.empty((1, 2))
    logits = network.forward(np.array([[1.0, 0.0]]))
    CrossEntropy().gradient(logits, targets, delta)
    SGD(network.parameters).step(network.backward(delta), lr=1.0)
    np.testing.assert_allclose(logits, [[0.5, 0.5]])
    np.testing.assert_allclose(w2, [[1.25, -0.25], [0.25, 0.75]])
    np.testing.assert_allclose(b2, [0.5, -0.5])
    np.testing.assert_allclose(w1, [[0.125, -0.125], [0, 0]])
    np.testing.assert_allclose(b1, [0.125, -0.125])


def test_a_naive_epoch_agrees() -> None:
    """Batched float32 training against loops over single examples in float64."""
    generator = np.random.default_rng(2)
    inputs = generator.normal(size=(20, 6))
    labels = generator.integers(0, 3, 20)
    network = Network.create(mlp((6,), 3, width=5, activation=ACTIVATIONS["tanh"]()), 6, generator)
    w1, b1, w2, b2 = (array.astype(float) for array in network.parameters.arrays.values())
    optimizer, loss = SGD(network.parameters), CrossEntropy()
    small = inputs.astype(np.float32)
    for begin in range(0, 20, 8):  # the last batch has 4
        x, y = small[begin : begin + 8], labels[begin : begin + 8]
        delta = np.empty((len(x), 3), np.float32)
        loss.gradient(network.forward(x), np.eye(3, dtype=np.float32)[y], delta)
        optimizer.step(network.backward(delta), 0.5)
        sums = [np.zeros_like(p) for p in (w1, b1, w2, b2)]
        for example, label in zip(inputs[begin : begin + 8], y, strict=True):
            h = np.tanh(example @ w1 + b1)
            z = h @ w2 + b2
            delta2 = np.exp(z) / np.exp(z).sum() - np.eye(3)[label]
            delta1 = (w2 @ delta2) * (1 - h**2)
            parts = (np.outer(example, delta1), delta1, np.outer(h, delta2), delta2)
            sums = [s + p for s, p in zip(sums, parts, strict=True)]
        w1, b1, w2, b2 = (p - 0.5 * s / len(x) for p, s in zip((w1, b1, w2, b2), sums, strict=True))
    expected = np.concatenate([p.ravel() for p in (w1, b1, w2, b2)])
    np.testing.assert_allclose(network.parameters.flat, expected, rtol=1e-4, atol=1e-6)


def test_parameters_are_attributes_of_the_layers_and_views_into_one_vector() -> None:
    first, second = Dense(3), Dense(2)
    network = Network([Chain(first, Activate(ACTIVATIONS["relu"]())), second], 4)
    assert list(network.parameters.arrays) == [
        "layer1.weights", "layer1.bias", "layer2.weights", "layer2.bias",
    ]  # fmt: skip
    network.parameters.flat[:] = 1
    assert (first.weights == 1).all()
    assert (second.bias == 1).all()
    assert network.hidden_weights[0] is first.weights
    assert len(network.hidden_weights) == 1


def test_a_gradient_is_written_where_and_times_what_the_optimizer_says() -> None:
    generator = np.random.default_rng(1)
    network = Network.create(mlp((5,), 3, width=4), 5, generator)
    network.forward(generator.random((6, 5), np.float32))
    gradient = network.backward(generator.random((6, 3), np.float32))
    plain = gradient.into(np.empty_like(network.parameters.flat))
    other = np.full_like(plain, np.nan)
    assert gradient.into(other, -0.5) is other
    np.testing.assert_allclose(other, -0.5 * plain, rtol=1e-5)
    again = gradient.into(np.empty_like(plain))
    np.testing.assert_array_equal(again, plain)


def test_other_parameters_for_a_while() -> None:
    network = Network.create(mlp((5,), 3, width=4), 5, np.random.default_rng(1))
    own = network.parameters.flat.copy()

    def interrupted() -> None:
        with network.holding(np.zeros_like(own)):
            assert not network.forward(np.ones((1, 5), np.float32)).any()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    np.testing.assert_array_equal(network.parameters.flat, own)


class Wrong(Layer):
    """Returns what it is told to."""

    def __init__(self, up, down):
        self.up, self.down = up, down

    def forward(self, inputs, training):
        return self.up(inputs)

    def backward(self, delta):
        return self.down(delta)


def same(values: np.ndarray) -> np.ndarray:
    return values


class Unwritten(Dense):
    """Returns its gradient instead of writing it."""

    def gradient(self, delta, out):
        return {"weights": self._inputs.T @ delta}


class Swish:
    """Returns its results instead of writing them, above or below."""

    initialization, needs_input = "he", True

    def __init__(self, writes: bool) -> None:
        self.writes = writes

    def forward(self, z, out):
        out[:] = z / (1 + np.exp(-z)) if self.writes else out

    def derivative(self, z, a, out):
        return 1 / (1 + np.exp(-z))


class Spoiled:
    """Writes its results into z as well."""

    initialization, needs_input = "he", True

    def forward(self, z, out):
        np.square(z, out=z)
        out[:] = z

    def derivative(self, z, a, out):
        out[:] = z


class Squares(Spoiled):
    """Writes into what it wrote before."""

    def forward(self, z, out):
        np.tanh(z, out=out)

    def derivative(self, z, a, out):
        np.square(a, out=a)
        np.subtract(1, a, out=out)


class Replaced(Dense):
    """Replaces an array of its parameters where it should write into it."""

    def initialize(self, generator):
        self.weights = np.ones(self.weights.shape, np.float32)


TWICE = Dense(3)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Wrong(lambda x: x[:, 1:], same), Dense(2)],
         r"layer 1: expected Wrong.forward to return an array \(3, 4\) of float32, found \(3, 3\)"),
        ([Wrong(lambda x: x[:2], same), Dense(2)],
         r"layer 1: expected Wrong.forward to return an array \(3, 4\) of float32, found \(2, 4\)"),
        ([Dense(4), Wrong(lambda x: np.multiply(x, 2, out=x), same)],
         "layer 2: Wrong.forward must not modify its argument; modify a copy"),
        ([Dense(4), Wrong(same, lambda d: np.multiply(d, 2, out=d))],
         "layer 2: Wrong.backward must not modify its argument; modify a copy"),
        ([Dense(2), Activate(Spoiled())], "layer 2: Spoiled: must not modify z"),
        ([Dense(2), Activate(Squares())],
         "layer 2: Squares.derivative: must not modify a; modify a copy"),
        ([Dense(4), Wrong(lambda x: x.astype(float), same)],
         r"layer 2: expected Wrong.forward .* found \(3, 4\) of float64"),
        ([Dense(4), Wrong(same, lambda d: None)],
         r"layer 2: expected Wrong.backward to return .* found NoneType"),
        ([Unwritten(2)], r"Unwritten.gradient: expected it to write to out\['weights'\], which"),
        ([Dense(2), Activate(Swish(False))],
         r"layer 2: Swish.forward\(z, out\): expected it to write to `out`, but `out` is un"),
        ([Dense(2), Activate(Swish(True))], r"layer 2: Swish.derivative\(z, a, out\): expected it"),
        ([TWICE, TWICE], "Dense: expected a layer that is used once"),
        ([Chain()], r"network: expected a layer with parameters, .* found Chain"),
        ([], "network: expected a layer with parameters"),
    ],
)  # fmt: skip
def test_a_layer_that_does_not_fit_is_refused_in_one_line(
    layers: list[Layer], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Network(layers, 4)
    assert "\n" not in str(caught.value)


def test_a_layer_that_replaces_a_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match="Replaced: weights was replaced by another array"):
        Network.create([Dense(3), Replaced(2)], 4, np.random.default_rng(1))


def test_predict_takes_examples_of_any_shape() -> None:
    network = Network.create(mlp((2, 3), 4, width=5), 6, np.random.default_rng(1))
    inputs = np.random.default_rng(2).normal(size=(7, 2, 3)).astype(np.float32)
    outputs = network.predict(inputs, batch=3)
    assert outputs.shape == (7, 4)
    np.testing.assert_array_equal(outputs, network.predict(inputs.reshape(7, 6), batch=3))
    with pytest.raises(ValueError, match="expected examples of 6 numbers, found 9 in each"):
        network.predict(np.zeros((7, 3, 3), np.float32))
