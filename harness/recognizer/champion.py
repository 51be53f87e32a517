"""Find and load the registered network of a tracking store.

Only the safetensors file of a registered model is downloaded. It is compared with the SHA-256 that
was registered, and nothing in it is executed. Importing MLflow takes seconds, so the functions
import it.
"""

import sqlite3
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.recognizer import recognizer
from harness.recognizer.recognizer import Recognizer
from harness.runfolder.artifacts import sha256
from harness.runfolder.target import Target
from harness.tracking import reading
from harness.tracking.errors import StoreError, answers, existing

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

ALIAS = "champion"
WEIGHTS = "recognizer.safetensors"
RUN = "run.id"
DIGEST = "weights.sha256"  # the tag of a version; versions of other programs have none
OWN = "own.parts"  # the tag of a version that has parts of the user's
PAGE = 100


def registered(target: Target, name: str | None = None, alias: str = ALIAS) -> Recognizer | None:
    """Load the registered network of a name; None if there is none.

    name: None for the only model of this harness that reads pictures and has the alias. Nothing in
    the artifact is executed; a module that it names is imported from where the command runs, see
    `recognizer.load`. Raises `StoreError` if the store cannot be read, `ValueError` if there are
    several, if a module is missing or differs, or if the weights file is not the one that was
    registered.
    """
    if target.database is not None and not _has_alias(target.database, name, alias):
        return None  # without importing MLflow
    from mlflow import MlflowClient

    with answers(target):
        client = MlflowClient(target.uri, target.uri)
        names = [name] if name is not None else _names(client, alias)
        found = [find_version(client, each, alias) for each in names]
        own = [version for version in found if version is not None and DIGEST in version.tags]
        if name is None:
            own = [version for version in own if _reads_pictures(client, version)]
    if len(own) > 1:
        several = ", ".join(version.name for version in own[:9])
        raise ValueError(
            f"{target}: {several} each have the alias {alias}; name one with --run {own[0].name}"
        )
    return _load(client, target, own[0]) if own else None


def _names(client: "MlflowClient", alias: str) -> list[str]:
    """The names of all models that have the alias."""
    names, token = [], None
    while True:
        page = client.search_registered_models(max_results=PAGE, page_token=token)
        names += [model.name for model in page if alias in model.aliases]
        token = page.token
        if not token:
            return names


def _reads_pictures(client: "MlflowClient", version: "ModelVersion") -> bool:
    """Whether a version was trained on pictures of classes, by its run; True if unknown."""
    run = existing(partial(client.get_run, version.run_id)) if version.run_id else None
    return run is None or recognizer.reads_pictures(reading.dataset_of(run))


def _load(client: "MlflowClient", target: Target, version: "ModelVersion") -> Recognizer:
    """Download the weights of a version and load them."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as folder:
        with answers(target):
            source = client.get_model_version_download_uri(version.name, version.version)
            path = download_artifacts(
                artifact_uri=f"{source}/artifacts/{WEIGHTS}",
                dst_path=folder,
                tracking_uri=target.uri,
            )
        expected = version.tags[DIGEST]
        if sha256(Path(path)) != expected:
            raise ValueError(
                f"{version.name} version {version.version}: its weights do not have the registered "
                f"SHA-256 {expected}; delete this version and register the run again"
            )
        return recognizer.load(Path(path), version=f"{version.name} version {version.version}")


def find_version(client: "MlflowClient", name: str, alias: str) -> "ModelVersion | None":
    """The version that an alias points to; None if there is none. Raises `MlflowException`."""
    return existing(
        partial(client.get_model_version_by_alias, name, alias), "INVALID_PARAMETER_VALUE"
    )


def _has_alias(database: Path, name: str | None, alias: str) -> bool:
    """Whether a SQLite store may have the alias, for any name if it is None.

    True if the layout of the store is unknown. Raises `StoreError` if it cannot be opened.
    """
    if not database.is_file():
        return False
    address = f"{database.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            rows = connection.execute(
                "SELECT name FROM registered_model_aliases WHERE alias = ?", (alias,)
            ).fetchall()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_CANTOPEN:  # SQLAlchemy would try for minutes
            raise StoreError(f"{database}: {error}") from error
        return True  # let MLflow report what is wrong
    return bool(rows) if name is None else (name,) in rows
