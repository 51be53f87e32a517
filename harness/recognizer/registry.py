"""Log a run's network as an MLflow model, register it, and load the registered one.

A logged model consists of one safetensors file and two source files that MLflow executes,
`logged_model.py` and `nn/activations.py`. `registered` downloads the safetensors file only,
compares its SHA-256 with the registered one, and executes nothing. Importing MLflow takes seconds,
so the functions import it.
"""

import contextlib
import hashlib
import io
import logging
import os
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.nn import activations
from harness.recognizer import recognizer
from harness.recognizer.recognizer import Recognizer
from harness.runfolder import checkpoint
from harness.runfolder.target import Target
from harness.tracking.store import StoreError, first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models.model import ModelInfo

Images = NDArray[np.uint8]
NAME, ALIAS = "digits", "champion"
CODE = Path(__file__).with_name("logged_model.py")
ACTIVATIONS = Path(activations.__file__)
WEIGHTS = "recognizer.safetensors"
DIGEST = "weights.sha256"
REQUIREMENTS = ("mlflow", "numpy", "pandas", "safetensors")


@dataclass(frozen=True)
class Version:
    """A version of a registered model and the alias that points to it."""

    name: str
    number: str
    alias: str

    @property
    def uri(self) -> str:
        """The URI of the model, for `mlflow models serve -m`."""
        return f"models:/{self.name}@{self.alias}"


def register(
    target: Target,
    mlflow_id: str,
    trained: Recognizer,
    arrays: checkpoint.Arrays,
    *,
    name: str = NAME,
    alias: str = ALIAS,
    example: Images,
) -> Version:
    """Log a run's network as an MLflow model of that run, register it and set the alias.

    example: a few images (N, rows, columns) uint8. Raises `StoreError`.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    client = _connect(target)
    try:
        mlflow.set_experiment(experiment_id=client.get_run(mlflow_id).info.experiment_id)
        with tempfile.TemporaryDirectory() as folder:
            content = model_content(Path(folder), trained, arrays, example)
            # Whenever it reads the code, MLflow recommends type hints, which cannot express the
            # signature.
            with contextlib.redirect_stderr(io.StringIO()):
                logged = Model.log(
                    name="model",
                    artifact_path=None,
                    flavor=mlflow.pyfunc,
                    run_id=mlflow_id,
                    **content,
                )
        version = _create_version(client, name, logged, mlflow_id, content["metadata"])
        client.set_registered_model_alias(name, alias, version)
    except (MlflowException, OSError) as error:
        raise StoreError(f"{target}: {first_line(error)}") from error
    return Version(name, version, alias)


def model_content(
    folder: Path, trained: Recognizer, arrays: checkpoint.Arrays, example: Images
) -> dict[str, Any]:
    """The arguments of `mlflow.pyfunc.save_model` for a network; writes its weights to `folder`.

    metadata: the SHA-256 of the weights file and the run id.
    """
    weights = folder / WEIGHTS
    checkpoint.save(weights, arrays, trained.description)
    return {
        "python_model": str(CODE),
        "artifacts": {"weights": str(weights), "activations": str(ACTIVATIONS)},
        "signature": _signature(),
        "input_example": example,
        "pip_requirements": [f"{each}=={metadata.version(each)}" for each in REQUIREMENTS],
        "metadata": {
            DIGEST: hashlib.sha256(weights.read_bytes()).hexdigest(),
            "run.id": trained.run_id,
        },
    }


def _connect(target: Target) -> "MlflowClient":
    """A client of the store, which also becomes the one of MLflow's fluent functions."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    mlflow.set_tracking_uri(target.uri)
    mlflow.set_registry_uri(target.uri)
    return mlflow.MlflowClient(target.uri, target.uri)


def _create_version(
    client: "MlflowClient", name: str, logged: "ModelInfo", mlflow_id: str, tags: dict[str, str]
) -> str:
    """Register a logged model, under a new name if need be; returns the version number."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        name, logged.model_uri, run_id=mlflow_id, tags=tags, model_id=logged.model_id
    )
    return str(version.version)


def registered(target: Target, name: str = NAME, alias: str = ALIAS) -> Recognizer | None:
    """Load the registered network; None if there is none. Nothing in the artifact is executed.

    Raises `StoreError` if the store cannot be read, `ValueError` if the weights file is not the
    one that was registered.
    """
    if target.database is not None and not _has_alias(target.database, name, alias):
        return None  # without importing MLflow
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(target.uri, target.uri)
        version = client.get_model_version_by_alias(name, alias)
        with tempfile.TemporaryDirectory() as folder:
            source = client.get_model_version_download_uri(name, version.version)
            path = download_artifacts(
                artifact_uri=f"{source}/artifacts/{WEIGHTS}",
                dst_path=folder,
                tracking_uri=target.uri,
            )
            content = Path(path).read_bytes()
            expected = version.tags.get(DIGEST)
            if hashlib.sha256(content).hexdigest() != expected:
                raise ValueError(
                    f"{name} version {version.version}: its weights do not have the registered "
                    f"SHA-256 {expected}; register the run again"
                )
            return recognizer.load(Path(path), version=f"{name} version {version.version}")
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise StoreError(f"{target}: {first_line(error)}") from error


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array

    # MLflow has no signature for "(N, 28, 28) or (N, 784)". This one accepts every array; the model
    # checks shape and range.
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("O"), (-1,))]),
        outputs=Schema(
            [
                ColSpec(DataType.long, "class"),
                ColSpec(Array(DataType.double), "probabilities"),
            ]
        ),
    )


def _has_alias(database: Path, name: str, alias: str) -> bool:
    """Whether a SQLite store may have the alias; True if its layout is unknown."""
    if not database.is_file():
        return False
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        try:
            row = connection.execute(
                "SELECT 1 FROM registered_model_aliases WHERE name = ? AND alias = ?", (name, alias)
            ).fetchone()
        except sqlite3.DatabaseError:
            return True  # let MLflow report what is wrong
    return row is not None
