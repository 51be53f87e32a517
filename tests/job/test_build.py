"""From a configuration to objects: the choice of the backend and the number of BLAS threads."""

import dataclasses
import importlib.util
from typing import Any

import pytest

from harness.job import build
from harness.nn import activations
from harness.nn.compiled.supports import MAX_BATCH
from harness.run import compose
from harness.runfolder.config import ConfigError
from harness.runfolder.parts import Part
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
def test_what_the_compiled_epoch_supports_is_compiled() -> None:
    assert build.backend(config()) == "numba"
    assert build.backend(config("backend=numpy")) == "numpy"
    free = ("schedule=onecycle", "schedule.warmup=1", "lr=0.1", "epochs=2", "seed=7", "patience=3")
    others = ("label_smoothing=0.1", "normalization=standard", "activation=relu", "batch=1024")
    assert build.backend(config(*free, *others, "threads=1", "checkpoint.every=0")) == "numba"


@needs_numba
@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("depth=2", "one hidden layer"),
        ("width=[8,4]", "one hidden layer"),
        ("optimizer=momentum", "optimizer=sgd"),
        ("optimizer=adamw", "optimizer=sgd"),
        (f"batch={MAX_BATCH + 1}", "batch up to 1024"),
        ("augmentation=elastic", "augmentation=none"),
        ("dropout=0.1", "no dropout"),
        ("input_dropout=0.1", "no input_dropout"),
        ("weight_decay=0.1", "no weight_decay"),
        ("max_norm=3", "no max_norm"),
        ("adversarial=0.5", "no adversarial"),
        ("ema=0.9", "no ema"),
    ],
)
def test_auto_falls_back_and_numba_is_refused_in_one_line(override: str, expected: str) -> None:
    assert build.backend(config(override)) == "numpy"
    error = refusal(config(override))
    assert error == f"backend=numba: expected {expected}; or use backend=auto"


@needs_numba
def test_a_key_added_later_is_refused() -> None:
    """A field that the compiled epoch does not know is never ignored."""
    later: Any = dataclasses.make_dataclass(
        "Later", [("mixup", float)], bases=(ScratchConfig,), frozen=True, kw_only=True
    )
    plain = config()
    values = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
    assert build.backend(later(**values, mixup=0.0)) == "numba"
    assert build.backend(later(**values, mixup=0.2)) == "numpy"
    assert "expected no mixup;" in refusal(later(**values, mixup=0.2))


@needs_numba
def test_a_key_added_to_a_supported_group_is_refused() -> None:
    plain = config()
    changed = dataclasses.replace(plain, optimizer=Part("sgd", {"clip": 1.0}))
    assert build.backend(changed) == "numpy"
    assert "expected no optimizer.clip;" in refusal(changed)


@needs_numba
def test_an_activation_added_later_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(activations.ReLU):
        pass

    monkeypatch.setitem(activations.ACTIVATIONS, "later", Later)
    changed = dataclasses.replace(config(), activation="later")  # type: ignore[arg-type]
    assert build.backend(changed) == "numpy"
    assert "expected activation=sigmoid or tanh or relu;" in refusal(changed)


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
    assert build.numba_fault(config()) == "broken"
    assert build.numba_fault(config("depth=2")) is None
    assert build.numba_fault(config(), "float32") is None
    assert build.numba_fault(config("backend=numpy")) is None


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert build.backend(config()) == "numpy"
    assert "Numba is not installed" in refusal(config())
