"""Follow the journals of runs and deliver them to MLflow.

One delivery process serves a whole command (`python -m harness.tracking.delivery`). Jobs never wait
for it. It reads JSON lines from standard input:

    {"target": {...}, "log": "<file>", "patience": 30}             first
    {"follow": "<run folder>"}                                     any time
    {"close": true, "view": {...}}                                 deliver what is left, answer, end

and answers with one JSON line, a `Report`. The view of the command's sweep, a `View` or null, is
stored with every experiment that has runs of the sweep. If the input ends without `close`, the
command has died and the process exits at once; the next command delivers what is on disk.
"""

import gc
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from harness.runfolder import ctrl_c
from harness.runfolder.journal import JournalError
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking import environment, mlflow_private
from harness.tracking.errors import Hopeless, StoreError, answers, first_line
from harness.tracking.follower import LOST, Follower
from harness.tracking.store import Store
from harness.tracking.views import View, save_view

POLL_S = 3.0  # one call sends all that a job wrote meanwhile
PAUSE_S = 0.05
PATIENCE_S = 30.0
RETRY_S = (0.5, 1.0, 2.0, 5.0)
FAILURES_PER_STEP = 3
NICENESS = 10


@dataclass
class Report:
    """How a delivery ended.

    experiments: name -> MLflow id. undelivered: run id -> reason. refused: run id -> how many of
    its records the store refused. deleted: run id -> how the run was deleted in the store; nothing
    more is sent to it. comparable: the `undelivered` runs whose journals were sent; a comparison
    with the store can repair them. views: ids of the experiments that got the command's view.
    """

    experiments: dict[str, str] = field(default_factory=dict)
    undelivered: dict[str, str] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, str] = field(default_factory=dict)
    comparable: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)


class Delivery:
    """Delivers many journals to one store, and keeps trying while the store does not answer.

    It has a circuit breaker: after a call without an answer, it pauses for up to 5 s. A run that
    fails on its own, such as one deleted in the store, moves to the end of the queue and does not
    delay the others.

    logs: whether to print every failed attempt to stderr, a log. A command prints the `Report`.
    """

    def __init__(self, target: Target, store: Store | None = None, *, logs: bool = False) -> None:
        self.target = target
        self.store = store
        self.logs = logs
        self.followers: dict[Path, Follower] = {}
        self.error: str | None = None
        self._failures = 0
        self._next_try = 0.0

    def follow(self, run: Run) -> None:
        """Deliver this run's journal from now on."""
        folder = run.folder.resolve()
        self.followers.setdefault(folder, Follower(Run(folder), self.target))

    def step(self) -> bool:
        """Try to deliver what is new. Returns whether there was progress."""
        if time.monotonic() < self._next_try:
            return False
        progress, failed = False, 0
        self.error = None
        for follower in sorted(self.outstanding(), key=lambda follower: follower.failures):
            before = follower.offset
            try:
                if self.store is None:
                    self.store = Store(self.target)
                follower.step(self.store)
                follower.failures, follower.trouble = 0, None
                follower.is_hopeless = False
            except (StoreError, OSError) as error:  # of the store, or of a local file
                follower.failures += 1
                follower.trouble = first_line(error)
                follower.is_hopeless = isinstance(error, (Hopeless, OSError))
                if self.logs:
                    print(f"{follower.run.id}: {follower.trouble}", file=sys.stderr, flush=True)
                failed += 1
                if self.store is None or getattr(error, "is_silent", False):
                    self.error = follower.trouble
            progress |= follower.offset != before
            if self.error is not None or failed == FAILURES_PER_STEP:
                break
        self._failures = self._failures + 1 if failed else 0
        if failed:
            pause = RETRY_S[min(self._failures, len(RETRY_S)) - 1]
            self._next_try = time.monotonic() + pause
        return progress

    def outstanding(self) -> list[Follower]:
        """The followers that have something to deliver and no error."""
        return [f for f in self.followers.values() if f.error is None and f.outstanding]

    def report(self) -> Report:
        """What was delivered and what was not."""
        report = Report()
        for follower in self.followers.values():
            if follower.experiment_id is not None:
                with suppress(JournalError, OSError):  # the follower's error names it
                    created = follower.run.history().create
                    report.experiments[created["experiment"]] = follower.experiment_id
            if follower.refused:
                report.refused[follower.run.id] = len(follower.refused)
            if follower.deleted:
                report.deleted[follower.run.id] = follower.deleted
            elif follower.error or follower.outstanding:
                why = follower.error or follower.trouble or self.error or "no progress"
                report.undelivered[follower.run.id] = why
                if why == LOST:
                    report.comparable.append(follower.run.id)
            elif follower.damaged:
                files = "; ".join(f"{path} {how}" for path, how in follower.damaged.items())
                report.undelivered[follower.run.id] = files
                report.comparable.append(follower.run.id)
        return report

    def drain(self, patience: float = PATIENCE_S) -> Report:
        """Deliver until nothing is left or there was no progress for `patience` seconds.

        Does not wait if waiting cannot help.
        """
        last = time.monotonic()
        while left := self.outstanding():
            if self.step():
                last = time.monotonic()
            elif time.monotonic() - last > patience or all(f.is_hopeless for f in left):
                break
            else:
                time.sleep(PAUSE_S)
        return self.report()

    def save_view(self, view: View, experiment_ids: Iterable[str]) -> list[str]:
        """Store a view with experiments; return the ids of those stored. Errors go to the log."""
        stored: list[str] = []
        for experiment_id in experiment_ids:
            try:
                if self.store is None and self.error is None:  # there was nothing to deliver
                    self.store = Store(self.target)
                if self.store is not None:
                    with answers(self.target):
                        save_view(self.store.client, experiment_id, view)
                    stored.append(experiment_id)
            except (StoreError, ValueError) as error:
                print(first_line(error), file=sys.stderr, flush=True)
        return stored


def main() -> None:
    """The delivery process."""
    ctrl_c.ignore()  # the command handles it and closes the pipe
    _lower_priority()
    environment.set_up(os.environ)
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    broken = None
    try:
        mlflow_private.load()  # takes seconds, so do it before there is work
    except ImportError as error:
        broken = error  # raised once there is a log
    first = orders.get()
    with Path(first["log"]).open("ab") as log:
        os.dup2(log.fileno(), 1)  # the output of libraries goes to the log, not to the answer
        os.dup2(log.fileno(), 2)
    if broken is not None:
        raise broken
    delivery = Delivery(Target(**first["target"]), logs=True)
    if delivery.target.database is not None:
        mlflow_private.load(mlflow_private.DATABASE)
    gc.freeze()  # garbage collection skips the modules
    while True:
        try:
            order = orders.get(timeout=POLL_S)
        except queue.Empty:
            delivery.step()
            continue
        if "follow" in order:
            delivery.follow(Run(Path(order["follow"])))
        if "close" in order:
            report = delivery.drain(first["patience"])
            if order.get("view"):
                view = View(**order["view"])
                report.views = delivery.save_view(view, report.experiments.values())
            print(json.dumps(asdict(report)), file=answer, flush=True)
            return


def _lower_priority() -> None:
    """Lower this process's priority, so it does not slow down training."""
    me = psutil.Process()
    if not hasattr(os, "nice"):
        me.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    elif me.nice() < NICENESS:  # only an administrator can raise a priority
        me.nice(NICENESS)


def _listen(orders: "queue.SimpleQueue[dict[str, Any]]") -> None:
    for line in os.fdopen(os.dup(0), encoding="utf-8"):
        orders.put(json.loads(line))
    os._exit(1)  # the command died


if __name__ == "__main__":
    main()
