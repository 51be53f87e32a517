"""The training loop: repeatable, complete, and independent of batch sizes in evaluation.

Covers: harness/training/trainer.py, harness/training/evaluation.py,
harness/training/randomness.py
"""

import dataclasses
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from harness.data import normalization
from harness.data.dataset import Dataset, Part
from harness.nn import metrics
from harness.nn.activations import ReLU
from harness.nn.layers import Activate
from harness.nn.losses import LOSSES, CrossEntropy, SquaredError
from harness.nn.metrics import METRICS
from harness.nn.models import conv, mlp
from harness.nn.network import Network
from harness.nn.optimizers import SGD
from harness.training import compiled, evaluation, randomness, trainer
from harness.training.monitor import Diverged
from harness.training.options import Options
from harness.training.trainer import Trainer


def images(count: int, seed: int) -> Part:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 10, count).astype(np.uint8)
    pixels = generator.integers(0, 120, (count, 40)).astype(np.uint8)
    pixels[np.arange(count), labels * 4] += 130
    return Part(pixels, labels)


def problem(*, validation: bool = True) -> Dataset:
    train = images(1003, 1)
    rows = np.arange(1003)
    return Dataset(
        name="synthetic",
        sha256="0" * 64,
        input_shape=(8, 5),
        classes=10,
        train=Part(train.inputs, train.labels, rows[203:] if validation else None),
        val=Part(train.inputs, train.labels, rows[:203]) if validation else None,
        test=images(517, 2),
    )


def make(
    data: Dataset, *, seed: int = 1, batch: int = 16, lr: float = 0.3, epochs: int = 3, **more: Any
) -> Trainer:
    layers = mlp((8, 5), 10, width=12)
    network = Network.create(layers, 40, randomness.generators(seed)["weights"])
    return Trainer(
        network,
        data,
        SGD(network.parameters),
        normalization.fit("minmax", data.train.inputs, data.train.rows),
        Options(batch=batch, lr=lr, epochs=epochs, seed=seed, **more),
    )


class Notes:
    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.last: dict[str, float] = {}

    def epoch(self, epoch: int, values: dict[str, float], trainer: Trainer) -> None:
        assert epoch == len(self.epochs) + 1
        self.epochs.append(values)

    def final(self, epoch: int, values: dict[str, float]) -> None:
        self.last = {**values, "epoch": epoch}


def test_loss_before_training_is_log_classes() -> None:
    score, _ = make(problem()).evaluate(problem().test)
    assert score.loss == pytest.approx(math.log(10), rel=0.15)


def test_it_learns_and_records_the_promised_metrics() -> None:
    notes = Notes()
    result = make(problem(), epochs=30).run(notes)
    assert len(notes.epochs) == 30
    assert set(notes.epochs[0]) == {
        "train/loss", "train/error", "train/lr", "val/loss", "val/error",
        "time/epoch_s", "time/examples_per_s",
    }  # fmt: skip
    assert set(notes.last) == {
        "test/loss", "test/error", "best/epoch", "best/val_error", "epoch",
    }  # fmt: skip
    assert notes.last["test/error"] < 0.05 < notes.epochs[0]["val/error"]
    wrong = result.probabilities.argmax(axis=1) != problem().test.labels
    assert notes.last["test/error"] == wrong.mean()
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("further", [{}, {"top2": METRICS["top2_error"]}])
def test_an_error_is_that_of_the_predictions(further: dict[str, Any]) -> None:
    """Of a loss whose outputs are energies: the least one is the most probable class."""

    class Energy(CrossEntropy):
        def value(self, outputs: Any, targets: Any) -> Any:
            return super().value(-outputs, targets)

        def gradient(self, outputs: Any, targets: Any, out: Any) -> None:
            CrossEntropy().gradient(-outputs, targets, out)
            np.negative(out, out=out)

        def predict(self, outputs: Any, out: Any) -> None:
            out[:] = 0  # first, so that it must not be the outputs
            super().predict(-outputs, out)

    notes, trained = Notes(), make(problem(), epochs=30, loss=Energy(), metrics=further)
    result = trained.run(notes)
    assert max(notes.epochs[-1][f"{part}/error"] for part in ("train", "val")) < 0.1
    assert notes.last["test/error"] < 0.05
    test = problem().test
    assert notes.last["test/error"] == np.mean(result.probabilities.argmax(axis=1) != test.labels)
    predicted = trained.predict(test.inputs, trained.best_parameters)
    np.testing.assert_allclose(predicted, result.probabilities, atol=1e-6)


def test_what_is_no_probability_is_named_where_it_is_predicted() -> None:
    class Late(CrossEntropy):
        def predict(self, outputs: Any, out: Any) -> None:
            super().predict(outputs, out)
            out[abs(outputs).max(axis=1) > 2] = math.nan

    notes = Notes()
    with pytest.raises(ValueError, match=r"^Late\.predict\(outputs, out\): .* found nan, nan, nan"):
        make(problem(), epochs=30, loss=Late()).run(notes)
    assert notes.last == {}


def test_bitwise_repeatable() -> None:
    runs = []
    for seed in (1, 1, 2):
        trained = make(problem(), seed=seed)
        trained.run(trainer.Silence())
        runs.append(trained.network.parameters.flat)
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


@pytest.mark.parametrize("batch", [1, 7, 64, 800])
def test_every_example_is_trained_on(batch: int) -> None:
    trained = make(problem(), batch=batch)
    seen: list[np.ndarray] = []
    step = trained._step
    trained._step = lambda x, *rest: (seen.append(x.copy()), step(x, *rest))[1]  # type: ignore[method-assign]
    trained.train_epoch()
    assert [len(x) for x in seen] == [batch] * (800 // batch) + [800 % batch] * (800 % batch > 0)
    data = problem()
    expected = np.empty((800, 40), np.float32)
    trained.normalization.apply(data.train.inputs[data.train.rows], expected)
    inputs = np.concatenate(seen)
    assert not np.array_equal(inputs, expected), "shuffled"
    np.testing.assert_array_equal(inputs[np.lexsort(inputs.T)], expected[np.lexsort(expected.T)])


def test_evaluation_scores_every_example_whatever_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = make(problem())
    trained.train_epoch()
    scores = []
    for size in (1, 10, 128, 517, 1000):
        monkeypatch.setattr(evaluation, "EVALUATION_BATCH", size)
        score, _ = trained.evaluate(trained.dataset.test)
        assert score.count == 517
        alone, predictions = trained.evaluate(trained.dataset.test, only_score=True)
        assert alone == score
        assert predictions.shape == (0, 10)
        scores.append((score.wrong, round(score.loss, 6)))
    assert len(set(scores)) == 1


def test_the_best_epoch_is_chosen_on_validation() -> None:
    notes, trained = Notes(), make(problem(), lr=3.0, epochs=12)
    result = trained.run(notes)
    errors = [values[metrics.VAL_ERROR] for values in notes.epochs]
    assert result.best_epoch == len(errors) - errors[::-1].index(min(errors))
    assert notes.last["best/val_error"] == min(errors)
    trained.network.parameters.flat[:] = trained.best_parameters
    assert trained.evaluate(trained.dataset.test)[0].error == notes.last["test/error"]


def test_without_validation_the_last_epoch_counts() -> None:
    notes, trained = Notes(), make(problem(validation=False))
    result = trained.run(notes)
    assert result.best_epoch == 3
    assert set(notes.last) == {"test/loss", "test/error", "epoch"}
    np.testing.assert_array_equal(trained.best_parameters, trained.network.parameters.flat)


def test_a_state_of_version_0_1_without_validation_continues() -> None:
    """It has the negative number of the last epoch for a best value."""
    whole, first, second = (make(problem(validation=False)) for _ in range(3))
    whole.run(trainer.Silence())
    first.train_epoch()
    arrays, rest = first.state()
    second.restore(arrays, rest | {"best_epoch": 1, "best_error": -1.0})
    assert second.run(trainer.Silence()).best_epoch == 3
    np.testing.assert_array_equal(second.best_parameters, whole.best_parameters)


class OwnMetric(Trainer):
    """Records `val/own` with the values of `own`, one for each epoch."""

    own: tuple[float, ...] = ()

    def train_epoch(self) -> dict[str, float]:
        values = super().train_epoch()
        return values | {"val/own": self.own[self.finished - 1]}


def judged_by_own(*own: float, maximize: bool = False) -> Trainer:
    trained = make(problem(), epochs=len(own), objective="val/own", maximize=maximize)
    trained.__class__ = OwnMetric
    trained.own = own  # type: ignore[attr-defined]
    return trained


@pytest.mark.parametrize(
    ("own", "lowest", "highest"),
    [
        ((0.3, 0.1, 0.2), 2, 1),
        ((0.5, 0.3, 0.5, 0.6), 2, 4),
        ((0.0, 0.0, 0.1), 2, 3),
    ],
)
def test_the_best_epoch_is_chosen_by_the_objective(
    own: tuple[float, ...], lowest: int, highest: int
) -> None:
    """The latest of equals."""
    for maximize, best in ((False, lowest), (True, highest)):
        notes, trained = Notes(), judged_by_own(*own, maximize=maximize)
        assert trained.run(notes).best_epoch == best
        assert (notes.last["best/epoch"], notes.last["best/val_own"]) == (best, own[best - 1])
        assert "best/val_error" not in notes.last
        upto = make(problem(), epochs=best)
        upto.run(trainer.Silence())
        np.testing.assert_array_equal(trained.best_parameters, upto.network.parameters.flat)


def test_patience_of_a_resumed_training_counts_from_the_earliest_of_equals() -> None:
    own = (0.3, 0.1, 0.1, 0.2, 0.0)
    for known in ("improved_epoch", "best_error"):  # earlier versions saved only the second
        first, second = (judged_by_own(*own) for _ in range(2))
        for each in (first, second):
            each.options = dataclasses.replace(each.options, epochs=3)
            each.monitor._patience = 2
        first.run(trainer.Silence())
        arrays, rest = first.state()
        if known == "best_error":
            rest = {key: value for key, value in rest.items() if key != "improved_epoch"}
            rest["best_epoch"] = 2  # the earliest of equals
        second.restore(arrays, rest)
        second.options = dataclasses.replace(second.options, epochs=5)
        second.run(trainer.Silence())
        assert second.finished == 4, known


@pytest.mark.parametrize("weights", ["best", "last"])
def test_a_training_resumed_between_two_epochs_ends_with_the_same_weights(weights: str) -> None:
    own = (0.3, 0.1, 0.2, 0.2, 0.4)

    def one(epochs: int) -> Trainer:
        trained = judged_by_own(*own)
        trained.options = dataclasses.replace(trained.options, epochs=epochs)
        trained.monitor._weights, trained.monitor._patience = weights, 3  # type: ignore[assignment]
        return trained

    notes, again = Notes(), Notes()
    again.epochs = [{}] * 3
    whole, first, second = one(5), one(3), one(5)
    whole.run(notes)
    first.run(trainer.Silence())
    second.restore(*first.state())
    second.run(again)
    assert whole.finished == second.finished == 5
    assert again.last == notes.last
    assert notes.last["best/epoch"] == (2 if weights == "best" else 5)
    assert notes.last["best/val_own"] == (0.1 if weights == "best" else 0.4)
    np.testing.assert_array_equal(second.best_parameters, whole.best_parameters)
    whole.network.parameters.flat[:] = whole.best_parameters
    assert whole.evaluate(whole.dataset.test)[0].error == notes.last["test/error"]


def test_an_objective_without_a_value_fails_in_one_line() -> None:
    for value in (math.nan, math.inf):
        with pytest.raises(Diverged, match=r"^metric val/own is (nan|inf) in epoch 2: expected"):
            judged_by_own(0.5, value).run(trainer.Silence())
    expected = r"^objective=val/x: not recorded in epoch 1, only train/loss, .*, val/error$"
    with pytest.raises(ValueError, match=expected):
        make(problem(), objective="val/x").run(trainer.Silence())
    with pytest.raises(ValueError, match="objective=val/loss: not recorded"):
        make(problem(validation=False), objective="val/loss").run(trainer.Silence())


def test_a_training_metric_chooses_without_validation() -> None:
    notes, trained = Notes(), make(problem(validation=False), lr=3.0, objective="train/loss")
    result = trained.run(notes)
    losses = [values[metrics.TRAIN_LOSS] for values in notes.epochs]
    assert result.best_epoch == losses.index(min(losses)) + 1
    assert notes.last["best/train_loss"] == min(losses)


def test_memory_grows_by_four_bytes_per_image() -> None:
    """The order of an epoch in uint32; images, labels and rows lie in mapped files."""

    def peak(count: int) -> int:
        part = Part(
            np.zeros((count, 64), np.uint8),
            np.zeros(count, np.uint8),
            np.arange(count, dtype=np.uint32),
        )
        network = Network.create(mlp((8, 8), 10, width=2), 64, np.random.default_rng(1))
        trained = Trainer(
            network,
            Dataset("zeros", "", (8, 8), 10, part, None, part),
            SGD(network.parameters),
            normalization.Affine("unit", 1 / 255, 0.0),
            Options(batch=1000, lr=0.1, epochs=1),
        )
        tracemalloc.start()
        trained.train_epoch()
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak_bytes

    few, many = peak(20_000), peak(220_000)
    assert (many - few) / 200_000 == pytest.approx(4, abs=0.5)


def test_divergence_names_the_likely_cause() -> None:
    with pytest.raises(Diverged, match=r"in epoch 1: .* lr=3e\+38 is probably too high"):
        make(problem(), lr=3e38).run(trainer.Silence())


def test_divergence_in_the_last_step_is_detected_without_validation() -> None:
    """One batch per epoch: its loss is computed before the step that makes the weights NaN."""
    last = make(problem(validation=False), lr=3e38, batch=1003, epochs=1)
    hidden = last.network.layers[1]
    assert isinstance(hidden, Activate)
    hidden.activation = ReLU()  # a bounded sigmoid would hide it
    with pytest.raises(Diverged, match="the test loss is nan in epoch 1"):
        last.run(trainer.Silence())


def error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    assert probabilities.dtype == np.float32
    assert len(probabilities) == len(labels)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    return float((probabilities.argmax(axis=1) != labels).mean())


def with_metrics(**metrics: Any) -> Trainer:
    plain = make(problem())
    options = dataclasses.replace(plain.options, metrics=metrics)
    return Trainer(plain.network, plain.dataset, plain.optimizer, plain.normalization, options)


def test_further_metrics_are_recorded_like_the_error() -> None:
    """Per epoch on the outputs of the training pass and on validation, once on the test set."""
    notes, plain = Notes(), Notes()
    with_metrics(mine=error, top2_error=METRICS["top2_error"]).run(notes)
    make(problem()).run(plain)
    for values, without in zip(notes.epochs, plain.epochs, strict=True):
        assert values["train/mine"] == values["train/error"] == without["train/error"]
        assert values["val/mine"] == values["val/error"] == without["val/error"]
        assert values["val/top2_error"] <= values["val/error"]
    assert notes.last["test/mine"] == notes.last["test/error"] == plain.last["test/error"]
    assert "test/top2_error" in notes.last


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda p, y: float("nan"), "metric train/mine is nan in epoch 1: expected a finite num"),
        (lambda p, y: "low", "metric mine: expected a number, found 'low'"),
        (lambda p, y: None, "metric mine: expected a number, found None"),
    ],
)
def test_a_metric_without_a_number_is_refused(metric: Any, message: str) -> None:
    with pytest.raises((Diverged, ValueError), match=message):
        with_metrics(mine=metric).run(trainer.Silence())


def test_a_convolution_network_learns_with_every_option() -> None:
    """Nothing in the loop is about perceptrons."""
    data, notes = problem(), Notes()
    layers = conv((8, 5), 10, channels=(8,), pool=1, width=24, activation=ReLU(), dropout=0.1)
    network = Network.create(layers, 40, np.random.default_rng(1))
    options = Options(
        batch=32, lr=0.2, epochs=15, max_norm=3.0, ema=0.9, adversarial=0.1, input_dropout=0.05,
        label_smoothing=0.05,
    )  # fmt: skip
    fitted = normalization.fit("unit", data.train.inputs)
    Trainer(network, data, SGD(network.parameters), fitted, options).run(notes)
    assert notes.last["test/error"] < 0.1 < notes.epochs[0]["val/error"]
    kernels, dense, last = network.parameters.weights
    for weights in (kernels, dense):
        assert np.linalg.norm(weights, axis=0).max() <= 3 * (1 + 1e-6)
    assert network.hidden_weights[-1] is not last


def regression() -> Dataset:
    """The sum and the difference of the first two pixels, in [-1, 2]."""
    data = problem()

    def numbers(part: Part | None) -> Any:
        assert part is not None
        first, second = part.inputs[:, 0] / 255, part.inputs[:, 1] / 255
        targets = np.stack([first + second, first - second], axis=1).astype(np.float32)
        return dataclasses.replace(part, labels=targets)

    return dataclasses.replace(
        data,
        classes=0,
        class_names=(),
        train=numbers(data.train),
        val=numbers(data.val),
        test=numbers(data.test),
    )


def test_a_regression_has_losses_and_no_errors() -> None:
    data, notes = regression(), Notes()
    network = Network.create(mlp((8, 5), 2, width=20), 40, np.random.default_rng(1))
    options = Options(
        batch=8, lr=0.1, epochs=40, loss=SquaredError(),
        metrics={"mean_absolute_error": METRICS["mean_absolute_error"]},
    )  # fmt: skip
    fitted = normalization.fit("unit", data.train.inputs)
    result = Trainer(network, data, SGD(network.parameters), fitted, options).run(notes)
    assert set(notes.epochs[0]) == {
        "train/loss", "train/lr", "train/mean_absolute_error", "val/loss",
        "val/mean_absolute_error", "time/epoch_s", "time/examples_per_s",
    }  # fmt: skip
    truth = data.test.labels
    assert result.probabilities.shape == truth.shape
    squares = ((result.probabilities - truth) ** 2).mean()
    assert notes.last["test/loss"] == pytest.approx(squares, rel=1e-5)
    absolute = np.abs(result.probabilities - truth).mean()
    assert notes.last["test/mean_absolute_error"] == pytest.approx(absolute, rel=1e-5)
    assert notes.last["test/loss"] < truth.var(axis=0).mean() / 10
    assert "test/error" not in notes.last


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("squared_error", "loss SquaredError: a regression expects numbers as targets, and the data"
         " set has class labels; use a loss for a classification, such as cross_entropy"),
        ("cross_entropy", "loss CrossEntropy: a classification expects class labels as targets, and"
         " the data set has numbers; use a loss for a regression, such as squared_error; if "
         "they are labels, store them as integers"),
    ],
)  # fmt: skip
def test_a_loss_of_another_kind_than_the_data_is_refused(loss: str, message: str) -> None:
    plain = make(problem())
    data = problem() if loss == "squared_error" else regression()
    options = dataclasses.replace(plain.options, loss=LOSSES[loss]())
    with pytest.raises(ValueError, match=message):
        Trainer(plain.network, data, plain.optimizer, plain.normalization, options)


def test_a_regression_has_no_labels_to_smooth() -> None:
    plain = make(problem())
    options = dataclasses.replace(plain.options, loss=SquaredError(), label_smoothing=0.1)
    with pytest.raises(ValueError, match=r"label_smoothing=0\.1: a regression has no labels"):
        Trainer(plain.network, regression(), plain.optimizer, plain.normalization, options)


def test_predictions_of_stored_images_are_those_of_the_evaluation() -> None:
    data, trained = problem(), make(problem(), epochs=6)
    result = trained.run(Notes())
    images = data.test.inputs.reshape(-1, 8, 5)
    np.testing.assert_array_equal(
        trained.predict(images, trained.best_parameters), result.probabilities
    )
    last = trained.predict(data.test.inputs)
    assert last.shape == result.probabilities.shape
    assert np.mean(last.argmax(axis=1) != data.test.labels) < 0.8
    normalized = np.empty(data.test.inputs.shape, np.float32)
    trained.normalization.apply(data.test.inputs, out=normalized)
    assert trained.network.predict(normalized, 100).shape == last.shape


def test_the_compiled_epoch_takes_no_normalization_with_an_own_apply() -> None:
    class Shifted(normalization.Standard):
        def apply(self, inputs: np.ndarray, out: np.ndarray) -> None:
            super().apply(inputs, out)
            np.add(out, 1, out=out)

    made = make(problem())
    arguments = (made.network, mostly_background(problem().train), made.optimizer)
    assert not compiled.unsupported(*arguments, normalization.Standard(), made.options)
    assert compiled.unsupported(*arguments, Shifted(), made.options)


def test_the_compiled_epoch_takes_small_batches_of_images_that_are_mostly_background() -> None:
    dense, sparse = problem().train, mostly_background(problem().train)
    for part, batch, expected in (
        (sparse, 32, ""),
        (sparse, 64, "batch up to 32"),
        (dense, 32, "less than 30% of the inputs other than 0"),
    ):
        made = make(problem(), batch=batch)
        arguments = made.network, part, made.optimizer, made.normalization, made.options
        assert compiled.unsupported(*arguments) == expected


def mostly_background(part: Part) -> Part:
    is_ink = np.random.default_rng(3).random(part.inputs.shape) < 0.2
    return Part(np.where(is_ink, part.inputs, 0).astype(np.uint8), part.labels, part.rows)


def test_a_regression_by_an_objective_of_errors_goes_by_the_lowest_loss() -> None:
    """`val/error:max` as well: there is no error, and a higher loss is not better."""
    data = regression()
    options = Options(
        batch=16, lr=0.01, epochs=1, seed=1, loss=SquaredError(), maximize=True,
    )  # fmt: skip
    network = Network.create(
        mlp(data.input_shape, data.outputs, width=3),
        math.prod(data.input_shape),
        randomness.generators(1)["weights"],
    )
    made = Trainer(
        network, data, SGD(network.parameters),
        normalization.fit("standard", data.train.inputs, data.train.rows), options,
    )  # fmt: skip
    assert (made.options.objective, made.options.maximize) == (metrics.VAL_LOSS, False)


def test_a_state_of_other_arrays_is_named() -> None:
    made = make(problem())
    arrays, rest = made.state()
    with pytest.raises(ValueError, match=r"do not match the trainer's: optimizer\.moments; an op"):
        made.restore(arrays | {"optimizer.moments": np.zeros(3)}, rest)


def test_an_array_without_dimensions_is_restored() -> None:
    class Counting(SGD):
        def __init__(self, parameters: Any) -> None:
            super().__init__(parameters)
            self.count = np.zeros((), np.int64)

        @property
        def state(self) -> dict[str, np.ndarray]:
            return {"count": self.count}

    made = make(problem())
    made.optimizer = Counting(made.network.parameters)
    arrays, rest = made.state()
    made.restore(arrays | {"optimizer.count": np.array(7)}, rest)
    assert made.optimizer.count == 7
