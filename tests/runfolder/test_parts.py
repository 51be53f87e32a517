"""Parts: a name of a table or of the user's module, and keys from its signature.

Covers: harness/runfolder/kinds.py
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.runfolder import parts
from harness.runfolder.kinds import KINDS
from harness.runfolder.parts import Part, PartError
from tests.conftest import ROOT, python_path

SOURCE = """
from dataclasses import dataclass, field
from typing import Annotated, Literal

class Lion:
    def __init__(self, parameters, *, lr: float = 1e-4, weight_decay: float = 0.0,
                 beta: Annotated[float, "decay of the momentum"] = 0.9, steps: int = 3,
                 rule: Literal["sign", "root"] = "sign", sizes: list[int] = [1, 2],
                 cap: float | None = None):
        pass

def bare(parameters, *, beta=0.9):
    pass

def open_ended(parameters, *, beta: float):
    pass

def starless(parameters, beta: float = 0.9, gamma=None, *, lr: float = 0.1): ...
def slashed(parameters, beta: float = 0.9, /): ...
def positional(parameters=None, beta: float = 0.9, *rest, lr: float = 0.1, **more): ...
def needy(parameters, beta, *, lr: float = 0.1): ...
def short(*, lr: float = 0.1): ...
def open_end(*arguments, lr: float = 0.1): ...
def sharp(*, beta: float = 1.0): ...
def odd(parameters, *, beta: int = "many"): ...
def metric(probabilities): ...

number = 3

@dataclass
class Settings:
    alpha: float = 0.1
    layers: list[int] = field(default_factory=lambda: [8])

@dataclass
class Incomplete:
    alpha: float

def fit(settings: Settings, run): ...
def fit_incomplete(settings: Incomplete, run): ...
def fit_bare(settings, run): ...
def fit_plain(settings: dict, run): ...
"""
TYPES = """
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
import numpy as np

class Rule(Enum):
    SIGN = 1

@dataclass
class Inner:
    a: int = 1

class Optimizer:
    def __init__(self, parameters, *, key: ANNOTATION): ...

@dataclass
class Settings:
    key: ANNOTATION

def fit(settings: Settings, run): ...
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("own")
    (folder / "parts_of_test.py").write_text(SOURCE)
    sys.path.insert(0, str(folder))
    yield "parts_of_test"
    sys.path.remove(str(folder))


def test_a_built_in_part_is_completed() -> None:
    assert parts.check("optimizer", "sgd") == Part("sgd")
    adam = parts.check("optimizer", {"name": "adam", "beta1": 0.5})
    assert adam == Part("adam", {"beta1": 0.5, "beta2": 0.999, "epsilon": 1e-8})
    assert not adam.is_own
    assert parts.check("schedule", "constant").options == {"warmup": 0.0}


def test_a_part_of_the_user_s_has_the_keys_of_its_signature(module: str) -> None:
    lion = parts.check("optimizer", {"name": f"{module}:Lion", "steps": 4, "cap": 2})
    assert lion.is_own
    assert lion.options == {
        "beta": 0.9, "steps": 4, "rule": "sign", "sizes": [1, 2], "cap": 2.0,
    }  # fmt: skip
    keys = {key.name: key for key in parts.keys("optimizer", lion.name)}
    assert keys["beta"].meaning == "decay of the momentum"
    assert keys["steps"].meaning == ""
    shared = {key.name: key.default for key in parts.shared_keys("optimizer", lion.name)}
    assert shared == {"lr": 1e-4, "weight_decay": 0.0}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("adm", "optimizer=adm: expected sgd, momentum, adam, adamw, or your own MODULE:NAME; did"),
        (None, "optimizer=null: expected a name, such as sgd"),
        ({"beta1": 0.9}, "optimizer.beta1=0.9: which optimizer? Name it on the command line, opti"),
        ({"name": "sgd", "beta1": 0.9}, "optimizer.beta1: optimizer=sgd has no such key"),
        ({"name": "adam", "betta1": 0.9}, "did you mean 'optimizer.beta1'?"),
        (
            {"name": "adam", "beta1": 1.0},
            "optimizer.beta1=1.0: expected a number from 0 to below 1",
        ),
        ({"name": "adam", "beta1": True}, "optimizer.beta1=true: expected a number from 0"),
        ({"name": "adam", "beta1": "x"}, "optimizer.beta1=x: expected a number from 0"),
        ({"name": "adam", "beta1": ""}, "optimizer.beta1=(nothing): expected a number from 0"),
        ({"name": "M:Lion", "steps": 1.5}, "optimizer.steps=1.5: expected a whole number"),
        ({"name": "M:Lion", "beta": float("nan")}, "optimizer.beta=nan: expected a finite number"),
        ({"name": "M:Lion", "rule": "sing"}, "expected sign, root; did you mean 'sign'?"),
        ({"name": "M:Lion", "sizes": [1, "a"]}, "expected a list, each a whole number"),
        (
            {"name": "M:Lion", "sizes": 8},
            "expected a list, each a whole number; type optimizer.siz",
        ),
        ({"name": "M:Lion", "sizes": 8}, "; type optimizer.sizes=[8]"),
        ({"name": "M:Lion", "cap": "x"}, "optimizer.cap=x: expected a finite number, or null"),
        ({"name": "M:Lion", "lr": 0.1}, "optimizer.lr: optimizer=parts_of_test:Lion has no such"),
        ("M:bare", "the argument 'beta' needs an annotation and a default"),
        ("M:open_ended", "the argument 'beta' needs an annotation and a default"),
        ("M:number", "expected a class or a function, found 3"),
    ],
)
def test_what_is_wrong_is_one_line(module: str, content: Any, expected: str) -> None:
    if isinstance(content, str):
        content = content.replace("M:", f"{module}:")
    elif content and "name" in content:
        content = content | {"name": content["name"].replace("M:", f"{module}:")}
    with pytest.raises(PartError) as caught:
        parts.check("optimizer", content)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trainer_s_keys_are_the_fields_of_its_settings(module: str) -> None:
    trainer = parts.check("trainer", {"name": f"{module}:fit", "alpha": 1})
    assert trainer.options == {"alpha": 1.0, "layers": [8]}
    made = parts.settings_class(trainer.name, parts.factory("trainer", trainer.name))(
        **trainer.options
    )
    assert (made.alpha, made.layers) == (1.0, [8])
    for name, expected in (
        ("fit_incomplete", "Incomplete.alpha needs a default"),
        ("fit_bare", "expected a function fit"),
        ("fit_plain", "expected a function fit"),
        ("Settings", "expected a function fit"),
    ):
        with pytest.raises(PartError, match=expected):
            parts.check("trainer", f"{module}:{name}")


def test_a_training_function_is_checked_where_python_drops_assertions(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def fit(settings: int, run): ...\n")
    done = subprocess.run(
        [sys.executable, "-O", "-m", "harness.run", "trainer=mine:fit"],
        cwd=tmp_path, env=os.environ | python_path(ROOT), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: trainer=mine:fit: expected a function fit(settings:")
    assert done.stderr.count("\n") == 1


def test_every_built_in_part_can_be_checked() -> None:
    for kind in KINDS.values():
        for name in kind.rows:
            assert parts.check(kind.name, name).name == name


@pytest.mark.parametrize(
    ("annotation", "found"),
    [
        ("np.ndarray = None", "numpy.ndarray"),
        ("Path = Path('x')", "pathlib.Path"),
        ("Rule = Rule.SIGN", "Rule"),
        ("tuple[int, int] = (1, 2)", r"tuple\[int, int\]"),
        ("set[int] = frozenset()", r"set\[int\]"),
        ("complex = 1j", "complex"),
        ("np.float32 = np.float32(1)", "numpy.float32"),
        ("Inner = None", "Inner"),
        ("float | np.ndarray = 0.1", "float | numpy.ndarray"),
        ("list[np.ndarray] = None", r"list\[numpy.ndarray\]"),
    ],
)
@pytest.mark.parametrize("kind", ["optimizer", "trainer"])
def test_a_type_that_no_configuration_holds_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, annotation: str, found: str
) -> None:
    name = f"types_{kind}_{abs(hash(annotation))}"
    (tmp_path / f"{name}.py").write_text(TYPES.replace("ANNOTATION", annotation))
    monkeypatch.syspath_prepend(str(tmp_path))
    part = f"{name}:{'Optimizer' if kind == 'optimizer' else 'fit'}"
    with pytest.raises(
        PartError, match=f"{kind}={part}: the type of 'key' is .*{found}; "
    ) as error:
        parts.check(kind, part)
    assert "\n" not in str(error.value)


def test_a_type_that_is_nowhere_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from __future__ import annotations\n" + TYPES.replace("ANNOTATION", "Nowhere = 1")
    (tmp_path / "types_nowhere.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for kind, name in (("optimizer", "Optimizer"), ("trainer", "fit")):
        with pytest.raises(PartError, match=r"cannot be read: name 'Nowhere' is not defined"):
            parts.check(kind, f"types_nowhere:{name}")


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("optimizer", "needy", "expected the positional arguments (parameters), found (parameters,"
         " beta); put * before 'beta' to make it a key"),
        ("optimizer", "short", "expected the positional arguments (parameters), found ()"),
        ("activation", "needy", "expected the positional arguments (), found (parameters, beta)"),
        ("model", "needy", ""),
        ("model", "starless", "the argument 'gamma' needs an annotation and a default"),
        ("optimizer", "starless", "optimizer=parts_of_test:starless: the argument 'gamma' needs"),
        ("optimizer", "slashed", "the argument 'beta' before / cannot be a key; put * before it"),
        ("optimizer", "open_end", ""),
        ("schedule", "sharp", "expected the positional arguments (epochs), found ()"),
        ("optimizer", "odd", "optimizer.beta=many: expected a whole number; this is its default"),
    ],
)  # fmt: skip
def test_a_signature_that_no_call_fits_is_one_line(
    module: str, kind: str, name: str, expected: str
) -> None:
    if not expected:
        parts.keys(kind, f"{module}:{name}")
        return
    with pytest.raises(PartError) as caught:
        parts.keys(kind, f"{module}:{name}")
    assert expected in str(caught.value)


def test_an_argument_with_a_default_is_a_key_also_without_a_star(module: str) -> None:
    part = parts.check("optimizer", {"name": f"{module}:positional", "beta": 0.5})
    assert part.options == {"beta": 0.5}
    assert [key.name for key in parts.shared_keys("optimizer", part.name)] == ["lr"]
    assert [key.name for key in parts.keys("model", f"{module}:positional")] == ["lr"]
    with pytest.raises(PartError, match="expected a finite number"):
        parts.check("optimizer", {"name": f"{module}:positional", "beta": "x"})


def test_a_metric_takes_two_arguments(module: str) -> None:
    with pytest.raises(PartError, match=r"arguments \(probabilities, labels\), found \(probabil"):
        parts.metrics([f"{module}:metric"])
