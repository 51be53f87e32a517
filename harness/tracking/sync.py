"""Deliver everything on disk, and prove that the store has it."""

import math
import os
import sys
from collections import Counter
from dataclasses import dataclass

from harness.runfolder import journal
from harness.runfolder.journal import JournalError
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from harness.runfolder.target import Target
from harness.tracking import environment
from harness.tracking.delivery import Delivery, Report
from harness.tracking.errors import StoreError
from harness.tracking.files import Files
from harness.tracking.follower import DELETED, LOST, REMOVED, Follower, points_of
from harness.tracking.store import MAX_PARAM, Point, Store, is_deleted

FOREIGN = (
    "somebody added rows to it, and MLflow cannot remove rows; `python -m harness sync --resend` "
    "moves it to MLflow's deleted runs and sends it again"
)


@dataclass(frozen=True)
class Proof:
    """One run compared with the store.

    rows: how many metric rows it has. differences: what the store lacks and gets by sending the run
    again. damage: what cannot be repaired here. restored: files that were copied back from the
    store. deleted: how somebody deleted the run in the store; then nothing was compared.
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
    """Open a store once. Raises `StoreError` if it does not answer."""
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


def deliver_now(runs: list[Run]) -> list[str]:
    """Deliver what was added to these runs; return a line for each store or run that failed.

    This is for commands that add something to ended runs; `sync` delivers what is left. A run that
    was deleted in its store stays deleted; that prints a note and is not a failure.
    """
    by_target: dict[Target, list[Run]] = {}
    for run in runs:
        if (target := run.target()) is not None:
            by_target.setdefault(target, []).append(run)
    hindered = []
    for target, its in by_target.items():
        try:
            report = deliver(target, its)
        except StoreError as error:
            hindered.append(str(error))
            continue
        hindered += [f"{run_id}: {why}" for run_id, why in report.undelivered.items()]
        for run_id, why in report.deleted.items():
            print(f"note: {run_id} {why}", file=sys.stderr)
    return hindered


def prove(
    target: Target, runs: list[Run], *, verify: bool = False, resend: bool = False
) -> list[Proof]:
    """Compare every delivered journal with the store. verify: also compare stored files' content.

    resend: a run that the store no longer has is a difference, so it is sent again; a run with rows
    that are not in its journal is deleted in the store and sent anew. Otherwise, both are damage.

    It checks that there is exactly one run, and compares its status, its params, the rows of each
    of its metrics, and the names and sizes of its artifacts. Other people's metrics, params and
    tags are not compared. A file that is damaged here and intact in the store is copied back. An
    error with one run is damage of that run; if the store stops answering, later runs have no
    proof. Raises `StoreError` if the store cannot be opened.
    """
    os.environ.update(environment.READING)
    store = Store(target)
    proofs = []
    for run in runs:
        try:
            if run.journal.exists():
                proofs.append(_prove(store, run, verify=verify, resend=resend))
        except StoreError as error:
            proofs.append(Proof(run.id, damage=(f"delivered, but not compared: {error}",)))
            if error.is_silent:
                break
        except OSError as error:
            if run.journal.exists():  # else it was removed meanwhile
                proofs.append(Proof(run.id, damage=(str(error),)))
    return proofs


def send_again(target: Target, runs: list[Run]) -> None:
    """Mark these runs as undelivered, because the store lacks some of their records."""
    for run in runs:
        Follower(run, target).forget()


def _prove(store: Store, run: Run, *, verify: bool, resend: bool) -> Proof:
    history, follower = run.history(), Follower(run, store.target)
    if history.status is RunStatus.DAMAGED:
        return Proof(run.id, damage=(history.error or "",))
    stored = store.lookup(follower.mlflow_id)
    stored = stored or store.find_run(history.create["experiment"], run.id)
    if stored is None:
        if not follower.is_gone(store):
            return Proof(run.id, differences=("the store does not have it",))
        if follower.was_deleted:
            return Proof(run.id, deleted=REMOVED)
        return Proof(run.id, differences=(LOST,)) if resend else Proof(run.id, damage=(LOST,))
    name = store.experiment_name(stored.info.experiment_id)
    renamed = "" if name == history.create["experiment"] else name
    if (is_deleted(stored), renamed) != (follower.was_deleted, follower.renamed):
        follower.was_deleted, follower.renamed = is_deleted(stored), renamed
        follower.save()
    if follower.was_deleted:
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
    expected = points_of(records)
    keys = expected.keys() & data.metrics.keys()
    rows = store.points(info.run_id, *keys) if keys else {}
    differences += _missing_rows(expected, rows)
    foreign = _foreign_rows(expected, rows)
    if foreign and resend:
        store.replace(info.run_id)
        return Proof(run.id, differences=tuple(foreign))
    if info.status != history.status.mlflow:
        differences.append(f"status: {info.status} instead of {history.status.mlflow}")
    params = {key: str(value)[:MAX_PARAM] for key, value in history.create["params"].items()}
    if not params.items() <= data.params.items():
        differences.append("params: not those of the journal")
    is_local = store.target.artifact_root is not None  # reading its files is cheap
    files = Files(store, run, info.run_id, verify=verify or is_local)
    files.compare(records)
    if not files.damage and (wrong := run.problem()):  # a config that cannot be copied back
        files.damage.append(wrong)
    if follower.damaged and not files.damage:
        follower.damaged = {}
        follower.save()
    return Proof(
        run.id,
        sum(map(len, expected.values())),
        (*differences, *files.differences),
        (*foreign, *([FOREIGN] if foreign else []), *files.damage),
        tuple(files.restored),
    )


def _missing_rows(expected: dict[str, list[Point]], stored: dict[str, list[Point]]) -> list[str]:
    """A line for each metric whose rows the store does not have completely."""
    lines = []
    for key, points in sorted(expected.items()):
        missing = (_counted(points) - _counted(stored.get(key, []))).total()
        if missing:
            lines.append(f"{key}: {len(points) - missing} of {len(points)} rows as in the journal")
    return lines


def _foreign_rows(expected: dict[str, list[Point]], stored: dict[str, list[Point]]) -> list[str]:
    """A line for each of our metrics that has extra rows in the store."""
    lines = []
    for key, points in sorted(stored.items()):
        foreign = _counted(points) - _counted(expected[key])
        if foreign:
            step, value, _ = min(foreign)
            lines.append(
                f"{key}: rows in the store that are not in the journal: {foreign.total()}, the "
                f"first is {value} at step {step}"
            )
    return lines


def _counted(points: list[Point]) -> Counter[tuple[int, str, int]]:
    """How often each row occurs: step, value to the last bit, time in ms. NaN equals NaN."""
    return Counter((step, "nan" if math.isnan(value) else repr(value), ms)
                   for step, value, ms in points)  # fmt: skip
