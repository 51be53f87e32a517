"""The number of threads is a fixed rule of the step and the cores."""

import os
from dataclasses import replace
from typing import Any

import pytest

from harness.nn.activations import Sigmoid
from harness.nn.losses import CrossEntropy
from harness.nn.models import conv, mlp
from harness.nn.network import Network
from harness.nn.optimizers import SGD, Adam
from harness.training.options import Options
from harness.training.threads import cores, threads_of


class OwnLoss(CrossEntropy):
    """Might do anything."""


class OwnActivation(Sigmoid):
    """Might do anything."""


def options(batch: int, **changed: Any) -> Options:
    return replace(Options(batch=batch, lr=0.1, epochs=1), **changed)


@pytest.mark.parametrize(
    ("sizes", "batch", "cores", "expected", "in_blocks"),
    [
        ((784, 256, 10), 32, 8, 1, 2),  # 6.5 million
        ((784, 256, 10), 64, 8, 1, 2),  # 13 million
        ((784, 256, 256, 10), 64, 8, 1, 2),  # 17 million
        ((784, 512, 10), 64, 8, 2, 2),  # 26 million
        ((784, 1024, 1024, 10), 1024, 8, 8, 8),
        ((784, 1024, 1024, 10), 1024, 1, 1, 1),
        ((4, 2), 1, 4, 1, 1),
    ],
)
def test_the_rule(
    sizes: tuple[int, ...], batch: int, cores: int, expected: int, in_blocks: int
) -> None:
    inputs, *width, outputs = sizes
    network = Network(mlp((inputs,), outputs, width=width), inputs)
    numpy, numba = (options(batch, backend=backend) for backend in ("numpy", "numba"))
    assert threads_of(network, Adam, numpy, cores) == expected
    assert threads_of(network, Adam, numba, cores) == in_blocks
    assert threads_of(network, Adam, numba, cores, 3) == 3


@pytest.mark.parametrize(
    "changed",
    [{"ema": 0.9}, {"max_norm": 2.0}, {"adversarial": 0.1}, {"loss": OwnLoss()}],
    ids=lambda changed: next(iter(changed)),
)
def test_steps_that_are_not_trained_in_blocks_must_be_larger(changed: dict[str, Any]) -> None:
    network = Network(mlp((784,), 10, width=256), 784)
    compiled = options(64, backend="numba")
    assert threads_of(network, Adam, compiled, 2) == 2
    assert threads_of(network, Adam, replace(compiled, **changed), 2) == 1
    assert threads_of(network, None, compiled, 2) == 1  # an own optimizer
    assert threads_of(network, SGD, options(32, backend="numba"), 2) == 1  # one kernel an epoch
    for layers in (
        mlp((784,), 10, width=256, dropout=0.1),
        mlp((784,), 10, width=256, activation=OwnActivation()),
    ):
        assert threads_of(Network(layers, 784), Adam, compiled, 2) == 1


def test_a_convolution_uses_its_parameters_at_every_position() -> None:
    network = Network(conv((28, 28), 10, channels=[8, 16], width=128), 784)
    of_convolutions = 2 * (26 * 26 * (9 + 1) * 8 + 11 * 11 * (9 * 8 + 1) * 16)
    assert network.work == of_convolutions + (5 * 5 * 16 + 1) * 128 + 129 * 10
    assert threads_of(network, Adam, options(64), 2) == 2


@pytest.mark.parametrize(("allotted", "expected"), [("3", 3), ("1", 1), ("0", 1)])
def test_a_launcher_allots_cores(
    monkeypatch: pytest.MonkeyPatch, allotted: str, expected: int
) -> None:
    monkeypatch.setenv("HARNESS_CORES", allotted)
    assert cores() == expected


@pytest.mark.parametrize("allotted", [None, ""])
def test_without_a_launcher_the_cores_are_those_of_the_affinity(
    monkeypatch: pytest.MonkeyPatch, allotted: str | None
) -> None:
    monkeypatch.delenv("HARNESS_CORES", raising=False)
    if allotted is not None:
        monkeypatch.setenv("HARNESS_CORES", allotted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert cores() == 7
