"""Deliver everything that is on disk, and prove that the store has it."""

import hashlib
import math
import os
from dataclasses import dataclass

from harness.runfolder.journal import JournalError, read
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.delivery import Delivery, Report
from harness.tracking.follower import Follower, points_of
from harness.tracking.process import ENVIRONMENT
from harness.tracking.store import MAX_PARAM, Store, StoreError

Point = tuple[int, float, int]  # step, value, timestamp in ms


@dataclass(frozen=True)
class Proof:
    """One run compared with the store: rows of metrics, and what differs (empty: nothing)."""

    run: str
    rows: int
    differences: tuple[str, ...]


def deliver(target: Target, runs: list[Run], *, relocate: bool = False) -> Report:
    """Deliver the journals of these runs to one store. Raises `StoreError` if it cannot open."""
    os.environ.update(ENVIRONMENT)
    store = Store(target, relocate=relocate) if target.database is not None else None
    delivery = Delivery(target, store)
    for run in runs:
        delivery.follow(run)
    return delivery.drain()


def prove(target: Target, runs: list[Run]) -> list[Proof]:
    """Compare every delivered journal with the store.

    Checks that there is exactly one run, and compares its status, its params, count and digest of
    each metric's rows, and names and sizes of its artifacts. Raises `StoreError` when the store
    does not answer.
    """
    from mlflow.exceptions import MlflowException

    os.environ.update(ENVIRONMENT | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"})  # reading only
    try:
        store = Store(target)
        return [_prove(store, run) for run in runs]
    except (MlflowException, OSError) as error:
        raise StoreError(f"{target.uri}: {str(error).splitlines()[0]}") from error


def send_again(target: Target, runs: list[Run]) -> None:
    """Mark these runs as undelivered: the store does not have all of them."""
    for run in runs:
        Follower(run, target).forget()


def _prove(store: Store, run: Run) -> Proof:
    history = run.history()
    experiment_id = store.experiment(history.create["experiment"])
    stored = store.runs(experiment_id, f"tags.`run.id` = '{run.id}'")
    if len(stored) != 1:
        return Proof(run.id, 0, (f"{len(stored)} runs in the store instead of one",))
    refused = run.delivered().get("refused", {})
    try:
        journal = read(run.journal)[0]
    except JournalError as error:
        return Proof(run.id, 0, (str(error),))
    records = [record for record in journal if str(record["n"]) not in refused]
    expected: dict[str, list[Point]] = {}
    for key, value, ms, step in points_of(records):
        expected.setdefault(key, []).append((step, value, ms))
    info, data = stored[0].info, stored[0].data
    differences = _different_rows(expected, store.points(info.run_id))
    if info.status != history.status.mlflow:
        differences.append(f"status: {info.status} instead of {history.status.mlflow}")
    params = {key: str(value)[:MAX_PARAM] for key, value in history.params.items()}
    if data.params != params:
        differences.append("params: not those of the journal")
    paths = {record["path"] for record in records if record["kind"] == "artifact"}
    differences += _different_artifacts(run, paths, store.artifacts(info.run_id, paths))
    rows = sum(len(points) for points in expected.values())
    return Proof(run.id, rows, tuple(differences))


def _different_rows(expected: dict[str, list[Point]], stored: dict[str, list[Point]]) -> list[str]:
    return [
        f"{key}: {len(stored.get(key, []))} of {len(expected.get(key, []))} rows as in the journal"
        for key in sorted(expected.keys() | stored.keys())
        if _digest(stored.get(key, [])) != _digest(expected.get(key, []))
    ]


def _different_artifacts(run: Run, paths: set[str], stored: dict[str, int]) -> list[str]:
    """stored: sizes in bytes by path."""
    differences = []
    for path in sorted(paths):
        file = run.folder / path
        if path not in stored:
            differences.append(f"{path}: not in the store")
        elif file.is_file() and stored[path] != file.stat().st_size:
            differences.append(f"{path}: {stored[path]} bytes instead of {file.stat().st_size}")
    return differences


def _digest(points: list[Point]) -> str:
    """A digest in which order does not count, NaN equals NaN, and repetition counts."""
    texts = sorted(f"{s} {'nan' if math.isnan(v) else v.hex()} {ms}" for s, v, ms in points)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
