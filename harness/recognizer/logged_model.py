"""The MLflow model of a run: code that is logged with the weights and executed by MLflow.

It needs NumPy, pandas, safetensors and MLflow but not this package, so that a model can be served
where the harness is not installed. Two artifacts are logged beside it: one safetensors file with
the weights and their description, and `harness/nn/activations.py`, so that every activation that
can be trained can be served. Nothing is pickled. `harness.recognizer.registry` logs this file; no
module imports it.
"""

import importlib.util
import json
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from safetensors import safe_open

BATCH = 1000


class DigitModel(PythonModel):
    """Classifies examples, such as images (N, 28, 28) or (N, 784) of gray values 0 to 255.

    `predict` returns a table with the columns `class`, `name` and `probabilities`.
    """

    def load_context(self, context: Any) -> None:
        """Read the weights, their description and the activation from the artifacts."""
        with safe_open(context.artifacts["weights"], framework="numpy") as file:
            description = json.loads(file.metadata()["harness"])["description"]
            count = len(description["sizes"]) - 1
            self.layers = [
                (file.get_tensor(f"layer{n}.weights"), file.get_tensor(f"layer{n}.bias"))
                for n in range(1, count + 1)
            ]
        table = _execute(context.artifacts["activations"]).ACTIVATIONS
        self.activation = table[description["activation"]]()
        normalization = description["normalization"]
        self.scale, self.shift = normalization["scale"], normalization["shift"]
        self.temperature = description.get("calibration", {}).get("temperature", 1.0)
        self.input_shape = tuple(description["image_shape"])
        self.is_bytes = description.get("dtype", "uint8") == "uint8"
        outputs = description["sizes"][-1]
        self.names = description.get("class_names", [str(label) for label in range(outputs)])

    # MLflow takes an annotation of model_input for a schema, and has none that fits.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """One row per example: class (int), its name, and calibrated probabilities (list)."""
        pixels = self._checked(np.asarray(model_input))
        probabilities = np.concatenate(
            [self._probabilities(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
        )
        classes = probabilities.argmax(axis=1)
        return pd.DataFrame(
            {
                "class": classes,
                "name": [self.names[number] for number in classes],
                "probabilities": probabilities.tolist(),
            }
        )

    def _checked(self, images: Any) -> Any:
        """The examples (N, D), bytes as float32, others as float64. Raises `ValueError`."""
        inputs = self.layers[0][0].shape[0]
        if images.shape[1:] not in ((inputs,), self.input_shape) or not len(images):
            shape = ", ".join(map(str, self.input_shape))
            raise ValueError(
                f"images: expected shape (N, {shape}) or (N, {inputs}), found {images.shape}"
            )
        flat = images.reshape(len(images), inputs)
        if not self.is_bytes:
            return flat.astype(np.float64)
        pixels = flat.astype(np.float32)
        if not (pixels.min() >= 0 and pixels.max() <= 255):
            raise ValueError(
                f"images: expected gray values 0 to 255, found {pixels.min()} to {pixels.max()}"
            )
        return pixels

    def _probabilities(self, pixels: Any) -> Any:
        """softmax(z / T), (N, C) float32, of examples (N, D)."""
        scale, shift = pixels.dtype.type(self.scale), pixels.dtype.type(self.shift)
        a = (pixels * scale + shift).astype(np.float32)
        for weights, bias in self.layers[:-1]:
            z = a @ weights + bias
            a = np.empty_like(z)
            self.activation.forward(z, a)
        logits = (a @ self.layers[-1][0] + self.layers[-1][1]) / self.temperature
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def _execute(path: str) -> Any:
    """The module of a source file, outside `sys.modules`: each loaded model has its own."""
    spec = importlib.util.spec_from_file_location("activations", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


set_model(DigitModel())
