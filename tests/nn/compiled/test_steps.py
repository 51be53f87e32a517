"""All steps of a block in one kernel: the same numbers as one step after the other."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="python -m pip install numba")

from harness.data.dataset import Dataset, Part
from harness.data.normalization import Affine
from harness.nn.activations import ACTIVATIONS
from harness.nn.losses import SquaredError
from harness.nn.models import mlp
from harness.nn.network import Network
from harness.nn.optimizers import OPTIMIZERS, Adam
from harness.training.options import Options
from harness.training.pace import Pace
from harness.training.threads import takes_blocks
from harness.training.trainer import Trainer

PIXELS, CLASSES = 50, 3


def data(share: float) -> Dataset:
    """share: of the inputs that are not 0."""
    generator = np.random.default_rng(2)
    images = generator.integers(1, 255, (203, PIXELS)).astype(np.uint8)
    images[generator.random(images.shape) >= share] = 0
    part = Part(images, generator.integers(0, CLASSES, len(images)).astype(np.uint8))
    return Dataset("d", "0", (PIXELS,), CLASSES, part, None, part)


def trainer(
    dataset: Dataset, optimizer: str, width: tuple[int, ...], dropout: float = 0.0, **options: Any
) -> Trainer:
    layers = mlp(
        (PIXELS,), dataset.outputs, width=width, activation=ACTIVATIONS["tanh"](), dropout=dropout
    )
    network = Network.create(layers, PIXELS, np.random.default_rng(3))
    made = OPTIMIZERS[optimizer](network.parameters, weight_decay=0.01)
    settings = Options(batch=32, lr=0.02, epochs=2, backend="numba", **options)
    return Trainer(network, dataset, made, Affine("unit", 1 / 255, 0.1), settings)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("width", [(32,), (20, 7), (192, 7)])
@pytest.mark.parametrize("share", [0.15, 1])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_block_is_trained_as_its_batches(
    optimizer: str, width: tuple[int, ...], share: float, threads: int
) -> None:
    """To the last bit, with a last batch that is smaller."""
    dataset = data(share)
    whole, single = (
        trainer(dataset, optimizer, width, schedule=lambda time: 1 / (1 + time), threads=threads)
        for _ in range(2)
    )
    assert whole._steps is not None
    single._steps = None
    for _ in range(2):
        assert whole.train_epoch()["train/loss"] == single.train_epoch()["train/loss"]
    np.testing.assert_array_equal(whole.network.parameters.flat, single.network.parameters.flat)
    for name, array in whole.optimizer.state.items():
        np.testing.assert_array_equal(array, single.optimizer.state[name])


@pytest.mark.parametrize("share", [0.15, 1])
@pytest.mark.parametrize("in_blocks", [True, False])
@pytest.mark.parametrize("width", [(192, 48), (20, 7)])
def test_one_thread_alone_computes_what_several_do(
    share: float, in_blocks: bool, width: tuple[int, ...]
) -> None:
    """To the last bit, when it does the work of all on a busy machine."""
    together, alone = (trainer(data(share), "adam", width, threads=3) for _ in range(2))
    workers = alone._pace._workers
    assert len(workers) == 2  # of the training and the evaluation
    alone._pace = Pace([])
    for each in workers:
        each.is_alone = True
    if not in_blocks:
        together._steps = alone._steps = None
    for _ in range(2):
        assert together.train_epoch()["train/loss"] == alone.train_epoch()["train/loss"]
    assert all(each.is_alone for each in workers)
    np.testing.assert_array_equal(together.network.parameters.flat, alone.network.parameters.flat)
    scores = [each.evaluate(each.dataset.train) for each in (together, alone)]
    assert scores[0][0] == scores[1][0]
    np.testing.assert_array_equal(scores[0][1], scores[1][1])


@pytest.mark.parametrize(
    "options",
    [{"dropout": 0.5}, {"max_norm": 1.0}, {"ema": 0.9}, {"adversarial": 0.1}],
    ids=str,
)
def test_other_trainings_take_one_step_after_the_other(options: dict[str, Any]) -> None:
    """The rule of the threads knows which these are."""
    whole, single = (trainer(data(1), "adam", (32, 16), **each) for each in ({}, options))
    assert whole._steps is not None
    assert single._steps is None
    assert takes_blocks(whole.network, Adam, whole.options)
    assert not takes_blocks(single.network, Adam, single.options)


class OwnLoss(SquaredError):
    """Might do anything."""


def test_a_regression_is_trained_as_its_batches() -> None:
    """To the last bit; by an own loss, one step after the other."""
    generator = np.random.default_rng(5)
    inputs, targets = (generator.normal(size=(203, n)).astype(np.float32) for n in (PIXELS, 2))
    part = Part(inputs, targets)
    dataset = Dataset("d", "0", (PIXELS,), 0, part, None, part)
    whole, single = (trainer(dataset, "adam", (16, 8), loss=SquaredError()) for _ in range(2))
    assert whole._steps is not None
    single._steps = None
    for _ in range(2):
        assert whole.train_epoch()["train/loss"] == single.train_epoch()["train/loss"]
    np.testing.assert_array_equal(whole.network.parameters.flat, single.network.parameters.flat)
    assert trainer(dataset, "adam", (16, 8), loss=OwnLoss())._steps is None
