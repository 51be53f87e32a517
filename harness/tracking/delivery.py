"""Delivery: follows the journals of runs and writes them to MLflow.

One delivery process serves a whole command (`python -m harness.tracking.delivery`). Jobs never wait
for it. It takes JSON lines on standard input:

    {"target": {"uri": ..., "artifacts": ...}}     first
    {"follow": "<run folder>"}                     any time
    {"close": true}                                deliver what is left, answer, end

and answers with one JSON line, a `Report`. When its input ends without `close`, the command has
died and it ends at once: what is on disk is delivered by the next command.

How far a journal has been delivered stands in the run folder's `delivered.json`. It may lag behind
what MLflow has, never run ahead: the run is found by its own id before one is created, and the same
metrics with the same timestamps are written once however often they are sent.
"""

import json
import math
import os
import queue
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from harness.files import write_text
from harness.tracking.store import Point, Store, StoreError, Target
from harness.training import journal

STATE = "delivered.json"
POLL_S = 0.2
PATIENCE_S = 30.0
RETRY_S = (0.5, 1.0, 2.0, 5.0)


@dataclass
class Report:
    """How a delivery ended. experiments: MLflow ids by name; undelivered: run ids and the
    reason."""

    experiments: dict[str, str] = field(default_factory=dict)
    undelivered: dict[str, str] = field(default_factory=dict)


class Follower:
    """One journal on its way to the store."""

    def __init__(self, folder: Path, target: Target) -> None:
        self.folder = folder
        self.target = target
        self.offset = 0
        self.mlflow_id: str | None = None
        self.experiment_id: str | None = None
        self.error: str | None = None
        state = read_state(folder)
        if state.get("uri") == target.uri:
            self.offset = state["offset"]
            self.mlflow_id = state["mlflow_id"]
            self.experiment_id = state["experiment_id"]

    @property
    def outstanding(self) -> bool:
        """Whether the journal has bytes that were not delivered."""
        return (self.folder / journal.FILE_NAME).stat().st_size > self.offset

    def step(self, store: Store) -> bool:
        """Deliver every complete record that is new. Returns whether there was one."""
        records, end, _ = journal.read(self.folder / journal.FILE_NAME, self.offset)
        if not records:
            return False
        points: list[Point] = []
        for record in records:
            if record["kind"] in ("epoch", "final"):
                points += self._points(store, record)
                continue
            self._flush(store, points)
            self._deliver(store, record)
        self._flush(store, points)
        self.offset = end
        state = {
            "uri": self.target.uri,
            "experiment_id": self.experiment_id,
            "mlflow_id": self.mlflow_id,
            "offset": end,
        }
        write_text(self.folder / STATE, json.dumps(state))
        return True

    def _deliver(self, store: Store, record: dict[str, Any]) -> None:
        if record["kind"] == "create":
            self.experiment_id = store.experiment(record["experiment"])
            self.mlflow_id = store.create_run(self.experiment_id, record)
            store.log(self.mlflow_id, params=record["params"], tags=record["tags"])
            store.log_dataset(self.mlflow_id, record["dataset"])
            return
        assert self.mlflow_id is not None, "a journal begins with its create record"
        match record["kind"]:
            case "start":
                told = {key: str(record[key]) for key in ("host", "threads", "backend")}
                store.log(self.mlflow_id, tags=told)
                store.set_status(self.mlflow_id, "RUNNING")
            case "tags":
                store.log(self.mlflow_id, tags=record["tags"])
            case "artifact":
                if (self.folder / record["path"]).is_file():
                    store.log_artifact(self.mlflow_id, self.folder, record["path"])
            case "end":
                if record["error"]:
                    store.log(self.mlflow_id, tags={"error": record["error"]})
                store.set_status(self.mlflow_id, record["status"], record["ms"])

    def _points(self, store: Store, record: dict[str, Any]) -> list[Point]:
        points = []
        for key, value in record["metrics"].items():
            if not math.isfinite(value):
                # MLflow would store infinity as 1.797e308: say it in a tag instead.
                assert self.mlflow_id is not None
                note = f"{key} = {value} at step {record['epoch']}"
                store.log(self.mlflow_id, tags={"nonfinite": note})
                value = math.nan
            points.append((key, value, record["ms"], record["epoch"]))
        return points

    def _flush(self, store: Store, points: list[Point]) -> None:
        if points:
            assert self.mlflow_id is not None
            store.log(self.mlflow_id, points)
            points.clear()


class Delivery:
    """Delivers many journals to one store, and goes on trying while the store is away."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.store: Store | None = None
        self.followers: dict[Path, Follower] = {}
        self.error: str | None = None
        self._failures = 0
        self._next_try = 0.0

    def follow(self, folder: Path) -> None:
        """Deliver this run's journal from now on."""
        folder = folder.resolve()
        self.followers.setdefault(folder, Follower(folder, self.target))

    def step(self) -> bool:
        """Try to deliver what is new. Returns whether anything was."""
        if time.monotonic() < self._next_try:
            return False
        progress = False
        try:
            if self.store is None:
                self.store = Store(self.target)
            for follower in self.followers.values():
                progress |= self._step(follower, self.store)
        except _failures() as error:
            self.error = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            print(self.error, file=sys.stderr, flush=True)
            self._next_try = time.monotonic() + RETRY_S[min(self._failures, len(RETRY_S) - 1)]
            self._failures += 1
            return progress
        self._failures, self.error = 0, None
        return progress

    def _step(self, follower: Follower, store: Store) -> bool:
        try:
            return follower.step(store)
        except journal.JournalError as error:
            follower.error = str(error)
            return False

    def report(self) -> Report:
        """What was delivered and what was not."""
        report = Report()
        for follower in self.followers.values():
            if follower.experiment_id is not None:
                created = journal.history(follower.folder).create
                report.experiments[created["experiment"]] = follower.experiment_id
            if follower.outstanding:
                why = follower.error or self.error or "no progress"
                report.undelivered[follower.folder.name] = why
        return report

    def drain(self, patience: float = PATIENCE_S) -> Report:
        """Deliver until nothing is left, or nothing has moved for `patience` seconds."""
        last = time.monotonic()
        while any(f.outstanding and f.error is None for f in self.followers.values()):
            if self.step():
                last = time.monotonic()
            elif time.monotonic() - last > patience:
                break
            else:
                time.sleep(POLL_S / 4)
        return self.report()


def read_state(folder: Path) -> dict[str, Any]:
    """What `delivered.json` says, or nothing when there is none or it cannot be read."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return state


def _failures() -> tuple[type[BaseException], ...]:
    """What a store that is away or ill raises."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, StoreError, SQLAlchemyError, OSError)


def main() -> None:
    """The delivery process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which then closes us
    if hasattr(os, "nice"):
        os.nice(10)
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    lines = os.fdopen(os.dup(0), encoding="utf-8")
    delivery = Delivery(Target(**json.loads(lines.readline())["target"]))
    threading.Thread(target=_listen, args=(orders, lines), daemon=True).start()
    while True:
        try:
            order = orders.get(timeout=POLL_S)
        except queue.Empty:
            delivery.step()
            continue
        if "follow" in order:
            delivery.follow(Path(order["follow"]))
        if "close" in order:
            print(json.dumps(asdict(delivery.drain())), flush=True)
            return


def _listen(orders: "queue.SimpleQueue[dict[str, Any]]", lines: TextIO) -> None:
    for line in lines:
        order = json.loads(line)
        orders.put(order)
        if "close" in order:
            return
    os._exit(1)  # the command died without a word


if __name__ == "__main__":
    main()
