"""The MLflow model of a run: code that is logged with the weights and executed by MLflow.

It needs NumPy, pandas, safetensors, annotated-types and MLflow but not this package, so that a
model can be served where the harness is not installed. Two artifacts are logged beside it: one
safetensors file with the weights and their description, and a folder with the source of layers,
models, activations, losses and normalizations, so that everything that can be trained can be
served. The user's own parts are imported by their names, if the source files that they consist of
have the digests that were recorded. Nothing is pickled.
`harness.recognizer.registry` logs this file; no module imports it.
"""

import importlib
import importlib.util
import inspect
import json
import math
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from safetensors import safe_open

BATCH = 1000
TABLES = {
    "model": ("models", "MODELS"),
    "activation": ("activations", "ACTIVATIONS"),
    "loss": ("losses", "LOSSES"),
    "normalization": ("normalization", "NORMALIZATIONS"),
}


class NetworkModel(PythonModel):
    """Applies a network to examples (N, ...) or flat (N, D), such as images (N, 28, 28).

    They are an array, nested lists, or a data frame with a column for each of the D numbers.

    `predict` returns a table with the columns `class`, `name` and `probabilities`; of a regression,
    with `prediction`, a number, or a list where the targets are several.
    """

    def load_context(self, context: Any) -> None:
        """Build the network from the artifacts.

        Raises `ValueError` if a module of the user is missing or differs.

        Layers reuse their buffers, so a lock lets one thread predict at a time.
        """
        with safe_open(context.artifacts["weights"], framework="numpy") as file:
            description = json.loads(file.metadata()["harness"])["description"]
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.lock = threading.Lock()
        self.input_shape = tuple(description["image_shape"])
        self.dtype = np.dtype(description.get("dtype", "uint8"))
        self.temperature = description.get("calibration", {}).get("temperature", 1.0)
        package = _package(Path(context.artifacts["source"]))
        self.range = description.get("range")
        self.is_beyond = importlib.import_module(f"{package}.normalization").is_beyond
        self.calibrated = importlib.import_module(f"{package}.losses").predict
        self.network, self.normalization, self.loss = _restored(package, description, arrays)
        names = description.get("class_names")
        self.names = names or [str(label) for label in range(self.network.outputs)]

    # MLflow takes an annotation of model_input for a schema, and has none that fits.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """One row per example: class (int), its name, and calibrated probabilities (list)."""
        examples = self._checked(np.asarray(model_input))
        with self.lock:
            predictions = np.concatenate(
                [self._predictions(examples[i : i + BATCH]) for i in range(0, len(examples), BATCH)]
            )
        if self.loss.kind == "regression":
            single = predictions.shape[1] == 1
            return pd.DataFrame(
                {"prediction": (predictions[:, 0] if single else predictions).tolist()}
            )
        classes = predictions.argmax(axis=1)
        return pd.DataFrame(
            {
                "class": classes,
                "name": [self.names[number] for number in classes],
                "probabilities": predictions.tolist(),
            }
        )

    def _checked(self, examples: Any) -> Any:
        """The examples (N, D), bytes as float32, others in their type. Raises `ValueError`."""
        inputs = self.network.inputs
        if examples.shape[1:] not in ((inputs,), self.input_shape) or not len(examples):
            shapes = {f"(N, {', '.join(map(str, each))})" for each in (self.input_shape, (inputs,))}
            expected = " or ".join(sorted(shapes, key=len, reverse=True))
            raise ValueError(f"examples: expected shape {expected}, found {examples.shape}")
        flat = examples.reshape(len(examples), inputs)
        if flat.dtype.kind not in "biuf":  # of a data frame with columns of several types
            try:
                flat = flat.astype(np.float64)
            except (TypeError, ValueError) as error:
                raise ValueError(f"examples: expected numbers, {error}") from error
        if self.range and self.is_beyond(self.range, flat):
            low, high = self.range
            raise ValueError(
                f"examples: expected values like those that it was trained on, {low:g} to "
                f"{high:g}, found {flat.min():g} to {flat.max():g}; scale them"
            )
        if self.dtype != np.uint8:
            return flat.astype(self.dtype)
        pixels = flat.astype(np.float32)
        if not (pixels.min() >= 0 and pixels.max() <= 255):
            raise ValueError(
                f"examples: expected values 0 to 255, found {pixels.min()} to {pixels.max()}"
            )
        if pixels.max() <= 1 and (pixels % 1).any():
            raise ValueError(
                "examples: expected values 0 to 255, found fractions of 1; multiply them by 255"
            )
        return pixels

    def _predictions(self, examples: Any) -> Any:
        """Calibrated probabilities (n, C) float32 of examples (n, D); of a regression z, (n, K)."""
        inputs = np.empty(examples.shape, np.float32)
        self.normalization.apply(examples, inputs)
        outputs = self.network.forward(inputs)
        predictions = np.empty_like(outputs)
        self.calibrated(self.loss, outputs, self.temperature, predictions)
        return predictions


def _restored(package: str, description: Any, arrays: Any) -> tuple[Any, Any, Any]:
    """The network with its weights, the fitted normalization and the loss."""

    def module(name: str) -> Any:
        return importlib.import_module(f"{package}.{name}")

    _check_code(module("syntax").digest, description)

    def made(kind: str, *arguments: Any, **shared: Any) -> Any:
        node = dict(parts[kind])
        name = node.pop("name")
        place, table = TABLES[kind]
        if ":" in name:
            factory = _imported(f"{kind}={name}", name, description["run"])
        else:
            factory = getattr(module(place), table)[name]
        taken = inspect.signature(factory).parameters
        node |= {key: value for key, value in shared.items() if key in taken}
        return factory(*arguments, **node)

    if "parts" in description:
        parts, shared = description["parts"], dict(description["shared"])
        outputs = description["outputs"]
    else:  # a perceptron, described by its sizes
        _, *widths, outputs = description["sizes"]
        loss = "squared_error" if description.get("classes") == 0 else "cross_entropy"
        named = {"model": "mlp", "activation": description["activation"], "loss": loss}
        parts = {kind: {"name": name} for kind, name in named.items()}
        shared = {"width": widths}
    shape = tuple(description["image_shape"])
    layers = made("model", shape, outputs, **shared, activation=made("activation"))
    network = module("network").Network(layers, math.prod(shape))
    for name, array in network.parameters.arrays.items():
        array[...] = arrays[name]
    factories = {description["normalization"]["name"]: lambda: made("normalization")}
    fitted = module("normalization").load(description["normalization"], arrays, factories)
    return network, fitted, made("loss")


def _check_code(digest: Any, description: Any) -> None:
    """Compare the user's source files with those that trained the network. Raises `ValueError`."""
    if (here := str(Path.cwd())) not in sys.path:  # a server may start without it
        sys.path.insert(0, here)
    run = description["run"]
    for path, expected in description.get("code", {}).items():
        files = (Path(folder, path) for folder in sys.path)
        file = next((each for each in files if each.is_file()), None)
        if file is None:
            raise ValueError(
                f"the model of run {run} needs {path}, which is not in the artifact; start in the "
                "folder where it is, or add the folder to PYTHONPATH"
            )
        if digest(file.read_bytes()) != expected:
            raise ValueError(
                f"{file}: is not what run {run} was trained with; restore it (the run has a copy "
                f"of it, the artifact code/{path})"
            )


def _imported(setting: str, name: str, run: str) -> Any:
    """Import a user's part, `MODULE:NAME`. Raises `ValueError`, one line, if it is missing."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"the model of run {run} has {setting}, which is not in the artifact: {error}; start "
            "in the folder of this module, or add the folder to PYTHONPATH"
        ) from error


def _package(folder: Path) -> str:
    """Import a folder of source files as a package; returns its name, that of the folder."""
    name = folder.name
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return name


set_model(NetworkModel())
