"""Delivery: follows the journals of runs and writes them to MLflow.

One delivery process serves a whole command (`python -m harness.tracking.delivery`). Jobs never wait
for it. It takes JSON lines on standard input:

    {"target": {"uri": ..., "artifacts": ...}, "patience": 30}     first
    {"follow": "<run folder>"}                                     any time
    {"close": true}                                                deliver what is left, answer, end

and answers with one JSON line, a `Report`. When its input ends without `close`, the command has
died and it ends at once: what is on disk is delivered by the next command.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from harness.tracking.follower import Follower
from harness.tracking.store import Store, StoreError, Target
from harness.training import journal

POLL_S = 0.2
PATIENCE_S = 30.0
RETRY_S = (0.5, 1.0, 2.0, 5.0)


@dataclass
class Report:
    """How a delivery ended.

    experiments: MLflow ids by name; undelivered: run ids and the reason; refused: run ids and how
    many of their records the store would not take.
    """

    experiments: dict[str, str] = field(default_factory=dict)
    undelivered: dict[str, str] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)


class Delivery:
    """Delivers many journals to one store, and goes on trying while the store is away."""

    def __init__(self, target: Target, store: Store | None = None) -> None:
        self.target = target
        self.store = store
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
            if follower.refused:
                report.refused[follower.folder.name] = follower.refused
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
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is for the log; the answer stands alone
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    lines = os.fdopen(os.dup(0), encoding="utf-8")
    first = json.loads(lines.readline())
    delivery = Delivery(Target(**first["target"]))
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
            print(json.dumps(asdict(delivery.drain(first["patience"]))), file=answer, flush=True)
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
