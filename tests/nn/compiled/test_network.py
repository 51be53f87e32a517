"""Trainings with compiled kernels against the same ones in NumPy.

Covers: harness/nn/compiled/elementwise.py, harness/nn/compiled/ink.py,
harness/nn/compiled/ink_layer.py, harness/nn/compiled/losses.py, harness/nn/compiled/optimizers.py,
harness/nn/compiled/regularization.py, harness/nn/compiled/rows.py
"""

from typing import Any

import numpy as np
import pytest

from harness.data.dataset import Dataset, Part
from harness.data.normalization import NORMALIZATIONS, Affine
from harness.nn.activations import ACTIVATIONS, Tanh
from harness.nn.layers import Activate, Dense, Dropout, Layer
from harness.nn.losses import LOSSES
from harness.nn.models import conv, mlp
from harness.nn.network import Network
from harness.nn.optimizers import OPTIMIZERS, Adam
from harness.training import evaluation
from harness.training.options import Options
from harness.training.trainer import Trainer

pytest.importorskip("numba", reason="python -m pip install numba")

PIXELS, CLASSES = 64, 5
PLAIN: dict[str, Any] = {"width": (24,), "activation": "relu", "optimizer": "adam", "batch": 16}


class OwnDense(Dense):
    """A layer that has no compiled twin."""


class OwnAdam(Adam):
    """An optimizer that has no compiled twin."""


class OwnTanh(Tanh):
    """An activation that has no compiled twin."""


class OwnNormalization(Affine):
    """A normalization that is more than a scale and a shift."""

    def apply(self, values: Any, out: Any) -> None:
        """The square root of the values, from 0 to 1."""
        np.sqrt(values / 255, out=out, casting="unsafe")


def faded(images: Any, generator: np.random.Generator, out: Any) -> None:
    """An augmentation: some images with half of their ink."""
    np.multiply(images, generator.choice([0.5, 1.0], (len(images), 1)), out=out, casting="unsafe")


def problem(dtype: type = np.uint8, pixels: int = PIXELS) -> Dataset:
    """Images of which a fifth is ink; one is empty, and one is full."""
    generator = np.random.default_rng(4)
    images = generator.integers(1, 256, (203, pixels)).astype(np.uint8)
    images[generator.random(images.shape) < 0.8] = 0
    images[3], images[5] = 0, 255
    labels = generator.integers(0, CLASSES, len(images)).astype(np.uint8)
    part = Part(images.astype(dtype), labels, np.arange(3, 203))
    return Dataset("x", "", (pixels,), CLASSES, part, None, part)


def trained(backend: str, **changes: Any) -> Trainer:
    """A trainer after two epochs."""
    settings = PLAIN | changes
    make = ACTIVATIONS.get(settings["activation"], OwnTanh)
    pixels = settings.get("pixels", PIXELS)
    layers: list[Layer]
    if settings.get("model") == "conv":
        layers = conv((8, 8), CLASSES, channels=(3,), width=12, activation=make())
    else:
        layers = mlp(
            (pixels,), CLASSES,
            width=settings["width"], activation=make(), dropout=settings.get("dropout", 0.0),
        )  # fmt: skip
    if "inserted" in settings:
        number, *names = settings["inserted"]
        layers[number:number] = [
            Dropout(0.2) if name == "dropout" else Activate(ACTIVATIONS[name]()) for name in names
        ]
    if settings.get("own_layer") is not None:
        number = settings["own_layer"]
        layers[number] = OwnDense(layers[number].outputs)  # type: ignore[attr-defined]
    kind = settings.get("network_dtype", np.float32)
    network = Network.create(layers, pixels, np.random.default_rng(1), kind)
    options = {key: settings[key] for key in ("weight_decay", "nesterov") if key in settings}
    trainer = Trainer(
        network,
        problem(settings.get("dtype", np.uint8), pixels),
        OPTIMIZERS.get(settings["optimizer"], OwnAdam)(network.parameters, **options),
        Affine("minmax", 2 / 255, settings.get("shift", -1.0)),
        Options(
            batch=settings["batch"],
            lr=0.1 if settings["optimizer"] == "sgd" else 0.003,
            epochs=2,
            loss=LOSSES["cross_entropy"](),
            threads=settings.get("threads", 1),
            backend=backend,
            augmentation=faded if "augmentation" in settings else None,
            **{key: settings[key] for key in ("max_norm", "ema", "adversarial") if key in settings},
        ),
    )
    for _ in range(2):
        trainer.train_epoch()
    return trainer


@pytest.mark.parametrize(
    "changes",
    [
        {},
        *({"optimizer": name, "weight_decay": 0.01} for name in OPTIMIZERS),
        *({"optimizer": name, "width": (12, 9)} for name in OPTIMIZERS),
        {"optimizer": "momentum", "nesterov": False},
        *({"activation": name, "width": (24, 12)} for name in (*ACTIVATIONS, "own")),
        {"dropout": 0.4, "width": (24, 12)},
        *({"width": (width,)} for width in (1, 16, 100, 128, 130, 272)),
        {"shift": 0.0},
        {"batch": 1},
        {"batch": 200},
        {"batch": 7, "pixels": 61},
        {"batch": 300},
        {"dtype": np.float32},
        {"dtype": np.float32, "batch": 7, "pixels": 61},
        {"dtype": np.float64},
        {"network_dtype": np.float64},
        {"augmentation": True},
        {"augmentation": True, "shift": 0.0, "dtype": np.float32},
        {"optimizer": "own", "width": (24, 12), "dropout": 0.2},
        {"own_layer": 0, "width": (24, 12)},
        {"own_layer": 2, "width": (24, 12)},
        {"own_layer": 4, "width": (24, 12)},
        {"inserted": (2, "sigmoid"), "activation": "tanh"},
        {"inserted": (2, "tanh", "dropout", "sigmoid"), "width": (24, 12)},
        {"inserted": (0, "dropout"), "dtype": np.float32},
        {"model": "conv"},
        {"max_norm": 0.7, "ema": 0.9},
        {"adversarial": 0.3},
        {"threads": 2, "optimizer": "sgd", "width": (272, 140)},
        {"threads": 2, "dropout": 0.2, "width": (24, 140, 12), "batch": 3},
        {"threads": 2, "own_layer": 2, "width": (24, 12, 9)},
        {"threads": 2, "dtype": np.float32},
        {"threads": 3, "optimizer": "momentum", "width": (272,)},
    ],
    ids=lambda changes: " ".join(f"{k}={getattr(v, '__name__', v)}" for k, v in changes.items()),
)
def test_equal_to_numpy_within_rounding(changes: dict[str, Any]) -> None:
    expected, actual = trained("numpy", **changes), trained("numba", **changes)
    np.testing.assert_allclose(
        actual.network.parameters.flat, expected.network.parameters.flat, rtol=2e-3, atol=2e-4
    )
    for name, array in expected.optimizer.state.items():
        np.testing.assert_allclose(
            actual.optimizer.state[name], array, rtol=2e-3, atol=2e-5, err_msg=name
        )
    check_evaluation(actual)


def check_evaluation(trainer: Trainer) -> None:
    """What a trainer evaluates is what its network in NumPy computes."""
    test, loss = trainer.dataset.test, trainer.options.loss
    score, predictions = trainer.evaluate(test)
    with trainer.network.holding(trainer.evaluated):
        expected = evaluation.evaluate(trainer.network, test, trainer.normalization, loss)
    np.testing.assert_allclose(predictions, expected[1], rtol=1e-4, atol=1e-6)
    assert score.loss == pytest.approx(expected[0].loss, rel=1e-5)
    assert (score.wrong, score.count) == (expected[0].wrong, expected[0].count)


@pytest.mark.parametrize("name", [*NORMALIZATIONS, "own"])
@pytest.mark.parametrize("is_regression", [False, True])
def test_evaluation_is_equal_to_numpy_within_rounding(name: str, is_regression: bool) -> None:
    """Of more examples than are evaluated at a time."""
    generator = np.random.default_rng(6)
    images = generator.integers(1, 256, (603, 20)).astype(np.uint8)
    images[generator.random(images.shape) < 0.8] = 0
    labels = generator.integers(0, CLASSES, len(images)).astype(np.uint8)
    targets = generator.normal(size=(len(images), CLASSES)).astype(np.float32)
    part = Part(images, targets if is_regression else labels)
    normalization = NORMALIZATIONS.get(name, OwnNormalization)()
    normalization.fit(images, None)
    network = Network.create(mlp((20,), CLASSES, width=(12,)), 20, generator)
    trainer = Trainer(
        network,
        Dataset("x", "", (20,), 0 if is_regression else CLASSES, part, None, part),
        OPTIMIZERS["sgd"](network.parameters),
        normalization,
        Options(
            batch=32, lr=0.05, epochs=1, backend="numba",
            loss=LOSSES["squared_error" if is_regression else "cross_entropy"](),
        ),
    )  # fmt: skip
    trainer.train_epoch()
    check_evaluation(trainer)


def test_equal_to_numpy_where_blas_cannot_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.nn.compiled import rows

    monkeypatch.setattr(rows, "sgemm", lambda: 0)
    actual, expected = trained("numba", width=(24, 12)), trained("numpy", width=(24, 12))
    np.testing.assert_allclose(
        actual.network.parameters.flat, expected.network.parameters.flat, rtol=2e-3, atol=2e-4
    )


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_bits_in_every_run_with_so_many_threads(threads: int) -> None:
    first, other = (
        trained("numba", threads=threads, width=(272, 140), dropout=0.2) for _ in range(2)
    )
    np.testing.assert_array_equal(first.network.parameters.flat, other.network.parameters.flat)


def test_a_restored_training_ends_with_the_same_bits() -> None:
    whole = trained("numba", dropout=0.2)
    arrays, rest = whole.state()
    arrays = {name: array.copy() for name, array in arrays.items()}
    whole.train_epoch()
    resumed = trained("numba", dropout=0.2)
    resumed.train_epoch()
    resumed.restore(arrays, rest)
    resumed.train_epoch()
    np.testing.assert_array_equal(whole.network.parameters.flat, resumed.network.parameters.flat)
