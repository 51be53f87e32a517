"""What the compiled epoch supports: an allow-list, so that what is new is refused."""

import subprocess
import sys

import pytest

from harness.nn.activations import ACTIVATIONS
from harness.nn.compiled.supports import ACTIVATION_CODES, MAX_BATCH, unsupported

PLAIN = {"hidden": (8,), "activation": "sigmoid", "optimizer": "sgd", "batch": 32, "lr": 0.1}


def test_plain_settings_are_supported() -> None:
    assert unsupported(PLAIN) == {}
    free = {"epochs": 3, "seed": 2, "patience": 4, "label_smoothing": 0.1, "schedule.warmup": 2}
    assert unsupported(PLAIN | free) == {}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"hidden": (8, 8)}, {"hidden": "one hidden layer"}),
        ({"hidden": ()}, {"hidden": "one hidden layer"}),
        ({"batch": MAX_BATCH + 1}, {"batch": "batch up to 1024"}),
        ({"activation": "gelu"}, {"activation": "activation=sigmoid or tanh or relu"}),
        ({"optimizer": "adam", "optimizer.beta1": 0.9}, {"optimizer": "optimizer=sgd"}),
        ({"optimizer.clip": 1.0}, {"optimizer.clip": "no optimizer.clip"}),
        ({"mixup": 0.2}, {"mixup": "no mixup"}),
    ],
    ids=str,
)
def test_everything_else_is_refused(changes: dict[str, object], expected: dict[str, str]) -> None:
    assert unsupported(PLAIN | changes) == expected


def test_every_activation_of_the_kernel_exists() -> None:
    assert set(ACTIVATION_CODES) <= set(ACTIVATIONS)


def test_numba_is_not_imported() -> None:
    code = "import sys; sys.modules['numba'] = None; from harness.nn.compiled import supports"
    subprocess.run([sys.executable, "-c", code], check=True)
