"""Delivers everything that is on disk, and proves that the store has it."""

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

from harness.tracking.delivery import Delivery, Report
from harness.tracking.follower import points_of
from harness.tracking.process import ENVIRONMENT
from harness.tracking.store import Store, Target
from harness.training import journal


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
    """Compare every delivered journal with the store: status, and count and digest of each
    metric."""
    store = Store(target)
    proofs = []
    for folder in folders:
        records = journal.read(folder / journal.FILE_NAME)[0]
        told = journal.history(folder)
        mlflow_id = store.find_run(store.experiment(told.create["experiment"]), told.run)
        if mlflow_id is None:
            proofs.append(Proof(told.run, 0, ("the run is missing",)))
            continue
        expected: dict[str, list[tuple[int, float, int]]] = {}
        for key, value, ms, step in points_of(records):
            expected.setdefault(key, []).append((step, value, ms))
        found = store.points(mlflow_id)
        differences = [
            f"{key}: {len(found.get(key, []))} of {len(expected.get(key, []))} rows"
            for key in sorted(expected.keys() | found.keys())
            if _digest(found.get(key, [])) != _digest(expected.get(key, []))
        ]
        status = store.client.get_run(mlflow_id).info.status
        wanted = "RUNNING" if told.status in ("CREATED", "RUNNING") else told.status
        if status != wanted:
            differences.append(f"status: {status} instead of {wanted}")
        rows = sum(len(points) for points in expected.values())
        proofs.append(Proof(told.run, rows, tuple(differences)))
    return proofs


def _digest(points: list[tuple[int, float, int]]) -> str:
    """Order does not count, NaN equals NaN, repetition does count."""
    texts = sorted(f"{s} {'nan' if math.isnan(v) else v.hex()} {ms}" for s, v, ms in points)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
