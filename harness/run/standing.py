"""The standing of runs during training: progress, value and rank so far, time left.

The rank is a range, because validation examples are a sample. For the best rank, the run is at the
better end of its interval and the others are at the worse end; for the worst rank, the reverse.
"""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median, median_low

from harness.analysis.statistics import wilson
from harness.nn import metrics
from harness.run.estimate import makespan
from harness.runfolder import data_sets
from harness.runfolder.history import History
from harness.runfolder.objective import Objective
from harness.runfolder.status import RunStatus

RECENT = 5  # epochs whose median duration predicts that of later ones
FRACTIONS = ("error", "accuracy")


@dataclass(frozen=True)
class Standing:
    """The standing of one run.

    data_set: its name. objective: the metric by which it is judged. status: KILLED if its process
    died without a record. curve: the objective, epoch by epoch. value: the objective at the epoch
    that counts so far; None before the first one. interval: Wilson's 95 % interval of the value if
    it is a share of validation examples, else the value twice. ranks: the best and the worst rank
    that it can have among the runs of the same data set and objective. left_s: seconds until its
    last epoch ends; None if that is unknown or no process trains it.
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
        """The number of epochs to train."""
        return int(self.history.params["epochs"])

    @property
    def kind(self) -> tuple[str, Objective]:
        """Its data set and objective; runs of the same kind are ranked together."""
        return self.data_set, self.objective


def standings(
    histories: Sequence[History], is_live: Callable[[History], bool]
) -> tuple[Standing, ...]:
    """The standing of each run. is_live: whether a process trains it; only called if RUNNING."""
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
    """Seconds until every running run, and every run that has not started, has ended.

    A run that has not started is assumed to take as long as the others do on average, and to start
    when a running one ends. None if no run is running or no epoch has ended.
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
    """The objective at the epoch that counts so far; None before the first one."""
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
    """Add the rank of each among those of the same data set and objective."""
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
    """`Objective.order` of the better and of the worse end of an interval."""
    better, worse = sorted(map(objective.order, interval))
    return better, worse


def _left_s(history: History) -> float | None:
    """Seconds until the last epoch ends, by the median of recent ones; None before the first.

    An epoch takes the time between two rows of the journal, which includes evaluation. The lower
    median leaves out the time between a stop and its continuation.
    """
    seconds = history.curve(metrics.EPOCH_S)[-RECENT:]
    if not seconds:
        return None
    ended = [float(row["ms"]) / 1000 for row in history.epochs[-RECENT - 1 :]]
    between = [later - earlier for earlier, later in pairwise(ended)]
    of_epoch = max(median(seconds), median_low(between or [0.0]))
    since = time.time() - ended[-1]
    begun = min(max(0.0, since), of_epoch)  # spent on the current epoch
    to_come = int(history.params["epochs"]) - len(history.epochs)
    return max(0.0, to_come * of_epoch - begun)
