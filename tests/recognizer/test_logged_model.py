"""The logged model predicts as the recognizer does, without importing the harness."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.nn import activations
from harness.nn.activations import ACTIVATIONS, ReLU
from harness.nn.convolution import Conv2D
from harness.nn.losses import LOSSES, tempered
from harness.nn.models import MODELS
from harness.nn.network import Network
from harness.recognizer import registry
from harness.recognizer.recognizer import Recognizer
from harness.runfolder import own_code
from tests.job.test_trained import OWN as SCALE

OWN = """

class Own(ReLU):
    def forward(self, z: Array, out: Array) -> None:
        out[:] = z
        out[z < 0] *= 0.125


ACTIVATIONS["own"] = Own
"""
PARTS = """
import numpy as np

class Halved:
    initialization, needs_input = "he", False
    def __init__(self, *, below: float = 0.0):
        self.below = below
    def forward(self, z, out):
        out[:] = np.where(z > 0, z, self.below * z) / 2
    def derivative(self, z, a, out):
        out[:] = np.where(a > 0, 0.5, self.below / 2)
"""
PRIOR = """
class Prior:
    kind = "classification"
    def p(self, z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    def value(self, z, t):
        return -(t * np.log(self.p(z) + 1e-12)).sum(axis=1)
    def gradient(self, z, t, out):
        out[:] = (self.p(z) - t) / len(z)
    def predict(self, z, out):
        out[:] = 0
        out += self.p(z) * np.array([0.1, 1, 1, 5])
        out /= out.sum(axis=1, keepdims=True)
"""
OWN_PARTS = PARTS + SCALE + PRIOR
USE = """
import json, sys
import mlflow, numpy as np, pandas as pd
tables = {}
for name in sys.argv[1:]:
    model, examples = mlflow.pyfunc.load_model(name), np.load(f"{name}.npy")
    table = model.predict(examples)
    frame = pd.DataFrame(examples.reshape(len(examples), -1)).rename(columns="x{}".format)
    assert model.predict(frame).equals(table)
    assert model.predict(frame.astype(object)).equals(table)
    tables[name] = {"columns": list(table), "values": table.iloc[:, -1].tolist()}
print(json.dumps(tables))
assert [name for name in sys.modules if name.split(".")[0] == "harness"] == []
"""
pytestmark = pytest.mark.filterwarnings("ignore")


def network(activation: str) -> tuple[Recognizer, dict[str, np.ndarray]]:
    """A network 12-9-4 with random weights."""
    random = np.random.default_rng(8)
    arrays = {
        f"layer{number}.{name}": random.normal(0, 1, shape).astype(np.float32)
        for number, (inputs, outputs) in enumerate(((12, 9), (9, 4)), 1)
        for name, shape in (("weights", (inputs, outputs)), ("bias", (outputs,)))
    }
    description = {
        "run": "abc", "sizes": [12, 9, 4], "activation": activation, "image_shape": [3, 4],
        "normalization": {"name": "x", "scale": 0.01, "shift": -1.0},
        "calibration": {"temperature": 2.0},
    }  # fmt: skip
    return Recognizer(arrays, description), arrays


def of_parts(shape: tuple[int, ...], outputs: int, **parts: Any) -> dict[str, Any]:
    """The description of a network of these parts, as `trained.description` writes it."""
    nodes = {
        "model": {"name": "mlp"},
        "activation": {"name": "tanh"},
        "loss": {"name": "cross_entropy"},
        "normalization": {"name": "standard"},
    }
    return {
        "run": "abc", "image_shape": list(shape), "outputs": outputs, "parts": nodes | parts,
        "shared": {"width": [9, 5], "depth": 1, "dropout": 0.5},
        "normalization": {"name": "standard", "scale": 0.01, "shift": -1.0},
    }  # fmt: skip


def random_arrays(description: dict[str, Any], layers: Any) -> dict[str, np.ndarray]:
    """Random weights of the network that `layers` make."""
    made = Network(layers, int(np.prod(description["image_shape"])))
    random = np.random.default_rng(8)
    return {
        name: random.normal(0, 1, array.shape).astype(np.float32)
        for name, array in made.parameters.arrays.items()
    }


def save(folder: Path, name: str, trained: Recognizer, arrays: Any, examples: Any) -> Any:
    """Save the model and its examples, and return what it must predict."""
    import mlflow

    (folder / f"{name}.files").mkdir()
    content = registry.model_content(folder / f"{name}.files", trained, arrays, examples[:2])
    mlflow.pyfunc.save_model(folder / name, **content)
    np.save(folder / f"{name}.npy", examples)
    return trained.probabilities(examples)


def used(folder: Path, *names: str) -> "subprocess.CompletedProcess[str]":
    """Predict with saved models in a process that knows no harness."""
    environment = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [sys.executable, "-c", USE, *names],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip


def test_a_new_activation_is_served_where_the_harness_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(9).integers(0, 256, (5, 3, 4)).astype(np.uint8)
    expected = {
        name: save(tmp_path, name, *network(name), images) for name in activations.ACTIVATIONS
    }
    # The table of activations as it would be with one more function.
    edited = tmp_path / "edited"
    edited.mkdir()
    for file in registry.NN.glob("*.py"):
        added = OWN if file.name == "activations.py" else ""
        (edited / file.name).write_text(file.read_text() + added)
    monkeypatch.setattr(registry, "NN", edited)

    class Own(ReLU):
        def forward(self, z: np.ndarray, out: np.ndarray) -> None:
            np.maximum(z, 0.125 * z, out=out)

    monkeypatch.setitem(activations.ACTIVATIONS, "own", Own)
    expected["own"] = save(tmp_path, "own", *network("own"), images)
    done = used(tmp_path, *expected)
    assert done.returncode == 0, done.stderr
    for name, table in json.loads(done.stdout).items():
        assert table["columns"] == ["class", "name", "probabilities"]
        assert np.array(table["values"]) == pytest.approx(expected[name], abs=1e-6), name


def test_every_model_loss_and_kind_of_data_is_served(tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    color = random.integers(0, 256, (5, 9, 10, 3)).astype(np.uint8)
    rows = random.normal(0, 100, (1003, 12))  # more than a batch
    tanh = ACTIVATIONS["tanh"]()
    conv = {"name": "conv", "channels": [2, 3], "kernel": 2, "pool": 2}
    perceptrons = {
        (name, dtype, outputs): of_parts((12,), outputs, loss={"name": name}) | {"dtype": dtype}
        for name in LOSSES
        for dtype, outputs in (("float32", 1), ("float64", 3))
    }
    assert set(MODELS) == {"mlp", "conv"}
    expected, single = {}, {}
    description = of_parts((9, 10, 3), 4, model=conv) | {"class_names": list("abcd")}
    options = {key: value for key, value in conv.items() if key != "name"}
    layers = MODELS["conv"]((9, 10, 3), 4, width=[9, 5], activation=tanh, **options)
    assert any(isinstance(layer, Conv2D) for layer in layers)
    arrays = random_arrays(description, layers)
    expected["conv"] = save(tmp_path, "conv", Recognizer(arrays, description), arrays, color)
    for (loss, dtype, outputs), description in perceptrons.items():
        layers = MODELS["mlp"]((12,), outputs, width=[9, 5], activation=tanh)
        arrays = random_arrays(description, layers)
        trained = Recognizer(arrays, description)
        name = f"{loss}-{outputs}"
        expected[name] = save(tmp_path, name, trained, arrays, rows.astype(dtype))
        single[name] = loss == "squared_error" and outputs == 1
    done = used(tmp_path, *expected)
    assert done.returncode == 0, done.stderr
    for name, table in json.loads(done.stdout).items():
        columns = ["prediction"] if "squared" in name else ["class", "name", "probabilities"]
        assert table["columns"] == columns
        values = np.array(table["values"])
        assert values.shape == (expected[name].shape[:1] if single.get(name) else values.shape)
        assert values.reshape(expected[name].shape) == pytest.approx(expected[name], abs=1e-6)


def test_a_data_frame_of_another_width_or_of_texts_is_one_line(tmp_path: Path) -> None:
    import mlflow
    import pandas as pd

    save(tmp_path, "model", *network("relu"), np.zeros((2, 3, 4), np.uint8))
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    for frame, problem in (
        (pd.DataFrame(np.zeros((2, 5))), r"shape \(N, 3, 4\) or \(N, 12\), found \(2, 5\)"),
        (pd.DataFrame([["a", *range(11)]]), "examples: expected numbers, could not convert"),
        (pd.DataFrame(np.full((2, 12), 256.0)), "expected values 0 to 255, found 256"),
    ):
        with pytest.raises(ValueError, match=problem):
            model.predict(frame)


def test_examples_of_another_range_are_refused(tmp_path: Path) -> None:
    """Gray values 0 to 255 for a network of 0 to 16, or of 0 to 1; 0 to 1 for one of 0 to 255."""
    import mlflow

    bytes_, arrays = network("relu")
    few = Recognizer(arrays, bytes_.description | {"range": [0, 16]})
    floats = Recognizer(arrays, bytes_.description | {"range": [0.0, 1.0], "dtype": "float32"})
    images = np.resize(np.arange(13, dtype=np.uint8), (2, 3, 4))
    saved = {"few": few, "floats": floats, "full": bytes_}
    for name, trained in saved.items():
        examples = (images / np.float32(12)) if name == "floats" else images
        save(tmp_path, name, trained, arrays, examples)
        loaded = mlflow.pyfunc.load_model(str(tmp_path / name))
        assert len(loaded.predict(examples)) == 2
        if name == "full":
            fractions = "values 0 to 255, found fractions of 1; multiply them by 255"
            with pytest.raises(ValueError, match=fractions):
                loaded.predict(images / 12)
            continue
        like = f"like those that it was trained on, 0 to {16 if name == 'few' else 1}, found 0 to "
        with pytest.raises(ValueError, match=f"{like}252; scale them"):
            loaded.predict(images * 21)


def test_own_parts_are_imported_where_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "halved_parts.py").write_text(OWN_PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    description = of_parts(
        (3, 4), 4,
        activation={"name": "halved_parts:Halved", "below": 0.25},
        loss={"name": "halved_parts:Prior"},
        normalization={"name": "halved_parts:Scale", "clip": 1.5},
    ) | {
        "normalization": {"name": "halved_parts:Scale"},
        "code": {e.path: e.syntax for e in own_code.sources(["halved_parts:Halved"])},
    }  # fmt: skip
    layers = MODELS["mlp"]((12,), 4, width=[9, 5], activation=ReLU())
    arrays = random_arrays(description, layers)
    arrays["normalization.mean"] = np.linspace(0, 200, 12)
    plain = Recognizer(arrays, dict(description), own=True)
    description |= {"calibration": {"temperature": 3.0}}
    trained = Recognizer(arrays, description, own=True)
    assert trained.own_parts == [
        "activation=halved_parts:Halved",
        "loss=halved_parts:Prior",
        "normalization=halved_parts:Scale",
    ]
    images = np.random.default_rng(9).integers(0, 256, (5, 3, 4)).astype(np.uint8)
    expected = save(tmp_path, "own", trained, arrays, images)
    np.testing.assert_array_equal(expected, tempered(plain.probabilities(images), 3.0))
    done = used(tmp_path, "own")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)["own"]["values"]
    assert np.array(values) == pytest.approx(expected, abs=1e-6)

    (tmp_path / "halved_parts.py").write_text(f"# the same code\n{OWN_PARTS}")
    assert used(tmp_path, "own").returncode == 0
    for change, expected_line in (
        (OWN_PARTS.replace(") / 2", ") / 3"), (
            f"ValueError: {tmp_path}/halved_parts.py: is not what run abc was trained with; "
            "restore it (the run has a copy of it, the artifact code/halved_parts.py)"
        )),
        (None, (
            "ValueError: the model of run abc needs halved_parts.py, which is not in the artifact; "
            "start in the folder where it is, or add the folder to PYTHONPATH"
        )),
    ):  # fmt: skip
        if change is None:
            (tmp_path / "halved_parts.py").unlink()
        else:
            (tmp_path / "halved_parts.py").write_text(change)
        done = used(tmp_path, "own")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == expected_line
