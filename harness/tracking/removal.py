"""Delete runs that were removed from `outputs` in the tracking store; restore or erase them.

Deleting is MLflow's soft delete: the run moves to the deleted runs and can be restored.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.data.atomic import write_text
from harness.runfolder import delivered
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.errors import StoreError
from harness.tracking.store import Store

Problems = list[str]  # a line for each run that could not be changed in its store


def delete(outputs: Path, runs: Iterable[Run]) -> Problems:
    """Delete removed runs in their stores, unless they are already deleted there."""
    return _each(outputs, runs, Store.delete, was_deleted=True)


def restore(outputs: Path, runs: Iterable[Run]) -> Problems:
    """Restore runs in their stores if they were deleted there."""
    return _each(outputs, runs, Store.restore, was_deleted=False)


def erase(outputs: Path, runs: Iterable[Run]) -> Problems:
    """Erase removed runs and their artifacts from the store in `outputs`; a server keeps them."""
    local = [run for run in runs if run.delivered().get("store") == Target.local(outputs).key]
    return _each(outputs, local, Store.erase, was_deleted=None)


def _each(
    outputs: Path, runs: Iterable[Run], act: Callable[[Store, str], None],
    *, was_deleted: bool | None,
) -> Problems:  # fmt: skip
    """Act on each run that a store has. was_deleted: the new value in `delivered.json`."""
    problems, stores = [], dict[str, Store | StoreError]()
    for run in runs:
        state = run.delivered()
        mlflow_id, key = state.get("mlflow_id"), state.get("store")
        if not mlflow_id or not key or state.get("was_deleted", False) is was_deleted:
            continue
        if key not in stores:
            stores[key] = _open(Target.named(key, outputs))
        store = stores[key]
        if isinstance(store, StoreError):
            problems.append(f"{run.id}: {store}")
            continue
        try:
            act(store, mlflow_id)
        except StoreError as error:
            problems.append(f"{run.id}: {error}")
            continue
        if was_deleted is not None:
            content = json.dumps(state | {"was_deleted": was_deleted})
            write_text(run.folder / delivered.FILE_NAME, content)
    return problems


def _open(target: Target) -> Store | StoreError:
    try:
        return Store(target)
    except StoreError as error:
        return error
