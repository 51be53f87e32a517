"""The number of BLAS threads is a fixed rule of the step and the cores."""

import os

import pytest

from harness.nn.models import conv, mlp
from harness.nn.network import Network
from harness.training.threads import blas_threads, cores


@pytest.mark.parametrize(
    ("sizes", "batch", "cores", "expected"),
    [
        ((784, 256, 10), 32, 8, 1),  # 6.5 million
        ((784, 256, 10), 64, 8, 1),  # 13 million
        ((784, 256, 256, 10), 64, 8, 1),  # 17 million
        ((784, 512, 10), 64, 8, 2),  # 26 million
        ((784, 1024, 1024, 10), 1024, 8, 8),
        ((784, 1024, 1024, 10), 1024, 1, 1),
        ((4, 2), 1, 4, 1),
    ],
)
def test_the_rule(sizes: tuple[int, ...], batch: int, cores: int, expected: int) -> None:
    inputs, *width, outputs = sizes
    each = Network(mlp((inputs,), outputs, width=width), inputs).work
    assert blas_threads(each, batch, cores) == expected
    assert blas_threads(each, batch, cores, 3) == 3


def test_a_convolution_uses_its_parameters_at_every_position() -> None:
    network = Network(conv((28, 28), 10, channels=[8, 16], width=128), 784)
    of_convolutions = 2 * (26 * 26 * (9 + 1) * 8 + 11 * 11 * (9 * 8 + 1) * 16)
    assert network.work == of_convolutions + (5 * 5 * 16 + 1) * 128 + 129 * 10
    assert blas_threads(network.work, 64, 2) == 2


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
