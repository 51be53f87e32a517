"""The MLflow model of a run: logging it, registering it, and finding the registered one again.

A logged model holds one safetensors file and `logged_model.py`, which MLflow executes. Our
own loading takes the safetensors file only, compares its SHA-256 with the registered one, and
executes nothing. Importing MLflow takes seconds: it happens in the functions.
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
from typing import Any

import numpy as np

from harness.recognizer import recognizer
from harness.recognizer.recognizer import Recognizer
from harness.runfolder import checkpoint
from harness.runfolder.target import Target
from harness.tracking.store import StoreError

NAME, ALIAS = "digits", "champion"
CODE = Path(__file__).with_name("logged_model.py")
WEIGHTS = "recognizer.safetensors"
DIGEST = "weights.sha256"
REQUIREMENTS = ("mlflow", "numpy", "pandas", "safetensors")


@dataclass(frozen=True)
class Version:
    """A registered version. uri: what `mlflow models serve -m` takes."""

    name: str
    number: str
    alias: str

    @property
    def uri(self) -> str:
        """By the alias."""
        return f"models:/{self.name}@{self.alias}"


def register(
    target: Target,
    mlflow_id: str,
    trained: Recognizer,
    arrays: checkpoint.Arrays,
    *,
    name: str = NAME,
    alias: str = ALIAS,
    example: np.ndarray[Any, np.dtype[np.uint8]],
) -> Version:
    """Log a run's network as an MLflow model of that run, register it and set the alias.

    example: a few images (n, rows, columns) uint8. Raises `StoreError`.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    mlflow.set_tracking_uri(target.uri)
    mlflow.set_registry_uri(target.uri)
    client = mlflow.MlflowClient(target.uri, target.uri)
    try:
        mlflow.set_experiment(experiment_id=client.get_run(mlflow_id).info.experiment_id)
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder) / WEIGHTS
            checkpoint.save(weights, arrays, trained.description)
            digest = hashlib.sha256(weights.read_bytes()).hexdigest()
            # MLflow advises type hints, which cannot say what the signature says, on every import.
            with contextlib.redirect_stderr(io.StringIO()):
                logged = Model.log(
                    name="model",
                    artifact_path=None,
                    flavor=mlflow.pyfunc,
                    run_id=mlflow_id,
                    python_model=str(CODE),
                    artifacts={"weights": str(weights)},
                    signature=_signature(),
                    input_example=example,
                    pip_requirements=[f"{each}=={metadata.version(each)}" for each in REQUIREMENTS],
                    metadata={DIGEST: digest, "run.id": trained.description["run"]},
                )
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = client.create_model_version(
            name,
            logged.model_uri,
            run_id=mlflow_id,
            tags={DIGEST: digest, "run.id": trained.description["run"]},
            model_id=logged.model_id,
        )
        client.set_registered_model_alias(name, alias, made.version)
    except (MlflowException, OSError) as error:
        raise StoreError(f"{target.uri}: {str(error).splitlines()[0]}") from error
    return Version(name, str(made.version), alias)


def registered(target: Target, name: str = NAME, alias: str = ALIAS) -> Recognizer | None:
    """The registered network, or None where there is none. Nothing of the artifact is executed.

    Raises `StoreError` when the store cannot be read, `ValueError` when the file is not the
    registered one.
    """
    if target.database is not None and not _has_alias(target.database, name, alias):
        return None  # known without importing MLflow
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(target.uri, target.uri)
        found = client.get_model_version_by_alias(name, alias)
        with tempfile.TemporaryDirectory() as folder:
            place = f"{client.get_model_version_download_uri(name, found.version)}/artifacts"
            path = download_artifacts(
                artifact_uri=f"{place}/{WEIGHTS}", dst_path=folder, tracking_uri=target.uri
            )
            content = Path(path).read_bytes()
            expected = found.tags.get(DIGEST)
            if hashlib.sha256(content).hexdigest() != expected:
                raise ValueError(
                    f"{name} version {found.version}: its weights do not have the registered "
                    f"SHA-256 {expected}; register the run again"
                )
            return recognizer.load(Path(path), version=f"{name} version {found.version}")
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise StoreError(f"{target.uri}: {str(error).splitlines()[0]}") from error


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array

    # MLflow has no signature for "(N, 28, 28) or (N, 784)"; this one passes every array on to the
    # model, which checks shape and range itself.
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
    if not database.is_file():
        return False
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        try:
            row = connection.execute(
                "SELECT 1 FROM registered_model_aliases WHERE name = ? AND alias = ?", (name, alias)
            ).fetchone()
        except sqlite3.DatabaseError:
            return True  # an unknown layout: MLflow shall say
    return row is not None
