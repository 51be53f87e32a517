"""An open tracking store: the code that writes to MLflow.

It uses `MlflowClient` with explicit ids, never the fluent interface, so no environment variable or
active run can redirect what is written. Importing MLflow takes seconds, so `Store` does it.
"""

import json
import os
import shlex
import shutil
import sqlite3
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial, wraps
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from filelock import FileLock

from harness.data.atomic import link
from harness.data.dataset import is_image
from harness.runfolder.about import NOTE
from harness.runfolder.status import RunStatus
from harness.runfolder.target import Target, problem
from harness.tracking import driver, mlflow_private
from harness.tracking.errors import Hopeless, answers, existing, first_line
from harness.tracking.views import EXPERIMENT_TAGS

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run

METRICS_PER_CALL, PARAMS_PER_CALL, TAGS_PER_CALL = 800, 100, 100  # MLflow takes 1000 together
MAX_NAME, MAX_PARAM, MAX_TAG = 250, 6000, 8000
LINKED = 1 << 16  # bytes; the store gets a copy of a smaller file, which can repair it
LOCK_S = 120.0
PAGE = 1000
REPLACED = "replaced"  # tag of a run that `sync --resend` sent again
Point = tuple[int, float, int]  # of a metric: step, value, timestamp in ms
Given = ParamSpec("Given")
Result = TypeVar("Result")


def _asking(
    method: Callable[Concatenate["Store", Given], Result],
) -> Callable[Concatenate["Store", Given], Result]:
    """Decorate a method of `Store` that calls MLflow's client, see `answers`."""

    @wraps(method)
    def ask(store: "Store", /, *args: Given.args, **named: Given.kwargs) -> Result:
        with answers(store.target):
            return method(store, *args, **named)

    return ask


class Store:
    """An open tracking store. Its methods raise `StoreError`, and `OSError` for local files.

    Opening creates the database if there is none, one process at a time and under a temporary name:
    a new database stays broken if two processes migrate it at once or its migration is killed.
    """

    def __init__(self, target: Target, *, relocate: bool = False) -> None:
        self.target = target
        self._names: dict[str, str] = {}  # experiment id -> its name
        self._folders: dict[str, Path | None] = {}  # MLflow id -> `_local_artifacts`
        if wrong := problem(target.uri) or driver.obstacle(target.uri):
            raise Hopeless(f"{target}: {wrong}")
        mlflow_private.load(mlflow_private.DATABASE if target.database else "mlflow")
        moved = self._open(relocate=relocate)
        if target.artifacts and relocate:
            with answers(target), self._locked():
                mlflow_private.relocate(target)
        elif moved:
            raise Hopeless(moved)

    @_asking
    def _open(self, *, relocate: bool) -> str | None:
        """Open the store; return a message if its folder was moved."""
        from alembic.util import CommandError
        from mlflow import MlflowClient
        from sqlalchemy.exc import SQLAlchemyError

        target = self.target
        if target.database is not None and target.database.is_dir():
            # SQLAlchemy would try for minutes.
            raise Hopeless(
                f"{target.database}: expected an SQLite file, found a folder; move it away"
            )
        try:
            with self._locked(), warnings.catch_warnings(action="ignore"):  # MLflow's own
                mlflow_private.create_database(target)
                self.client: MlflowClient = MlflowClient(tracking_uri=target.uri)
                self.client.search_experiments(max_results=1)
                return None if relocate else mlflow_private.moved(target, LOCK_S)
        except (CommandError, SQLAlchemyError, sqlite3.Error) as error:
            if target.database is None or isinstance(error, sqlite3.OperationalError):
                raise
            raise Hopeless(
                f"{target.database}: not a usable MLflow database, or one whose creation was "
                f"interrupted ({first_line(error)}); move it away and deliver everything again "
                "with `python -m harness sync`"
            ) from error

    @_asking
    def identity(self) -> int | None:
        """A number that tells this store from others at the same address; None if unknown.

        It is the creation time of MLflow's first experiment, which every store has and nobody can
        delete for good. It is read each time: a server can be restarted with another database.
        """
        first = existing(partial(self.client.get_experiment, "0"), "PERMISSION_DENIED")
        return int(first.creation_time) if first and first.creation_time else None

    @_asking
    def experiment(self, name: str) -> str:
        """The id of an experiment; created if missing, with artifacts beside the database.

        It is looked up by name each time: after a restart with another database, the same number
        can be another experiment.
        """
        return self._usable(name, self.client.get_experiment_by_name(name))

    def experiment_name(self, experiment_id: str) -> str:
        """The current name of an experiment; requested only once."""
        if experiment_id not in self._names:
            self._names[experiment_id] = self._name(experiment_id)
        return self._names[experiment_id]

    @_asking
    def _name(self, experiment_id: str) -> str:
        return str(self.client.get_experiment(experiment_id).name)

    def _usable(self, name: str, experiment: "Experiment | None") -> str:
        """The id of an experiment from a lookup; create it if it is None."""
        if experiment is None:
            experiment = self._create_experiment(name)
        if experiment.lifecycle_stage == "deleted":
            number = experiment.experiment_id
            restore = restoring(self.target, f"experiments restore --experiment-id {number}")
            raise Hopeless(
                f"experiment {name!r} was deleted in MLflow; {restore}, or let new runs go to "
                "another one with tracking.experiment=NAME"
            )
        return str(experiment.experiment_id)

    def _create_experiment(self, name: str) -> "Experiment":
        from mlflow.exceptions import MlflowException

        with self._locked():
            experiment = self.client.get_experiment_by_name(name)
            if experiment is None:
                root = self.target.artifact_root  # otherwise MLflow takes the working directory
                location = f"{root}/{folder_name(name)}" if root else None
                try:
                    self.client.create_experiment(name, location, EXPERIMENT_TAGS)
                except MlflowException:  # another machine created it first
                    if self.client.get_experiment_by_name(name) is None:
                        raise
                experiment = self.client.get_experiment_by_name(name)
        assert experiment is not None
        return experiment

    @_asking
    def lookup(self, mlflow_id: str | None) -> "Run | None":
        """The run with this MLflow id, in any experiment, even if it is deleted.

        None if there is none, or if it was replaced, see `replace`.
        """
        run = existing(partial(self.client.get_run, mlflow_id)) if mlflow_id else None
        return None if run is None or REPLACED in run.data.tags else run

    @_asking
    def find_run(self, experiment: str, run: str) -> "Run | None":
        """The run that carries our run id; a deleted one only if none is active.

        It is searched for in the experiment of this name, or everywhere if that does not exist,
        because it may have been renamed.
        """
        return self._find_run(self.client.get_experiment_by_name(experiment), run)

    def _find_run(self, named: "Experiment | None", run: str) -> "Run | None":
        ids = [each.experiment_id for each in ([named] if named else self.experiments())]
        runs = self.runs(ids, f"tags.`run.id` = '{run}'", deleted=True) if ids else []
        left = [each for each in runs if REPLACED not in each.data.tags]
        return min(left, key=is_deleted, default=None)

    @_asking
    def experiments(self, *, deleted: bool = True) -> list["Experiment"]:
        """Every experiment of the store."""
        from mlflow.entities import ViewType

        view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
        return pages(partial(self.client.search_experiments, view, PAGE))

    @_asking
    def delete_others(self, experiment_id: str, run: str, mlflow_id: str) -> None:
        """Delete duplicates of a run, left by a creation that the server carried out late.

        This includes a replaced run that somebody restored.
        """
        for other in self.runs([experiment_id], f"tags.`run.id` = '{run}'"):
            if other.info.run_id != mlflow_id:
                self.client.delete_run(other.info.run_id)

    @_asking
    def replace(self, mlflow_id: str) -> None:
        """Delete a run to send it again, because an extra row cannot be removed from it.

        A tag marks it: runs that somebody else deleted stay deleted.
        """
        self.client.set_tag(mlflow_id, REPLACED, "by sync --resend")
        self.client.delete_run(mlflow_id)

    @_asking
    def delete(self, mlflow_id: str) -> None:
        """Move a run to MLflow's deleted runs, unless it is one or does not exist."""
        run = existing(partial(self.client.get_run, mlflow_id))
        if run is not None and not is_deleted(run):
            self.client.delete_run(mlflow_id)

    @_asking
    def restore(self, mlflow_id: str) -> None:
        """Bring a deleted run back. Raises `StoreError` if it was removed for good."""
        if is_deleted(self.client.get_run(mlflow_id)):
            self.client.restore_run(mlflow_id)

    @_asking
    def erase(self, mlflow_id: str) -> None:
        """Remove a run and its artifacts from a local store for good."""
        run = existing(partial(self.client.get_run, mlflow_id))
        if run is None:
            return
        if not is_deleted(run):
            raise Hopeless(f"{self.target}: somebody restored the run in the store, so it is kept")
        path = self._local_artifacts(run)
        if path is not None and path.is_dir():
            shutil.rmtree(path.parent if path.name == "artifacts" else path)
        mlflow_private.erase(self.client, mlflow_id)

    def _local_artifacts(self, run: "Run") -> Path | None:
        """The folder of a run's files, if it is in the folder of a local store."""
        artifacts, root = str(run.info.artifact_uri), self.target.artifact_root
        if root is None or not artifacts.startswith(f"{root}/"):
            return None
        return Path(urllib.request.url2pathname(urllib.parse.urlparse(artifacts).path))

    @_asking
    def open_run(self, record: dict[str, Any], known: str | None = None) -> "Run":
        """Find or create the run of a journal's create record; never creates a duplicate.

        known: its MLflow id, if it was delivered before; it is used wherever the run is by now. A
        run that replaces another one takes over its name, its note, and its renamed experiment.
        """
        before = existing(partial(self.client.get_run, known)) if known else None
        if before is not None and REPLACED not in before.data.tags:
            return before
        named = self.client.get_experiment_by_name(record["experiment"])
        if (found := self._find_run(named, record["run"])) is not None:
            return found
        name, tags = record["name"], record["tags"]
        if before is not None:
            name = before.info.run_name or name
            tags = tags | {key: before.data.tags[key] for key in (NOTE,) if key in before.data.tags}
            named = self.client.get_experiment(before.info.experiment_id)
        return self.client.create_run(
            self._usable(record["experiment"], named),
            start_time=record["ms"],
            tags=_short_tags(tags),
            run_name=name[:MAX_NAME],
        )

    @_asking
    def log(
        self,
        mlflow_id: str,
        points: Mapping[str, Iterable[Point]] | None = None,
        params: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Write metrics, params and tags; repeating a call changes nothing."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [
            Metric(key, value, ms, step)
            for key, rows in (points or {}).items()
            for step, value, ms in rows
        ]
        texts = [Param(k, str(v)[:MAX_PARAM]) for k, v in (params or {}).items()]
        labels = [RunTag(k, v) for k, v in _short_tags(tags or {}).items()]
        for some in zip_longest(
            _chunks(metrics, METRICS_PER_CALL),
            _chunks(texts, PARAMS_PER_CALL),
            _chunks(labels, TAGS_PER_CALL),
            fillvalue=(),
        ):
            self.client.log_batch(mlflow_id, *some, synchronous=True)

    @_asking
    def remove_tag(self, mlflow_id: str, key: str) -> None:
        """Remove a tag, if the run has it."""
        if key in self.client.get_run(mlflow_id).data.tags:
            self.client.delete_tag(mlflow_id, key)

    @_asking
    def log_dataset(self, mlflow_id: str, dataset: dict[str, Any]) -> None:
        """Log the data set as an input of the run."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        kept = ("train", "val", "test", "classes", "image_shape", "class_names", "dtype", "doubts")
        profile = {key: dataset[key] for key in kept if key in dataset}
        shape, dtype = profile.get("image_shape"), np.dtype(profile.get("dtype", "uint8"))
        if shape is not None and not is_image(shape, dtype):
            profile["input_shape"] = profile.pop("image_shape")
        entity = Dataset(
            name=dataset["name"],
            digest=dataset["sha256"][:32],
            source_type="local",
            source=json.dumps({"uri": dataset["source"]}),
            profile=json.dumps(profile),
        )
        tags = [InputTag("mlflow.data.context", "training")]
        try:
            self.client.log_inputs(mlflow_id, [DatasetInput(entity, tags)])
        except MlflowException as error:
            if "unique" not in str(error).lower():
                raise
            # MLflow looks the data set up, then inserts it; another process inserted it in between.
            self.client.log_inputs(mlflow_id, [DatasetInput(entity, tags)])

    def log_artifact(self, mlflow_id: str, folder: Path, path: str) -> None:
        """Log one file of the run folder under the same relative path.

        A large file is hard-linked, not copied, into a local store. That is safe because our code
        and MLflow replace files by renaming, which does not change the other name.
        """
        (folder / path).open("rb").close()  # an unreadable file is not the store's fault
        with answers(self.target):
            if not self._link(mlflow_id, folder, path):
                parent = path.rpartition("/")[0] or None
                self.client.log_artifact(mlflow_id, str(folder / path), parent)

    def _link(self, mlflow_id: str, folder: Path, path: str) -> bool:
        """Make the store's file a hard link, if it can be one."""
        source = folder / path
        if self.target.artifact_root is None or source.stat().st_size < LINKED:
            return False
        if mlflow_id not in self._folders:  # it never changes
            self._folders[mlflow_id] = self._local_artifacts(self.client.get_run(mlflow_id))
        artifacts = self._folders[mlflow_id]
        if artifacts is None:
            return False
        with suppress(OSError):  # e.g. another file system: MLflow copies it or reports the error
            (artifacts / path).parent.mkdir(parents=True, exist_ok=True)
            return link(source, artifacts / path)
        return False

    @_asking
    def download(self, mlflow_id: str, path: str, into: Path) -> Path:
        """A copy of a run's file, in the folder `into`."""
        return Path(self.client.download_artifacts(mlflow_id, path, str(into)))

    @_asking
    def artifacts(self, mlflow_id: str, paths: Iterable[str]) -> dict[str, int]:
        """The sizes in bytes of a run's files in the folders of these paths, by path."""
        return {
            str(info.path): int(info.file_size or 0)
            for folder in sorted({path.rpartition("/")[0] for path in paths})
            for info in self.client.list_artifacts(mlflow_id, folder or None)
            if not info.is_dir
        }

    @_asking
    def set_status(self, mlflow_id: str, status: RunStatus, end_ms: int | None = None) -> None:
        """Set the status. end_ms: when the run ended, Unix time in ms."""
        if end_ms is None:
            mlflow_private.set_status(self.client, mlflow_id, status.mlflow)
        else:
            self.client.set_terminated(mlflow_id, status.mlflow, end_ms)

    @_asking
    def runs(
        self, experiment_ids: list[str], filter_string: str = "", *, deleted: bool = False
    ) -> list["Run"]:
        """All runs of experiments that match MLflow's filter; `deleted` includes deleted ones."""
        from mlflow.entities import ViewType

        view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
        return pages(partial(self.client.search_runs, experiment_ids, filter_string, view, PAGE))

    @_asking
    def points(self, mlflow_id: str, *only: str) -> dict[str, list[Point]]:
        """Every metric of a run, or only some, in the order of steps."""
        keys = only or self.client.get_run(mlflow_id).data.metrics
        return {
            key: sorted(
                (point.step, point.value, point.timestamp)
                for point in self.client.get_metric_history(mlflow_id, key)
            )
            for key in keys
        }

    def _locked(self) -> AbstractContextManager[object]:
        database = self.target.database
        if database is None:
            return nullcontext()
        if database.is_file() and not all(
            os.access(p, os.W_OK) for p in (database, database.parent)
        ):
            return nullcontext()  # this user cannot change it, so it needs no lock
        database.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{database}.lock", timeout=LOCK_S)


def pages(search: Callable[..., Any]) -> list[Any]:
    """All results of a search of MLflow's client, fetched page by page."""
    rows: list[Any] = []
    token = None
    while True:
        page = search(page_token=token)
        rows += page
        token = page.token
        if not token:
            return rows


def _chunks(items: list[Any], length: int) -> Iterable[list[Any]]:
    return (items[begin : begin + length] for begin in range(0, len(items), length))


def _short_tags(tags: dict[str, str]) -> dict[str, str]:
    return {key: value[:MAX_TAG] for key, value in tags.items()}


def restoring(target: Target, command: str) -> str:
    """Words that name the MLflow command to restore what was deleted."""
    uri = shlex.quote(str(target))
    return f"`MLFLOW_TRACKING_URI={uri} mlflow {command}` brings it back"


def is_deleted(run: "Run") -> bool:
    """Whether a run, or its experiment, was deleted in the store; it can still be restored."""
    return bool(run.info.lifecycle_stage == "deleted")


def folder_name(experiment: str) -> str:
    """The name of an experiment as the last part of the URI of its artifacts.

    It is quoted twice, because MLflow decodes the URI once, so any name is exactly one folder.
    """
    name = urllib.parse.quote(experiment, safe="")
    return urllib.parse.quote(name if name.strip(".") else name.replace(".", "%2E"), safe="")
