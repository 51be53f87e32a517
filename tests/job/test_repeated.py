"""Parts that remember their calls, or change their arguments, are refused; others are not."""

import collections
import functools
import itertools
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from harness.data.augmentation import AUGMENTATIONS
from harness.data.dataset import Dataset
from harness.data.normalization import NORMALIZATIONS, Standard
from harness.job import layer_rehearsal, rehearsal
from harness.nn.activations import ReLU
from harness.nn.layers import Activate, Chain, Dense
from harness.nn.losses import CrossEntropy, SquaredError
from harness.nn.metrics import METRICS
from harness.nn.network import Network
from harness.nn.schedules import SCHEDULES
from harness.runfolder.parts import PartError

X = np.random.default_rng(1).integers(0, 256, (90, 6, 5)).astype(np.uint8)
DATA = Dataset.from_arrays(X, np.arange(90) % 3, num_val=20)
NUMBERS = Dataset.from_arrays(X / 255, np.linspace(0, 9, 90), num_val=20)
KEEPS = "it keeps something from one call to the next"


class Counting(CrossEntropy):
    """Weights grow with the number of calls."""

    calls = 0

    def gradient(self, outputs: Any, targets: Any, out: Any) -> None:
        self.calls += 1
        super().gradient(outputs, targets, out)


class CountingAll(CrossEntropy):
    """The counter is of the class."""

    calls = 0

    def gradient(self, outputs: Any, targets: Any, out: Any) -> None:
        CountingAll.calls += 1
        super().gradient(outputs, targets, out)


total = {"calls": 0}


class CountingInModule(CrossEntropy):
    """The counter is of the module."""

    def gradient(self, outputs: Any, targets: Any, out: Any) -> None:
        total["calls"] += 1
        super().gradient(outputs, targets, out)


class First(SquaredError):
    """Scaled by the first batch that it gets."""

    scale: float | None = None

    def value(self, outputs: Any, targets: Any) -> Any:
        if self.scale is None:
            self.scale = float(abs(targets).mean())
        return super().value(outputs, targets)


class Buffered(CrossEntropy):
    """Keeps memory for results, which is no state."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: dict[tuple[int, ...], np.ndarray] = {}

    def value(self, outputs: Any, targets: Any) -> Any:
        out = self.memory.setdefault(outputs.shape, np.empty_like(outputs))
        out[:] = outputs
        return super().value(out, targets)


class Roomy(CrossEntropy):
    """Keeps more memory than it writes."""

    memory: np.ndarray | None = None

    def value(self, outputs: Any, targets: Any) -> Any:
        if self.memory is None:
            self.memory = np.random.default_rng().normal(size=(99, outputs.shape[1]))
        self.memory[: len(outputs)] = outputs
        return super().value(outputs, targets)


class Clearing(CrossEntropy):
    """Changes its targets."""

    def gradient(self, outputs: Any, targets: Any, out: Any) -> None:
        super().gradient(outputs, targets, out)
        targets[:] = 0


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (Counting, DATA, f"loss=a:b: {KEEPS} (seen in calls)"),
        (CountingAll, DATA, f"loss=a:b: {KEEPS} (seen in CountingAll.calls)"),
        (CountingInModule, DATA, "test_repeated.total.calls)"),
        (First, NUMBERS, f"loss=a:b: {KEEPS} (seen in scale)"),
        (Clearing, DATA, "gradient(outputs, targets, out): must not modify targets"),
        (Buffered, DATA, ""),
        (Roomy, DATA, ""),
        (CrossEntropy, DATA, ""),
        (SquaredError, NUMBERS, ""),
    ],
)
def test_a_loss(
    kind: type, data: Dataset, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(lambda: rehearsal.check_loss("a:b", kind, data), expected)
    assert capsys.readouterr().err == ""


def test_a_wrong_gradient_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    class Sum(CrossEntropy):
        def gradient(self, outputs: Any, targets: Any, out: Any) -> None:
            super().gradient(outputs, targets, out)
            out *= len(out)

    class Float32(Sum):
        """Memory that takes no float64."""

        def predict(self, outputs: Any, out: Any) -> None:
            super().predict(outputs, out)
            np.copyto(np.empty(out.shape, np.float32), out)

    for name, kind in (("a:sum", Sum), ("a:single", Float32)):
        rehearsal.check_loss(name, kind, DATA)
        assert capsys.readouterr().err == (
            f"warning: loss={name}: gradient is not the derivative of the mean of value over the "
            "batch, but 4 times it, the size of the batch\n"
        )


def test_a_wrong_derivative_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a layer and an activation of the user's, in float64 or, where it takes none, float32."""

    class Flat(ReLU):
        def derivative(self, z: Any, a: Any, out: Any) -> None:
            out[:] = 0.5

    class Skip(Chain):
        def forward(self, inputs: Any, training: bool) -> Any:
            return super().forward(inputs, training) + inputs

    class Single(Skip):
        def forward(self, inputs: Any, training: bool) -> Any:
            return super().forward(inputs, training).astype(np.float32)

    def made(layer: Any, activation: Any) -> Callable[[Any], Network]:
        def make(dtype: Any) -> Network:
            layers = [Dense(5), Activate(activation()), layer(), Dense(2)]
            return Network.create(layers, 3, np.random.default_rng(0), dtype)

        return make

    for number, block in enumerate((Skip, Single)):
        make = made(lambda block=block: block(Dense(5)), ReLU)
        layer_rehearsal.check_derivatives(f"model=a:{number}", None, make)
        expected = f"model=a:{number}: {block.__name__}.backward(delta) is not the derivative of"
        assert expected in capsys.readouterr().err
    make = made(lambda: Dense(5), Flat)
    layer_rehearsal.check_derivatives("model=mlp", "activation=a:flat", make)
    assert "warning: activation=a:flat: Flat.derivative is not that of" in capsys.readouterr().err
    layer_rehearsal.check_derivatives("model=a:c", None, made(lambda: Dense(5), ReLU))
    assert capsys.readouterr().err == ""


def closure() -> Callable[[float], float]:
    """Counts in a variable of the function around it."""
    calls = 0

    def factor(time: float) -> float:
        nonlocal calls
        calls += 1
        return 1.0 if calls < 1000 else 0.1

    return factor


def iterated() -> Callable[[float], float]:
    """Counts with an iterator."""
    counter = itertools.count()
    return lambda time: float(next(counter) < 1000)


def drawn() -> Callable[[float], float]:
    """Draws from a generator of its own."""
    return functools.partial(lambda generator, time: generator.random() < 2, random.Random(0))


def remembered() -> Callable[[float], float]:
    """Keeps the last times."""
    last: collections.deque[float] = collections.deque(maxlen=3)
    return lambda time: [last.append(time), 1.0][1]  # type: ignore[func-returns-value]


@pytest.mark.parametrize("make", [closure, iterated, drawn, remembered])
def test_a_schedule_that_counts(make: Callable[[], Any]) -> None:
    refused(lambda: rehearsal.check_schedule("a:b", make, 3), f"schedule=a:b: {KEEPS} (seen in ")


@pytest.mark.parametrize(("last", "warns"), [(-0.5, True), (0.0, False), (-1e-16, False)])
def test_a_schedule_below_0_is_a_warning(
    last: float, warns: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    rehearsal.check_schedule("a:b", lambda: lambda time: 1 if time < 2 else last, 3)
    expected = "warning: schedule=a:b: its factor is -0.5 at time 2.01, so those steps increase"
    assert (expected in capsys.readouterr().err) == warns


@pytest.mark.parametrize("name", SCHEDULES)
def test_built_in_schedules_pass(name: str) -> None:
    rehearsal.check_schedule(name, lambda: SCHEDULES[name](5), 5)


def noise(shape: Any) -> Any:
    """From the global generator."""
    return lambda pixels, generator, out: np.add(pixels, np.random.random(pixels.shape), out=out)


def inverting(shape: Any) -> Any:
    """Changes the pixels."""

    def augment(pixels: Any, generator: Any, out: Any) -> None:
        pixels[:] = 255 - pixels
        out[:] = pixels

    return augment


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (noise, f"augmentation=a:b: {KEEPS}, or draws random numbers of its own"),
        (inverting, "f(pixels, generator, out): must not modify pixels"),
        *((factory, "") for factory in AUGMENTATIONS.values()),
    ],
)
def test_an_augmentation(factory: Any, expected: str) -> None:
    made = factory(DATA.input_shape)
    if made is not None:
        again = functools.partial(factory, DATA.input_shape)
        refused(lambda: rehearsal.check_augmentation("a:b", again, DATA.train), expected)


def remembering(probabilities: Any, labels: Any, seen: list[float] = []) -> float:  # noqa: B006
    """A running mean."""
    seen.append(float(probabilities.max()))
    return float(np.mean(seen))


def sorting(probabilities: Any, labels: Any) -> float:
    """Changes the labels."""
    labels.sort()
    return 0.5


def failing(probabilities: Any, labels: Any) -> float:
    """Needs more examples."""
    raise ValueError("expected 1000 examples")


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (remembering, f"metrics=[a:b]: {KEEPS}"),
        (sorting, "f(probabilities, labels): must not modify labels"),
        (failing, ""),
        *((metric, "") for metric in METRICS.values()),
    ],
)
def test_a_metric(metric: Any, expected: str) -> None:
    refused(lambda: rehearsal.check_metric("a:b", metric, DATA), expected)


class Columns:
    """Mean 0 of each input."""

    def fit(self, inputs: Any, rows: Any = None) -> None:
        self.mean = inputs.mean(axis=0)

    @property
    def state(self) -> Mapping[str, Any]:
        return {"mean": self.mean}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.mean = state["mean"]

    def apply(self, inputs: Any, out: Any) -> None:
        out[:] = inputs - self.mean


class Lost(Columns):
    """Restores something else."""

    def restore(self, state: Mapping[str, Any]) -> None:
        self.mean = state["mean"] - 3


class Forgotten(Columns):
    """Restores nothing."""

    mean = 0.0

    def restore(self, state: Mapping[str, Any]) -> None:
        pass


class Partly(Columns):
    """The state lacks what `apply` uses."""

    def fit(self, inputs: Any, rows: Any = None) -> None:
        super().fit(inputs, rows)
        self.mean_of_all = inputs.mean()

    def apply(self, inputs: Any, out: Any) -> None:
        out[:] = inputs - getattr(self, "mean_of_all", 0)


class Moving(Columns):
    """Goes on fitting."""

    def apply(self, inputs: Any, out: Any) -> None:
        self.mean = 0.9 * self.mean + 0.1 * inputs.mean(axis=0)
        super().apply(inputs, out)


class InPlace(Columns):
    """Changes its inputs."""

    def apply(self, inputs: Any, out: Any) -> None:
        super().apply(inputs, out)
        inputs[:] = 0


class ByCall(Columns):
    """Divides by the deviation of all examples of a call."""

    def apply(self, inputs: Any, out: Any) -> None:
        out[:] = (inputs - self.mean) / (inputs.std() + 1)


@pytest.mark.parametrize(("kind", "warns"), [(ByCall, True), (Columns, False)])
def test_a_normalization_whose_results_depend_on_other_examples_is_a_warning(
    kind: Any, warns: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = kind()
    fitted.fit(DATA.train.inputs, DATA.train.rows)
    rehearsal.check_normalization("a:b", fitted, kind, DATA.train)
    assert ("normalization=a:b: apply(inputs, out): its outpu" in capsys.readouterr().err) == warns


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Lost, "a:b: a new object with the restored state gives different results, and so would"),
        (Forgotten, "a:b: a new object with the restored state gives different results"),
        (Partly, "a:b: a new object with the restored state gives different results"),
        (Moving, f"a:b: {KEEPS} (seen in mean)"),
        (InPlace, "apply(inputs, out): must not modify inputs"),
        (Columns, ""),
        (type("Scaled", (Standard,), {}), ""),
        *((factory, "") for factory in NORMALIZATIONS.values()),
    ],
)
def test_a_normalization(kind: Any, expected: str) -> None:
    fitted, train = kind(), DATA.train
    fitted.fit(train.inputs, train.rows)
    refused(lambda: rehearsal.check_normalization("a:b", fitted, kind, train), expected)


def refused(check: Callable[[], None], expected: str) -> None:
    """Check that this is one line with `expected`, or passes where that is empty."""
    if not expected:
        check()
        return
    with pytest.raises(PartError) as caught:
        check()
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
