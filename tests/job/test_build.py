"""From a configuration to objects: the choice of the backend and the number of BLAS threads."""

import dataclasses
import importlib.util

import pytest

from harness.job import build
from harness.run import compose
from harness.runfolder.config import ConfigError
from harness.runfolder.schema import ScratchConfig

needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="python -m pip install numba"
)


def config(*overrides: str) -> ScratchConfig:
    composed = compose.compose_one(list(overrides))
    assert isinstance(composed, ScratchConfig)
    return composed


def refusal(configuration: ScratchConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        build.backend(dataclasses.replace(configuration, backend="numba"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@needs_numba
@pytest.mark.parametrize("override", ["", "depth=2", "optimizer=adam", "dropout=0.1", "model=conv"])
def test_every_setting_is_compiled(override: str) -> None:
    assert build.backend(config(*filter(None, [override]))) == "numba"
    assert build.backend(config(*filter(None, [override]), "backend=numpy")) == "numpy"


@needs_numba
@pytest.mark.parametrize(("value", "expected"), [("1", "numpy"), ("0", "numba"), ("", "numba")])
def test_where_numba_compiles_nothing_numpy_trains(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", value)
    assert build.backend(config()) == expected
    if value == "1":
        assert "NUMBA_DISABLE_JIT is set" in refusal(config())


def test_a_broken_numba_is_a_warning_only_where_it_would_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(build.numba_loading, "fault", lambda: "broken")
    for setting in ((), ("depth=2",)):
        line = "warning: backend=auto trains with NumPy: broken"
        assert build.slow_backend(config(*setting)) == line
    assert build.slow_backend(config("backend=numpy")) is None


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert build.backend(config()) == "numpy"
    assert "Numba is not installed" in refusal(config())
    assert "`python -m pip install numba`" in (build.slow_backend(config()) or "")
    assert build.slow_backend(config("backend=numpy")) is None
