"""Options of the training loop, alone and with the compiled epoch; and restoring a state.

Covers: harness/training/options.py, harness/training/compiled.py, harness/training/step.py
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from harness.data.augmentation import Augmentation
from harness.data.dataset import Dataset, Part
from harness.data.normalization import Affine
from harness.nn.activations import ReLU
from harness.nn.losses import CrossEntropy
from harness.nn.metrics import METRICS, Score
from harness.nn.models import mlp
from harness.nn.network import Network
from harness.nn.optimizers import OPTIMIZERS
from harness.nn.regularization import move_uphill
from harness.training import randomness
from harness.training.options import Options
from harness.training.recorders import Silence
from harness.training.trainer import Trainer


def problem() -> Dataset:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 5, 400).astype(np.uint8)
    pixels = generator.integers(0, 120, (400, 40)).astype(np.uint8)
    pixels[generator.random(pixels.shape) < 0.8] = 0  # background, so that one kernel trains it
    pixels[np.arange(400), labels * 8] += 130
    rows = np.arange(400, dtype=np.uint32)
    train, val = Part(pixels, labels, rows[100:]), Part(pixels, labels, rows[:100])
    return Dataset("synthetic", "", (8, 5), 5, train, val, val)


def make(
    kind: type[Trainer] = Trainer, optimizer: str = "sgd", dropout: float = 0.0, **options: Any
) -> Trainer:
    settings = Options(**{"batch": 16, "lr": 0.2, "epochs": 3} | options)
    random = randomness.generators(settings.seed)
    layers = mlp((8, 5), 5, width=12, activation=ReLU(), dropout=dropout)
    network = Network.create(layers, 40, random["weights"])
    made = OPTIMIZERS[optimizer](network.parameters)
    return kind(network, problem(), made, Affine("unit", 1 / 255, 0.0), settings)


class Scripted(Trainer):
    """Takes its validation errors, in hundredths, from `errors`; the test set is not scored."""

    errors: tuple[int, ...] = ()

    def evaluate(self, part: Part, *, only_score: bool = False) -> tuple[Score, Any]:
        return Score(1.0, self.errors[self.finished - 1], 100), None


@pytest.mark.parametrize(
    ("errors", "patience", "stopped", "best"),
    [
        ((50, 40, 30, 20, 10), 2, 5, 5),  # never stale
        ((50, 50, 50, 50, 50), 2, 3, 3),  # an equal one is the best, and no improvement
        ((50, 40, 40, 45, 40, 10), 3, 5, 5),
        ((50, 40, 45, 30, 31, 32, 10), 2, 6, 4),  # each improvement restarts the wait
        ((50, 40, 45, 30, 31, 32, 10), None, 7, 7),
    ],
)
def test_patience(errors: tuple[int, ...], patience: int | None, stopped: int, best: int) -> None:
    trainer = make(Scripted, epochs=len(errors), patience=patience)
    trainer.errors = errors  # type: ignore[attr-defined]
    result = trainer.run(Silence())
    assert (trainer.finished, result.best_epoch) == (stopped, best)
    assert result.values["best/val_error"] == errors[best - 1] / 100


@pytest.mark.parametrize(
    ("errors", "maximize", "stopped", "best"),
    [
        ((50, 60, 55, 70, 71, 60, 65, 99), True, 7, 5),
        ((50, 60, 55, 40, 41, 42), False, 3, 1),
    ],
)
def test_patience_goes_by_the_objective(
    errors: tuple[int, ...], maximize: bool, stopped: int, best: int
) -> None:
    """With the weights of the best epoch, whether high or low is better."""
    trainer = make(Scripted, epochs=len(errors), patience=2, maximize=maximize)
    trainer.errors = errors  # type: ignore[attr-defined]
    result = trainer.run(Silence())
    assert (trainer.finished, result.best_epoch) == (stopped, best)
    assert result.values["best/val_error"] == errors[best - 1] / 100
    again = make(epochs=best)
    again.run(Silence())
    np.testing.assert_array_equal(trainer.best_parameters, again.network.parameters.flat)


@pytest.mark.parametrize(
    ("errors", "patience", "stopped"),
    [((50, 40, 45, 30, 31, 32, 10), 2, 6), ((50, 40, 45, 60), None, 4)],
)
def test_the_last_weights_count_also_after_stopping_early(
    errors: tuple[int, ...], patience: int | None, stopped: int
) -> None:
    trainer = make(Scripted, epochs=len(errors), patience=patience, weights="last", ema=0.9)
    trainer.errors = errors  # type: ignore[attr-defined]
    result = trainer.run(Silence())
    assert (trainer.finished, result.best_epoch) == (stopped, stopped)
    assert result.values["best/epoch"] == stopped
    assert result.values["best/val_error"] == errors[stopped - 1] / 100
    np.testing.assert_array_equal(trainer.best_parameters, trainer.evaluated)


def test_the_average_of_the_weights_is_what_is_evaluated() -> None:
    trainer = make(ema=0.9, epochs=6)
    average = trainer.network.parameters.flat.astype(np.float64)
    step, steps = trainer._step, list[int]()

    def note(*arguments: Any) -> None:
        nonlocal average
        step(*arguments)
        decay = min(0.9, (1 + arguments[3]) / (10 + arguments[3]))
        steps.append(arguments[3])
        average = decay * average + (1 - decay) * trainer.network.parameters.flat

    trainer._step = note  # type: ignore[method-assign]
    trainer.run(Silence())
    assert steps == list(range(len(steps)))
    assert len(steps) > 81  # where the decay reaches its limit
    evaluated = trainer.evaluated
    np.testing.assert_allclose(evaluated, average, rtol=1e-4, atol=1e-6)
    assert np.abs(evaluated - trainer.network.parameters.flat).max() > 0.01
    val = trainer.dataset.val
    assert val is not None
    by_average, _ = trainer.evaluate(val)
    trainer.network.parameters.flat[:] = evaluated
    trainer.evaluated = trainer.network.parameters.flat
    assert trainer.evaluate(val)[0] == by_average


def test_without_an_average_the_weights_themselves_are_evaluated() -> None:
    trainer = make()
    assert trainer.evaluated is trainer.network.parameters.flat


def test_max_norm_holds_after_every_step() -> None:
    def largest(trainer: Trainer) -> float:
        return float(np.linalg.norm(trainer.network.parameters.weights[0], axis=0).max())

    free, limited = make(), make(max_norm=1.0)
    for trainer in (free, limited):
        trainer.train_epoch()
    assert largest(free) > 1.2
    assert largest(limited) <= 1 + 1e-6


@pytest.mark.parametrize("kind", [{"dropout": 0.5}, {"input_dropout": 0.3}])
def test_dropout_is_drawn_in_training_only_and_seeded(kind: dict[str, float]) -> None:
    plain, first, again = make(), make(**kind), make(**kind)
    for trainer in (plain, first, again):
        trainer.train_epoch()
    weights = [trainer.network.parameters.flat for trainer in (plain, first, again)]
    np.testing.assert_array_equal(weights[1], weights[2])
    assert not np.array_equal(weights[0], weights[1])
    part = first.dataset.test
    np.testing.assert_array_equal(first.evaluate(part)[1], first.evaluate(part)[1])


def test_adversarial_training_lowers_the_error_on_perturbed_inputs() -> None:
    """Errors on inputs perturbed against the network itself, by the radius of the training."""

    def adversarial_error(trainer: Trainer) -> float:
        part, network = trainer.dataset.test, trainer.network
        inputs = part.inputs[part.rows].astype(np.float32) / 255
        targets = np.eye(5, dtype=np.float32)[part.labels[part.rows]]
        delta = np.empty_like(targets)
        CrossEntropy().gradient(network.forward(inputs), targets, delta)
        move_uphill(inputs, network.input_gradient(delta), 0.5)
        return float((network.forward(inputs).argmax(axis=1) != targets.argmax(axis=1)).mean())

    plain, robust = make(epochs=30), make(epochs=30, adversarial=0.5)
    for trainer in (plain, robust):
        trainer.run(Silence())
    assert adversarial_error(robust) < adversarial_error(plain) - 0.1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_restored_training_ends_with_the_same_bits(optimizer: str) -> None:
    def one() -> Trainer:
        return make(
            optimizer=optimizer,
            lr=0.01,
            dropout=0.3,
            input_dropout=0.1,
            max_norm=2.0,
            label_smoothing=0.1,
            adversarial=0.5,
            ema=0.9,
            augmentation=Augmentation((8, 5), rotation=5, shift=1, strength=0.3, grid=3),
            schedule=lambda time: 1 / (1 + time),
        )

    whole, first, second = one(), one(), one()
    for _ in range(4):
        whole.train_epoch()
    for _ in range(2):
        first.train_epoch()
    arrays, rest = first.state()
    second.restore({name: array.copy() for name, array in arrays.items()}, rest)
    for _ in range(2):
        second.train_epoch()
    np.testing.assert_array_equal(whole.network.parameters.flat, second.network.parameters.flat)
    np.testing.assert_array_equal(whole.evaluated, second.evaluated)


class OwnLoss(CrossEntropy):
    """Might do anything."""


# One changed value of every option, which the compiled kernels have to honor.
CHANGED: dict[str, Any] = {
    "batch": 7, "lr": 0.3, "epochs": 2, "seed": 5, "schedule": lambda time: 1 / (1 + time),
    "loss": OwnLoss(), "metrics": {"top2_error": METRICS["top2_error"]}, "input_dropout": 0.5,
    "max_norm": 0.5, "label_smoothing": 0.2, "adversarial": 0.5, "ema": 0.9, "patience": 2,
    "objective": "train/loss", "maximize": True, "ties": "earliest", "weights": "last",
    "augmentation": Augmentation((8, 5), rotation=20), "backend": "numba",
    "threads": 2,
}  # fmt: skip


# Options that choose an epoch, or say how to compute the same.
ALIKE = (
    "patience", "objective", "maximize", "weights", "ties", "backend", "threads", "metrics", "loss",
)  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Options)])
def test_the_compiled_kernels_honor_every_option(name: str) -> None:
    """An option without a row in CHANGED fails here: add the row, then see what happens."""
    pytest.importorskip("numba", reason="python -m pip install numba")
    changes = {name: CHANGED[name]}
    expected = make(**changes | {"backend": "numpy"})
    compiled = make(**changes | {"backend": "numba"})
    for trainer in (expected, compiled):
        trainer.run(Silence())
    np.testing.assert_allclose(compiled.evaluated, expected.evaluated, rtol=2e-4, atol=2e-5)
    if name not in ALIKE:
        plain = make()
        plain.run(Silence())
        assert not np.array_equal(plain.evaluated, expected.evaluated), (
            "the changed value has to matter"
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch", 0), ("batch", 1.5), ("batch", True), ("epochs", -1), ("epochs", "3"),
        ("seed", -1), ("threads", 0), ("lr", "a"), ("lr", math.nan), ("lr", math.inf), ("lr", 0.0),
        ("lr", None),
        ("input_dropout", 1.0), ("label_smoothing", -0.1), ("ema", 1), ("adversarial", -1.0),
        ("max_norm", 0), ("patience", -1), ("backend", "cuda"), ("objective", "error"),
        ("objective", None),
    ],
)  # fmt: skip
def test_a_value_that_is_not_allowed_is_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name}={value!r}: expected "):
        make(**{name: value})


def test_numbers_of_numpy_are_allowed() -> None:
    options = Options(batch=np.int64(3), lr=np.float32(0.5), epochs=np.uint8(0))  # type: ignore[arg-type]  # they are numbers
    assert options.batch == 3
