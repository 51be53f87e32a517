"""A network, its data and its optimizer belong together, or nothing is trained."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.data import normalization
from harness.data.dataset import Dataset
from harness.nn.models import mlp
from harness.nn.network import Network
from harness.nn.optimizers import OPTIMIZERS, SGD
from harness.training.options import Options
from harness.training.trainer import train

GENERATOR = np.random.default_rng(1)
X = GENERATOR.normal(size=(40, 6)).astype(np.float32)
DATA = Dataset.from_arrays(X, np.arange(40) % 3, x_test=X, y_test=np.arange(40) % 3, num_val=10)


def network(inputs: int = 6, outputs: int = 3) -> Network:
    return Network.create(mlp((inputs,), outputs, width=4), inputs, np.random.default_rng(1))


def run(net: Network, optimizer: Any) -> None:
    fitted = normalization.fit("standard", DATA.train.inputs)
    train(net, DATA, optimizer, fitted, Options(batch=5, lr=0.1, epochs=1))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_of_another_network_is_refused(name: str) -> None:
    ours, other = network(), network()
    with pytest.raises(ValueError, match=r"optimizer: .* made for this network, such as \w+\(netw"):
        run(ours, OPTIMIZERS[name](other.parameters))
    before = ours.parameters.flat.copy()
    run(ours, OPTIMIZERS[name](ours.parameters))
    assert not np.array_equal(ours.parameters.flat, before)


def test_an_optimizer_of_the_user_may_hold_what_it_likes() -> None:
    class Plain:
        __slots__ = ("flat",)

        def __init__(self, parameters: Any) -> None:
            self.flat = parameters.flat

        state: dict[str, Any] = {}  # noqa: RUF012  # one for all

        def step(self, gradient: Any, lr: float) -> None:
            self.flat -= lr * gradient.into(np.empty_like(self.flat))

    net = network()
    before = net.parameters.flat.copy()
    run(net, Plain(net.parameters))
    assert not np.array_equal(net.parameters.flat, before)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [(5, 3, "expected 6 inputs, .* found 5"), (6, 4, "expected 3 outputs, .* found 4")],
)
def test_a_network_for_other_data_is_refused(inputs: int, outputs: int, message: str) -> None:
    net = network(inputs, outputs)
    with pytest.raises(ValueError, match=f"network: {message}"):
        run(net, SGD(net.parameters))


def test_a_score_is_not_minimized() -> None:
    net = network()
    options = Options(batch=5, lr=0.1, epochs=1, objective="val/accuracy")
    fitted = normalization.fit("standard", DATA.train.inputs)
    with pytest.raises(ValueError, match=r"objective='val/accuracy': .* maximize=True"):
        train(net, DATA, SGD(net.parameters), fitted, options)
    with pytest.raises(ValueError, match=r"=val/accuracy: not recorded"):
        train(net, DATA, SGD(net.parameters), fitted, replace(options, maximize=False))
