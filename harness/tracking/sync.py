"""Deliver everything that is on disk, and prove that the store has it."""

import hashlib
import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.data.atomic import write_atomically
from harness.runfolder import journal
from harness.runfolder.artifacts import Artifact
from harness.runfolder.journal import JournalError, Record
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking import environment
from harness.tracking.delivery import Delivery, Report
from harness.tracking.follower import DELETED, REMOVED, Follower, points_of
from harness.tracking.store import MAX_PARAM, Store, StoreError, failures, first_line, is_deleted

REPORTS = "report/"
Point = tuple[int, float, int]  # step, value, timestamp in ms


@dataclass(frozen=True)
class Proof:
    """One run compared with the store.

    rows: of metrics. differences: what the store lacks, and gets by sending the run again; damage:
    what nothing here can repair; restored: files that were copied back from the store. deleted: how
    somebody deleted the run in the store, where nothing was compared.
    """

    run: str
    rows: int = 0
    differences: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    deleted: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the store has the run as the journal describes it."""
        return not (self.differences or self.damage or self.deleted)


def check(target: Target) -> None:
    """Open a store once. Raises `StoreError` when it does not answer."""
    os.environ.update(environment.DELIVERY)
    Store(target)


def deliver(target: Target, runs: list[Run], *, relocate: bool = False) -> Report:
    """Deliver the journals of these runs to one store. Raises `StoreError` if it cannot open."""
    os.environ.update(environment.DELIVERY)
    store = Store(target, relocate=relocate) if target.database is not None else None
    delivery = Delivery(target, store)
    for run in runs:
        delivery.follow(run)
    return delivery.drain()


def prove(target: Target, runs: list[Run], *, verify: bool = False) -> list[Proof]:
    """Compare every delivered journal with the store. verify: the content of stored files as well.

    Checks that there is exactly one run, and compares its status, its params, count and digest of
    each metric's rows, and names and sizes of its artifacts. What other people added is not
    compared. A file that is damaged here and whole in the store is copied back. Raises
    `StoreError` when the store does not answer.
    """
    os.environ.update(environment.READING)
    try:
        store = Store(target)
        return [_prove(store, run, verify=verify) for run in runs if run.journal.exists()]
    except failures() as error:
        raise StoreError(f"{target}: {first_line(error)}") from error


def send_again(target: Target, runs: list[Run]) -> None:
    """Mark these runs as undelivered: the store does not have all of them."""
    for run in runs:
        Follower(run, target).forget()


def _prove(store: Store, run: Run, *, verify: bool) -> Proof:
    history, follower = run.history(), Follower(run, store.target)
    stored = store.lookup(follower.mlflow_id)
    if stored is None and follower.offset and follower.is_gone(store):
        return Proof(run.id, deleted=REMOVED)
    stored = stored or store.find_run(history.create["experiment"], run.id)
    if stored is None:
        return Proof(run.id, differences=("the store does not have it",))
    if is_deleted(stored):
        return Proof(run.id, deleted=DELETED)
    try:
        records = [r for r in journal.read(run.journal)[0] if str(r["n"]) not in follower.refused]
    except JournalError as error:
        return Proof(run.id, damage=(str(error),))
    info, data = stored.info, stored.data
    differences = []
    copies = store.runs([info.experiment_id], f"tags.`run.id` = '{run.id}'")
    if len(copies) > 1:
        differences.append(f"{len(copies)} runs in the store instead of one")
    expected: dict[str, list[Point]] = {}
    for key, value, ms, step in points_of(records):
        expected.setdefault(key, []).append((step, value, ms))
    keys = expected.keys() & data.metrics.keys()
    differences += _different_rows(expected, store.points(info.run_id, *keys) if keys else {})
    if info.status != history.status.mlflow:
        differences.append(f"status: {info.status} instead of {history.status.mlflow}")
    params = {key: str(value)[:MAX_PARAM] for key, value in history.params.items()}
    if not params.items() <= data.params.items():
        differences.append("params: not those of the journal")
    files = _Files(store, run, info.run_id, verify=verify)
    files.compare(records)
    if not files.damage and (wrong := run.problem()):  # a config that nothing can copy back
        files.damage.append(wrong)
    return Proof(
        run.id,
        sum(map(len, expected.values())),
        (*differences, *files.differences),
        tuple(files.damage),
        tuple(files.restored),
    )


class _Files:
    """Compares a run's recorded files with their records and with the store's copies."""

    def __init__(self, store: Store, run: Run, mlflow_id: str, *, verify: bool) -> None:
        self.store, self.run, self.mlflow_id, self.verify = store, run, mlflow_id, verify
        self.differences: list[str] = []
        self.damage: list[str] = []
        self.restored: list[str] = []

    def compare(self, records: list[Record]) -> None:
        """Compare the last record of each path; a file that is damaged here only is restored."""
        last = {r["path"]: Artifact.of(r) for r in records if r["kind"] == "artifact"}
        plain = {path: each for path, each in last.items() if self._is_inside(each)}
        sizes = self.store.artifacts(self.mlflow_id, plain)
        for path in sorted(plain):
            try:
                self._compare(plain[path], sizes.get(path))
            except OSError as error:
                self.damage.append(f"{path}: {error.strerror or error}")

    def _is_inside(self, artifact: Artifact) -> bool:
        """Whether the path stays in the run folder; nothing else is read or written."""
        try:
            artifact.file(self.run.folder)
        except ValueError as error:
            self.damage.append(str(error))
            return False
        return True

    def _compare(self, artifact: Artifact, size: int | None) -> None:
        """size: in bytes, of the store's copy; None when it has none."""
        here = artifact.damage(self.run.folder)
        there = "is not in the store" if size is None else self._damage_there(artifact, size)
        if here is None and there is None:
            return
        if here is None and size is not None and artifact.path.startswith(REPORTS):
            return  # `compare` has stored a newer report
        if artifact.sha256 is None and here == "is missing" and size is not None:
            return  # a record of version 0.1: the store's copy is the only one
        if here is None and (size is None or artifact.sha256 is not None):
            self.differences.append(f"{artifact.path}: {there}")
        elif here is None:
            self.damage.append(f"{artifact.path}: {there}; no digest says which one is right")
        elif there is None and self._restore(artifact):
            self.restored.append(artifact.path)
        else:
            also = there or "has other content in the store"
            self.damage.append(f"{artifact.path}: {here}, and {also}")

    def _damage_there(self, artifact: Artifact, size: int) -> str | None:
        expected = artifact.size
        if expected is None:  # a record of version 0.1
            file = artifact.file(self.run.folder)
            expected = file.stat().st_size if file.is_file() else size
        if size != expected:
            return f"has {size} bytes in the store instead of {expected}"
        if self.verify and not any(self._copies(artifact)):
            return "has other content in the store"
        return None

    def _restore(self, artifact: Artifact) -> bool:
        """Copy a file back from the store if its digest is right. Returns whether it was."""
        file = artifact.file(self.run.folder)
        for copy in self._copies(artifact):
            file.parent.mkdir(exist_ok=True, parents=True)
            write_atomically(file, lambda target: target.write(copy.read_bytes()))  # noqa: B023
            return True
        return False

    def _copies(self, artifact: Artifact) -> Iterator[Path]:
        """The store's copy in a temporary folder, if it is as its record describes it."""
        with tempfile.TemporaryDirectory() as folder:
            copy = self.store.download(self.mlflow_id, artifact.path, Path(folder))
            measured = Artifact.measure(Path(folder), copy.relative_to(folder).as_posix())
            if artifact.sha256 in (None, measured.sha256):
                yield copy


def _different_rows(expected: dict[str, list[Point]], stored: dict[str, list[Point]]) -> list[str]:
    return [
        f"{key}: {len(stored.get(key, []))} of {len(expected.get(key, []))} rows as in the journal"
        for key in sorted(expected)
        if _digest(stored.get(key, [])) != _digest(expected.get(key, []))
    ]


def _digest(points: list[Point]) -> str:
    """A digest in which order does not count, NaN equals NaN, and repetition counts."""
    texts = sorted(f"{s} {'nan' if math.isnan(v) else v.hex()} {ms}" for s, v, ms in points)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
