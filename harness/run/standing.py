"""The progress of runs during training: value and rank so far, and time left.

The rank is a range, because validation examples are a sample. The best rank assumes that each other
run is as bad as its interval allows; the worst rank assumes that each is as good.
"""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from harness.analysis.statistics import wilson
from harness.nn import metrics
from harness.run.estimate import makespan
from harness.runfolder import data_sets
from harness.runfolder.history import History
from harness.runfolder.objective import Objective
from harness.runfolder.status import RunStatus

RECENT = 5  # epochs whose median duration is that of those to come
FRACTIONS = ("error", "accuracy")


@dataclass(frozen=True)
class Standing:
    """One run among those that are watched.

    data_set: in words. objective: the metric by which it is judged. status: KILLED if its process
    died without a record. curve: the objective, epoch by epoch. value: the objective at the epoch
    that counts so far, None before the first one. interval: Wilson's 95 % interval of it where it
    is the share of validation examples, else the value twice. ranks: the best and the worst rank
    that it may have among the runs of the same data set and objective. left_s: seconds until its
    last epoch, None if that is unknown or nothing trains it.
    """

    history: History
    data_set: str
    objective: Objective
    status: RunStatus
    curve: tuple[float, ...]
    value: float | None
    interval: tuple[float, float] | None
    ranks: tuple[int, int] | None
    left_s: float | None

    @property
    def total(self) -> int:
        """The epochs that it is to train."""
        return int(self.history.params["epochs"])

    @property
    def kind(self) -> tuple[str, Objective]:
        """What it is ranked within: its data set and its objective."""
        return self.data_set, self.objective


def standings(
    histories: Sequence[History], is_live: Callable[[History], bool]
) -> tuple[Standing, ...]:
    """The standing of each run. is_live: whether a process trains the run, asked if it may."""
    found = []
    names = data_sets.named([history.create["dataset"] for history in histories])
    for name, history in zip(names, histories, strict=True):
        objective = Objective.of(history.params)
        curve = tuple(history.curve(objective.metric))
        value = _value(history, objective, curve)
        interval = None if value is None else _interval(history, objective, value)
        status = history.status
        if status is RunStatus.RUNNING and not is_live(history):
            status = RunStatus.KILLED
        left = _left_s(history) if status is RunStatus.RUNNING else None
        found.append(Standing(history, name, objective, status, curve, value, interval, None, left))
    return _ranked(found)


def left_in_all_s(found: Sequence[Standing]) -> float | None:
    """Seconds until every running or unstarted run is over.

    A run that has not started takes as long as those that have, on average, and starts when one
    that is trained now ends. None when nothing is being trained, or no epoch has ended.
    """
    running = [each.left_s for each in found if each.status is RunStatus.RUNNING]
    known = [left for left in running if left is not None]
    begun = [
        each.history.seconds + (each.left_s or 0.0)
        for each in found
        if each.curve and each.status in (RunStatus.RUNNING, RunStatus.FINISHED)
    ]
    if not running or not begun:
        return None
    average = sum(begun) / len(begun)
    waiting = [average for each in found if each.status is RunStatus.CREATED]
    unknown = [average] * (len(running) - len(known))
    return makespan([*known, *unknown, *waiting], len(running))


def _value(history: History, objective: Objective, curve: Sequence[float]) -> float | None:
    """The objective at the epoch that counts, of those that are done."""
    if objective.best_key in history.final:
        return history.final[objective.best_key]
    if not curve:
        return None
    is_last = history.params.get("weights") == "last"
    return curve[-1] if is_last else min(curve, key=objective.order)


def _interval(history: History, objective: Objective, value: float) -> tuple[float, float]:
    """The 95 % interval of a value."""
    count = int(history.create["dataset"].get("val") or 0)
    is_share = objective.part == "val" and objective.name in FRACTIONS and 0 <= value <= 1
    return wilson(round(value * count), count) if is_share and count else (value, value)


def _ranked(found: Sequence[Standing]) -> tuple[Standing, ...]:
    """The same with their ranks, among those of the same data set and objective."""
    kinds: dict[tuple[str, Objective], list[tuple[float, float]]] = {}
    for each in found:
        if each.interval is not None:
            kinds.setdefault(each.kind, []).append(_bounds(each.objective, each.interval))
    at_best = {kind: sorted(best for best, _ in bounds) for kind, bounds in kinds.items()}
    at_worst = {kind: sorted(worst for _, worst in bounds) for kind, bounds in kinds.items()}
    ranked = []
    for each in found:
        ranks = None
        if each.interval is not None:
            best, worst = _bounds(each.objective, each.interval)
            surely_better = bisect_left(at_worst[each.kind], best)
            maybe_better = bisect_right(at_best[each.kind], worst) - 1  # without itself
            ranks = (1 + surely_better, 1 + maybe_better)
        ranked.append(replace(each, ranks=ranks))
    return tuple(ranked)


def _bounds(objective: Objective, interval: tuple[float, float]) -> tuple[float, float]:
    """What `Objective.order` gives for the better and for the worse end of an interval."""
    better, worse = sorted(map(objective.order, interval))
    return better, worse


def _left_s(history: History) -> float | None:
    """Seconds until the last epoch, by the median of the newest ones; None before the first."""
    seconds = history.curve(metrics.EPOCH_S)[-RECENT:]
    if not seconds:
        return None
    of_epoch = median(seconds)
    since = time.time() - float(history.epochs[-1]["ms"]) / 1000
    begun = min(max(0.0, since), of_epoch)  # of the epoch that is trained now
    to_come = int(history.params["epochs"]) - len(history.epochs)
    return max(0.0, to_come * of_epoch - begun)
