"""Delivers everything that is on disk, and proves that the store has it."""

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

from harness.runfolder import journal
from harness.tracking.delivery import Delivery, Report
from harness.tracking.follower import Follower, points_of, read_state
from harness.tracking.process import ENVIRONMENT
from harness.tracking.store import MAX_PARAM, Store, StoreError
from harness.tracking.target import Target

Point = tuple[int, float, int]  # step, value, timestamp in ms


@dataclass(frozen=True)
class Proof:
    """One run compared with the store: rows of metrics, and what differs (empty: nothing)."""

    run: str
    rows: int
    differences: tuple[str, ...]


def deliver(target: Target, folders: list[Path], *, relocate: bool = False) -> Report:
    """Deliver the journals of these folders to one store. Raises `StoreError` if it cannot open."""
    os.environ.update(ENVIRONMENT)
    store = Store(target, relocate=relocate) if target.database is not None else None
    delivery = Delivery(target, store)
    for folder in folders:
        delivery.follow(folder)
    return delivery.drain()


def prove(target: Target, folders: list[Path]) -> list[Proof]:
    """Compare every delivered journal with the store.

    Compared are that there is one run, its status, its params, count and digest of each metric's
    rows, and names and sizes of its artifacts. Raises `StoreError` when the store is away.
    """
    from mlflow.exceptions import MlflowException

    os.environ.update(ENVIRONMENT | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"})  # reading only
    try:
        store = Store(target)
        return [_prove(store, folder) for folder in folders]
    except (MlflowException, OSError) as error:
        raise StoreError(f"{target.uri}: {str(error).splitlines()[0]}") from error


def send_again(target: Target, folders: list[Path]) -> None:
    """Forget what was delivered of these runs: the store does not have it."""
    for folder in folders:
        Follower(folder, target).forget()


def _prove(store: Store, folder: Path) -> Proof:
    told = journal.history(folder)
    runs = store.runs(store.experiment(told.create["experiment"]), f"tags.`run.id` = '{told.run}'")
    if len(runs) != 1:
        return Proof(told.run, 0, (f"{len(runs)} runs in the store instead of one",))
    run = runs[0]
    mlflow_id = run.info.run_id
    refused = read_state(folder).get("refused", {})
    try:
        whole = journal.read(folder / journal.FILE_NAME)[0]
    except journal.JournalError as error:
        return Proof(told.run, 0, (str(error),))
    records = [record for record in whole if str(record["n"]) not in refused]
    expected: dict[str, list[Point]] = {}
    for key, value, ms, step in points_of(records):
        expected.setdefault(key, []).append((step, value, ms))
    found = store.points(mlflow_id)
    differences = [
        f"{key}: {len(found.get(key, []))} of {len(expected.get(key, []))} rows as in the journal"
        for key in sorted(expected.keys() | found.keys())
        if _digest(found.get(key, [])) != _digest(expected.get(key, []))
    ]
    wanted = "SCHEDULED" if told.status == "CREATED" else told.status
    if run.info.status != wanted:
        differences.append(f"status: {run.info.status} instead of {wanted}")
    params = {key: str(value)[:MAX_PARAM] for key, value in told.create["params"].items()}
    if run.data.params != params:
        differences.append("params: other ones than in the journal")
    paths = {record["path"] for record in records if record["kind"] == "artifact"}
    sizes = store.artifacts(mlflow_id, paths)
    for path in sorted(paths):
        here = folder / path
        if path not in sizes:
            differences.append(f"{path}: not in the store")
        elif here.is_file() and sizes[path] != here.stat().st_size:
            differences.append(f"{path}: {sizes[path]} bytes instead of {here.stat().st_size}")
    rows = sum(len(points) for points in expected.values())
    return Proof(told.run, rows, tuple(differences))


def _digest(points: list[Point]) -> str:
    """Order does not count, NaN equals NaN, repetition does count."""
    texts = sorted(f"{s} {'nan' if math.isnan(v) else v.hex()} {ms}" for s, v, ms in points)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
