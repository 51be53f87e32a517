"""Denormal numbers count as zero only inside the block, and only in its thread."""

import platform
import sys
import threading
import warnings

import numpy as np
import pytest

from harness.nn import denormals
from harness.nn.models import mlp
from harness.nn.network import Network
from harness.nn.optimizers import Adam

on_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() not in ("x86_64", "aarch64"),
    reason="the floating-point environment is known on Linux only",
)


@on_linux
def test_only_inside_the_block_and_in_its_thread() -> None:
    seen: list[bool] = []
    assert not denormals.are_flushed()
    with denormals.flushed() as is_flushed:
        assert is_flushed
        assert denormals.are_flushed()
        with denormals.flushed():
            assert denormals.are_flushed()
        assert denormals.are_flushed()
        assert np.float32(1e-30) * np.float32(1e-7) == np.float32(1e-37)
    assert not denormals.are_flushed()
    with pytest.raises(ZeroDivisionError), denormals.flushed():
        _ = 1 / 0
    assert not denormals.are_flushed()
    other = threading.Thread(target=lambda: seen.append(denormals.are_flushed()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with denormals.flushed():
            assert float(np.finfo(np.float32).smallest_subnormal) >= 0
    other.start()
    other.join()
    assert seen == [False]


@on_linux
def test_the_state_of_adam_does_not_become_denormal() -> None:
    """Without a gradient its means decay: 0.9^1000 of 1e-3 is below the least normal number."""
    network = Network.create(mlp((4,), 2, width=3), 4, np.random.default_rng(0))
    optimizer = Adam(network.parameters)

    class Nothing:
        def into(self, out: np.ndarray, factor: float = 1.0) -> np.ndarray:
            out[:] = 0
            return out

    optimizer.state["mean"][:] = 1e-3
    with denormals.flushed():
        for _ in range(1000):
            optimizer.step(Nothing(), 1e-3)
    assert (optimizer.state["mean"] == 0).all()


def test_another_platform_trains_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "another")
    with denormals.flushed() as is_flushed:
        assert not is_flushed
        assert not denormals.are_flushed()
