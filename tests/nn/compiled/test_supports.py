"""What the compiled epoch supports: an allow-list, so that what is new is refused."""

import subprocess
import sys

import pytest

from harness.nn.activations import ACTIVATIONS, ReLU
from harness.nn.compiled.supports import ACTIVATION_CODES, MAX_BATCH, structure, unsupported
from harness.nn.layers import Activate, Dense
from harness.nn.models import conv, mlp
from harness.nn.network import Network

PLAIN = {"hidden": (8,), "activation": "sigmoid", "optimizer": "sgd", "batch": 32, "lr": 0.1}


def test_plain_settings_are_supported() -> None:
    assert unsupported(PLAIN) == {}
    free = {
        "epochs": 3,
        "seed": 2,
        "patience": 4,
        "threads": 2,
        "label_smoothing": 0.1,
        "schedule.warmup": 2,
    }
    assert unsupported(PLAIN | free) == {}
    parts = {"model": "mlp", "loss": "cross_entropy", "normalization": "standard"}
    assert unsupported(PLAIN | parts | {"inputs": "uint8", "ink": 0.2}) == {}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"hidden": (8, 8)}, {"hidden": "one hidden layer"}),
        ({"hidden": ()}, {"hidden": "one hidden layer"}),
        ({"batch": MAX_BATCH + 1}, {"batch": "batch up to 32"}),
        ({"ink": 0.5}, {"ink": "less than 30% of the inputs other than 0"}),
        ({"activation": "gelu"}, {"activation": "activation=sigmoid or tanh or relu"}),
        ({"optimizer": "adam", "optimizer.beta1": 0.9}, {"optimizer": "optimizer=sgd"}),
        ({"optimizer.clip": 1.0}, {"optimizer.clip": "no optimizer.clip"}),
        ({"mixup": 0.2}, {"mixup": "no mixup"}),
        ({"model": "conv"}, {"model": "model=mlp without dropout"}),
        ({"loss": "mine.parts:Focal"}, {"loss": "loss=cross_entropy"}),
        ({"inputs": "float32"}, {"inputs": "labeled uint8 data"}),
        ({"metrics": {"top2_error": abs}}, {"metrics": "no metrics"}),
        (
            {"normalization": "mine.parts:Whiten"},
            {"normalization": "normalization=minmax or unit or standard or none"},
        ),
    ],
    ids=str,
)
def test_everything_else_is_refused(changes: dict[str, object], expected: dict[str, str]) -> None:
    assert unsupported(PLAIN | changes) == expected


@pytest.mark.parametrize(("width", "activation"), [((8,), "relu"), ((8, 4), "tanh"), ((), "gelu")])
def test_the_structure_of_a_perceptron(width: tuple[int, ...], activation: str) -> None:
    network = Network(mlp((6,), 3, width=width, activation=ACTIVATIONS[activation]()), 6)
    name = activation if activation in ACTIVATION_CODES and width else "another"
    assert structure(network) == {"hidden": width, "activation": name}


class OwnDense(Dense):
    """Might do anything."""


class OwnReLU(ReLU):
    """Might do anything."""


@pytest.mark.parametrize(
    "layers",
    [
        mlp((4, 4), 3, width=8, dropout=0.5),
        conv((4, 4), 3, channels=(2,), width=8),
        [OwnDense(8), Activate(ReLU()), Dense(3)],
        [Dense(8), Activate(OwnReLU()), Dense(3)],
        [Dense(8), Activate(ReLU())],
        [Dense(8), Activate(ReLU()), Dense(4), Dense(3)],
        [Dense(8), Activate(ReLU()), Dense(8), Activate(ACTIVATIONS["tanh"]()), Dense(3)],
    ],
)
def test_no_other_structure_is_taken_for_one(layers: list) -> None:
    assert unsupported(structure(Network(layers, 16)))


def test_every_activation_of_the_kernel_exists() -> None:
    assert set(ACTIVATION_CODES) <= set(ACTIVATIONS)


def test_numba_is_not_imported() -> None:
    code = "import sys; sys.modules['numba'] = None; from harness.nn.compiled import supports"
    subprocess.run([sys.executable, "-c", code], check=True)
