"""The logged model predicts as the recognizer does, without importing the harness."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.nn import activations
from harness.nn.activations import ReLU
from harness.recognizer import registry
from harness.recognizer.recognizer import Recognizer

OWN = """

class Own(ReLU):
    def forward(self, z: Array, out: Array) -> None:
        out[:] = z
        out[z < 0] *= 0.125


ACTIVATIONS["own"] = Own
"""

USE = """
import json, sys
import mlflow, numpy as np
images = np.load("images.npy")
models = [mlflow.pyfunc.load_model(name) for name in sys.argv[1:]]
print(json.dumps([model.predict(images)["probabilities"].tolist() for model in models]))
assert [name for name in sys.modules if name.split(".")[0] == "harness"] == []
"""


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


@pytest.mark.filterwarnings("ignore")
def test_a_new_activation_is_served_where_the_harness_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    images = np.random.default_rng(9).integers(0, 256, (5, 3, 4)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    expected = []

    def save(activation: str) -> None:
        trained, arrays = network(activation)
        expected.append(trained.probabilities(images))
        content = registry.model_content(tmp_path, trained, arrays, images[:2])
        mlflow.pyfunc.save_model(tmp_path / activation, **content)

    for name in activations.ACTIVATIONS:
        save(name)
    # The table of activations as it would be with one more function.
    edited = tmp_path / "edited/activations.py"
    edited.parent.mkdir()
    edited.write_text(Path(activations.__file__).read_text() + OWN)
    monkeypatch.setattr(registry, "ACTIVATIONS", edited)

    class Own(ReLU):
        def forward(self, z: np.ndarray, out: np.ndarray) -> None:
            np.maximum(z, 0.125 * z, out=out)

    monkeypatch.setitem(activations.ACTIVATIONS, "own", Own)
    save("own")

    environment = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    environment.pop("PYTHONPATH", None)
    names = list(activations.ACTIVATIONS)
    done = subprocess.run(
        [sys.executable, "-c", USE, *names],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name, row, probabilities in zip(names, json.loads(done.stdout), expected, strict=True):
        assert np.array(row) == pytest.approx(probabilities, abs=1e-6), name
