"""The MLflow model of a run: code that travels with its weights and is executed by MLflow alone.

It needs NumPy, pandas, safetensors and MLflow, not this package, so that a model can be served
where the harness is not installed. Nothing here is pickled: the weights and everything else are in
one safetensors file. `harness.recognizer.registry` logs it; nothing imports it.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from safetensors import safe_open

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "sigmoid": lambda z: 0.5 * (1 + np.tanh(0.5 * z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
}
BATCH = 1000


class DigitModel(PythonModel):
    """predict: (N, 28, 28) or (N, 784) gray values -> a table with `class` and `probabilities`."""

    def load_context(self, context: Any) -> None:
        """Read the weights and what stands beside them."""
        with safe_open(context.artifacts["weights"], framework="numpy") as file:
            about = json.loads(file.metadata()["harness"])["description"]
            count = len(about["sizes"]) - 1
            self.layers = [
                (file.get_tensor(f"layer{n}.weights"), file.get_tensor(f"layer{n}.bias"))
                for n in range(1, count + 1)
            ]
        self.activation = ACTIVATIONS[about["activation"]]
        self.scale, self.shift = about["normalization"]["scale"], about["normalization"]["shift"]
        self.temperature = about.get("calibration", {}).get("temperature", 1.0)
        self.image_shape = tuple(about["image_shape"])

    # MLflow takes an annotation of model_input for a schema, and knows none that fits.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """One row per image: the class (int) and the calibrated probabilities (list of float)."""
        pixels = self._checked(np.asarray(model_input))
        found = np.concatenate(
            [self._probabilities(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
        )
        return pd.DataFrame({"class": found.argmax(axis=1), "probabilities": found.tolist()})

    def _checked(self, images: Any) -> Any:
        inputs = self.layers[0][0].shape[0]
        if images.shape[1:] not in ((inputs,), self.image_shape) or not len(images):
            rows, columns = self.image_shape
            raise ValueError(
                f"images: expected shape (N, {rows}, {columns}) or (N, {inputs}), found "
                f"{images.shape}"
            )
        pixels = images.reshape(len(images), inputs).astype(np.float32)
        if not (pixels.min() >= 0 and pixels.max() <= 255):
            raise ValueError(
                f"images: expected gray values 0 to 255, found {pixels.min()} to {pixels.max()}"
            )
        return pixels

    def _probabilities(self, pixels: Any) -> Any:
        below = pixels * np.float32(self.scale) + np.float32(self.shift)
        for weights, bias in self.layers[:-1]:
            below = self.activation(below @ weights + bias)
        logits = (below @ self.layers[-1][0] + self.layers[-1][1]) / self.temperature
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


set_model(DigitModel())
