"""The compiled epoch against the NumPy network, step for step.

Covers: harness/nn/compiled/dense.py, harness/nn/compiled/simd.py
"""

import numpy as np
import pytest

from harness.data.dataset import Dataset, Part
from harness.data.normalization import Affine
from harness.nn.activations import ACTIVATIONS
from harness.nn.models import mlp
from harness.nn.network import Network
from harness.nn.optimizers import SGD
from harness.training.options import Options
from harness.training.recorders import Silence
from harness.training.trainer import Trainer

pytest.importorskip("numba", reason="python -m pip install numba")


def sparse_images(count: int, pixels: int) -> Part:
    generator = np.random.default_rng(4)
    images = generator.integers(1, 256, (count, pixels)).astype(np.uint8)
    images[generator.random(images.shape) < 0.8] = 0
    images[3] = 0  # no ink at all
    images[5] = 255  # only ink
    return Part(images, generator.integers(0, 10, count).astype(np.uint8))


def trained(backend: str, **changes: object) -> tuple[list[dict[str, float]], np.ndarray]:
    settings: dict = {"activation": "sigmoid", "batch": 16, "pixels": 50, "smoothing": 0.0}
    settings |= changes
    part = sparse_images(203, settings["pixels"])
    part = Part(part.inputs, part.labels, np.arange(3, 203))
    activation = ACTIVATIONS[settings["activation"]]()
    layers = mlp((settings["pixels"],), 10, width=24, activation=activation)
    network = Network.create(layers, settings["pixels"], np.random.default_rng(1))
    trainer = Trainer(
        network,
        Dataset("x", "", (1, settings["pixels"]), 10, part, None, part),
        SGD(network.parameters),
        settings.get("normalization", Affine("minmax", 2 / 255, -1.0)),
        Options(
            batch=settings["batch"],
            lr=0.1,
            epochs=3,
            label_smoothing=settings["smoothing"],
            schedule=lambda time: 1 / (1 + time),
            backend=backend,
        ),
    )
    values = [trainer.train_epoch() for _ in range(3)]
    return values, network.parameters.flat


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation": "tanh"},
        {"activation": "relu"},
        {"batch": 1},
        {"batch": 7},
        {"batch": 500},
        {"pixels": 48},
        {"smoothing": 0.1},
        {"normalization": Affine("unit", 1 / 255, 0.0)},
        {"normalization": Affine("standard", 1 / 78.6, -0.42)},
    ],
    ids=lambda changes: " ".join(f"{k}={getattr(v, 'name', v)}" for k, v in changes.items()),
)
def test_equal_to_numpy_within_rounding(changes: dict[str, object]) -> None:
    expected, weights = trained("numpy", **changes)
    actual, compiled = trained("numba", **changes)
    np.testing.assert_allclose(compiled, weights, rtol=2e-4, atol=2e-5)
    for one, other in zip(actual, expected, strict=True):
        assert one["train/loss"] == pytest.approx(other["train/loss"], rel=1e-5)
        assert one["train/error"] == pytest.approx(other["train/error"], abs=0.011)
        assert one["train/lr"] == pytest.approx(other["train/lr"])


def test_repeatable_to_the_bit() -> None:
    np.testing.assert_array_equal(trained("numba")[1], trained("numba")[1])


def test_divergence_is_detected() -> None:
    part = sparse_images(100, 16)
    layers = mlp((16,), 10, width=4, activation=ACTIVATIONS["relu"]())
    network = Network.create(layers, 16, np.random.default_rng(1))
    trainer = Trainer(
        network,
        Dataset("x", "", (4, 4), 10, part, None, part),
        SGD(network.parameters),
        Affine("none", 1.0, 0.0),
        Options(batch=4, lr=1e30, epochs=1, backend="numba"),
    )
    with pytest.raises(ArithmeticError, match="lr=1e\\+30 is probably too high"):
        trainer.run(Silence())
