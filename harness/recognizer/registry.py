"""Log a run's network as an MLflow model and register it.

A logged model consists of one safetensors file and source that MLflow executes: `logged_model.py`,
and a copy of the modules that a network is built from. `champion.py` loads the registered one.
Importing MLflow takes seconds, so the functions import it.
"""

import contextlib
import hashlib
import io
import json
import logging
import re
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from harness.data import normalization
from harness.nn import layers
from harness.recognizer import champion
from harness.recognizer.champion import ALIAS, DIGEST, OWN, RUN, WEIGHTS
from harness.recognizer.recognizer import Recognizer
from harness.runfolder import checkpoint, syntax
from harness.runfolder.artifacts import sha256
from harness.runfolder.objective import Objective
from harness.runfolder.target import Target
from harness.tracking import mlflow_private
from harness.tracking.errors import StoreError, answers
from harness.tracking.store import is_deleted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun
    from mlflow.entities.model_registry import ModelVersion

Examples = NDArray[Any]
CODE = Path(__file__).with_name("logged_model.py")
NN = Path(layers.__file__).parent
BESIDE = (Path(normalization.__file__), Path(syntax.__file__))  # what a model needs beside them
DATASET, SHA256 = "dataset", "data.sha256"  # tags of a version
REQUIREMENTS = ("annotated-types", "mlflow", "numpy", "pandas", "safetensors")


@dataclass(frozen=True)
class Version:
    """A version of a registered model and the alias that points to it.

    replaced: the version that the alias pointed to before, for display; "" if there was none.
    worse: how its value of the objective is worse than that one's, in words; "" if it is not.
    is_new: whether it was made now; an earlier call may have registered the run.
    """

    name: str
    number: str
    alias: str
    replaced: str = ""
    worse: str = ""
    is_new: bool = True

    @property
    def uri(self) -> str:
        """The URI of the model, for `mlflow models serve -m`."""
        return f"models:/{self.name}@{self.alias}"


@dataclass(frozen=True)
class Source:
    """The run of a network: its id, its MLflow id, and the name and SHA-256 of its data set."""

    run: str
    mlflow_id: str
    dataset: str
    sha256: str


def register(
    target: Target,
    source: Source,
    trained: Recognizer,
    arrays: checkpoint.Arrays,
    *,
    name: str,
    alias: str = ALIAS,
    example: Examples,
    replace: bool = False,
) -> Version:
    """Log a run's network as an MLflow model of that run, register it and set the alias.

    A run that is a version of this model already gets no other one, only the alias.
    example: a few examples (N, ...) in the type of the data. replace: move the alias also from a
    version that was trained on another data set. Everything is checked before anything is created,
    and what was created is deleted when a later step fails. Raises `ValueError` or `StoreError`.
    """
    mlflow_private.check_model(name, alias)
    with answers(target):
        client = _connect(target)
        current = champion.find_version(client, name, alias)
        run = client.get_run(source.mlflow_id)
        number = _version_of(client, name, source)
    replaced, worse, is_new = "", "", number is None
    if current is not None and str(current.version) != number:
        tags = current.tags
        with contextlib.suppress(StoreError), answers(target):
            before = client.get_run(current.run_id) if current.run_id else None
            if before is not None:
                if SHA256 not in tags:  # version 0.1 tagged only the run
                    tags = before.data.tags | tags
                if tags.get(SHA256) == source.sha256:
                    worse = _worse(run, before)
        replaced = _check_replaced(current, tags, alias, source, replace=replace)
    if is_deleted(run):
        raise ValueError(f"run {source.run} was deleted in {target}; restore it first")
    with answers(target), contextlib.ExitStack() as undo:
        if number is None:
            number = _create_version(client, name, source, (trained, arrays, example), undo)
        client.set_registered_model_alias(name, alias, number)
        undo.pop_all()
    return Version(name, number, alias, replaced, worse, is_new)


def _version_of(client: "MlflowClient", name: str, source: Source) -> str | None:
    """The newest version of a model that was made of this run; None without one."""
    found = client.search_model_versions(f"run_id = '{source.mlflow_id}'")
    ours = [each for each in found if each.name == name and each.tags.get(RUN) == source.run]
    return str(max(int(each.version) for each in ours)) if ours else None


def _worse(run: "MlflowRun", before: "MlflowRun") -> str:
    """How a run is worse by its objective than another one on the same data, in words, or ""."""
    objective = Objective.of(run.data.params)
    values = [each.data.metrics.get(objective.best_key) for each in (run, before)]
    new, old = values
    if new is None or old is None or objective != Objective.of(before.data.params):
        return ""
    if objective.are_equal(new, old) or objective.order(new) < objective.order(old):
        return ""
    return (
        f"its {objective.title} of {objective.format(new)} is worse than {objective.format(old)} "
        "of the version that it replaces"
    )


def _check_replaced(
    version: "ModelVersion", tags: dict[str, str], alias: str, source: Source, *, replace: bool
) -> str:
    """The version that the alias points to, for display; tags: its own and those of its run.

    Raises `ValueError` if it was trained on another data set, unless `replace`.
    """
    shown_version = f"version {version.version} (run {tags.get(RUN, version.run_id or 'unknown')})"
    if tags.get(SHA256) == source.sha256 or replace:
        return shown_version
    what = f"the data set {tags[DATASET]}" if DATASET in tags else "another data set"
    raise ValueError(
        f"{version.name}@{alias} is {shown_version} of {what}, and run {source.run} was trained on "
        f"{source.dataset} ({source.sha256[:12]}); name another model with --name, or replace it "
        "with --replace"
    )


def model_content(
    folder: Path, trained: Recognizer, arrays: checkpoint.Arrays, example: Examples
) -> dict[str, Any]:
    """The arguments of `mlflow.pyfunc.save_model` for a network; writes its weights to `folder`.

    metadata: the SHA-256 of the weights file, the run id, and the user's own parts if there are
    some: they are imported where the model is loaded.
    """
    weights = folder / WEIGHTS
    checkpoint.save(weights, arrays, trained.description)
    return {
        "python_model": str(CODE),
        "artifacts": {"weights": str(weights), "source": str(copy_source(folder))},
        "signature": _signature(trained),
        "input_example": example,
        "pip_requirements": [f"{each}=={metadata.version(each)}" for each in REQUIREMENTS],
        "metadata": {
            DIGEST: sha256(weights),
            RUN: trained.run_id,
        }
        | ({OWN: ", ".join(trained.own_parts)} if trained.own_parts else {}),
    }


def copy_source(folder: Path) -> Path:
    """Copy the modules that a network is built from, as a package that needs no other.

    It is named by the digest of its content, so that a process can load models of any versions.
    """
    copies = {
        file.name: re.sub(r"^from harness\.nn\.", "from .", file.read_text(), flags=re.MULTILINE)
        for file in sorted([*NN.glob("*.py"), *BESIDE])
    }
    digest = hashlib.sha256(json.dumps(copies).encode()).hexdigest()
    package = folder / f"harness_{digest[:16]}"
    package.mkdir()
    for name, text in copies.items():
        (package / name).write_text(text)
    return package


def _connect(target: Target) -> "MlflowClient":
    """A client of the store, which also becomes the one of MLflow's fluent functions."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(target.uri)
    mlflow.set_registry_uri(target.uri)
    return mlflow.MlflowClient(target.uri, target.uri)


def _create_version(
    client: "MlflowClient",
    name: str,
    source: Source,
    network: tuple[Recognizer, checkpoint.Arrays, Examples],
    undo: contextlib.ExitStack,
) -> str:
    """Log a model and register it, under a new name if need be; returns the version's number.

    undo: gets the calls that delete what was created.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    mlflow.set_experiment(experiment_id=client.get_run(source.mlflow_id).info.experiment_id)
    try:
        client.create_registered_model(name)
        undo.callback(_delete_unused, client, name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    with tempfile.TemporaryDirectory() as folder:
        content = model_content(Path(folder), *network)
        # Whenever it reads the code, MLflow recommends type hints, which cannot express the
        # signature.
        with contextlib.redirect_stderr(io.StringIO()):
            logged = Model.log(
                name="model",
                artifact_path=None,
                flavor=mlflow.pyfunc,
                run_id=source.mlflow_id,
                **content,
            )
    undo.callback(client.delete_logged_model, logged.model_id)
    tags = content["metadata"] | {DATASET: source.dataset, SHA256: source.sha256}
    version = client.create_model_version(
        name, logged.model_uri, run_id=source.mlflow_id, tags=tags, model_id=logged.model_id
    )
    undo.callback(client.delete_model_version, name, version.version)
    return str(version.version)


def _delete_unused(client: "MlflowClient", name: str) -> None:
    """Delete a registered model, unless another process has registered a version meanwhile."""
    if not client.get_registered_model(name).latest_versions:
        client.delete_registered_model(name)


def _signature(trained: Recognizer) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array

    columns: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.long, "class"),
        ColSpec(DataType.string, "name"),
        ColSpec(Array(DataType.double), "probabilities"),
    ]
    if trained.is_regression:
        several = trained.network.outputs > 1
        columns = [ColSpec(Array(DataType.double) if several else DataType.double, "prediction")]
    # MLflow has no signature for "(N, 28, 28) or (N, 784)" and the like, as an array or a data
    # frame. Without one of the inputs it accepts all; the model checks shape, type and range.
    return ModelSignature(outputs=Schema(columns))
