"""Delivery: follows the journals of runs and writes them to MLflow.

One delivery process serves a whole command (`python -m harness.tracking.delivery`). Jobs never wait
for it. It takes JSON lines on standard input:

    {"target": {...}, "log": "<file>", "patience": 30}             first
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
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from harness.runfolder import journal
from harness.tracking.follower import Follower
from harness.tracking.store import Store, StoreError
from harness.tracking.target import Target

POLL_S = 0.2
PATIENCE_S = 30.0
RETRY_S = (0.5, 1.0, 2.0, 5.0)
ILL_PER_STEP = 3


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
    """Delivers many journals to one store, and goes on trying while the store is away.

    A circuit breaker: after a call that got no answer nothing is tried for a while, which grows to
    5 s. A run that has trouble of its own, such as one deleted in the store, goes to the end of the
    line and does not hold up the others.
    """

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
        progress, ill = False, 0
        self.error = None
        for follower in sorted(self.outstanding(), key=lambda follower: follower.failures):
            before = follower.offset
            try:
                if self.store is None:
                    self.store = Store(self.target)
                follower.step(self.store)
                follower.failures, follower.trouble = 0, None
            except _failures() as error:
                follower.failures += 1
                follower.trouble = _words(error)
                print(f"{follower.folder.name}: {follower.trouble}", file=sys.stderr, flush=True)
                ill += 1
                if self.store is None or not _is_of_one_run(error):
                    self.error = follower.trouble
            progress |= follower.offset != before
            if self.error is not None or ill == ILL_PER_STEP:
                break
        self._failures = self._failures + 1 if ill else 0
        if ill:
            pause = RETRY_S[min(self._failures, len(RETRY_S)) - 1]
            self._next_try = time.monotonic() + pause
        return progress

    def outstanding(self) -> list[Follower]:
        """The runs that have something to deliver and can go on."""
        return [f for f in self.followers.values() if f.error is None and f.outstanding]

    def report(self) -> Report:
        """What was delivered and what was not."""
        report = Report()
        for follower in self.followers.values():
            if follower.experiment_id is not None:
                with suppress(journal.JournalError):  # what is wrong with it, its follower says
                    created = journal.history(follower.folder).create
                    report.experiments[created["experiment"]] = follower.experiment_id
            if follower.refused:
                report.refused[follower.folder.name] = len(follower.refused)
            if follower.error or follower.outstanding:
                why = follower.error or follower.trouble or self.error or "no progress"
                report.undelivered[follower.folder.name] = why
        return report

    def drain(self, patience: float = PATIENCE_S) -> Report:
        """Deliver until nothing is left, or nothing has moved for `patience` seconds."""
        last = time.monotonic()
        while self.outstanding():
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


def _is_of_one_run(error: BaseException) -> bool:
    """Whether the store answered, and with something that concerns this run only."""
    from mlflow.exceptions import RestException

    return isinstance(error, (RestException, StoreError))


def _words(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def main() -> None:
    """The delivery process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which then closes us
    _step_back()
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    broken = None
    try:
        _failures()  # imports MLflow, which takes seconds, before there is anything to do
    except ImportError as error:
        broken = error  # to be said when there is a log to say it in
    first = orders.get()
    with Path(first["log"]).open("ab") as log:
        os.dup2(log.fileno(), 1)  # whatever a library prints is for the log; the answer stands
        os.dup2(log.fileno(), 2)  # alone
    if broken is not None:
        raise broken
    delivery = Delivery(Target(**first["target"]))
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


def _step_back() -> None:
    """Low priority: a training beside this process is not to notice it."""
    me = psutil.Process()
    me.nice(10 if hasattr(os, "nice") else psutil.BELOW_NORMAL_PRIORITY_CLASS)


def _listen(orders: "queue.SimpleQueue[dict[str, Any]]") -> None:
    for line in os.fdopen(os.dup(0), encoding="utf-8"):
        orders.put(json.loads(line))
    os._exit(1)  # the command died without a word


if __name__ == "__main__":
    main()
