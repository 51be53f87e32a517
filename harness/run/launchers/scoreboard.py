"""The progress display of jobs that run at the same time, read from their journals."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn

from harness.runfolder import data_sets, streams
from harness.runfolder.history import History
from harness.runfolder.keys import determines_result
from harness.runfolder.objective import Objective
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus

REFRESH_S = 0.5
SEED = "seed"


class Scoreboard:
    """Jobs done, running and failed, the best result so far, and the time left.

    A live bar in a terminal; elsewhere a line for every job that ends. total: the number of jobs,
    if more than `runs` will be added. before: runs that have ended already. Use it as a context
    manager. Thread-safe.
    """

    def __init__(
        self, runs: Sequence[Run], total: int | None = None, *, before: Sequence[Run] = ()
    ) -> None:
        self._total = total or len(runs) + len(before)
        self._lock = threading.Lock()
        self._histories: dict[Run, History] = {run: run.history() for run in runs}
        self._epochs_before = sum(len(each.epochs) for each in self._histories.values())
        earlier = {run: run.history() for run in before}
        self._histories |= earlier
        self._epochs_before += len(before) * self._planned()
        self._refreshed = 0.0
        self._over = {run: ending(history) for run, history in earlier.items()}  # how each ended
        self._begin = time.monotonic()
        self._closing = threading.Event()
        console = streams.console()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                BarColumn(bar_width=24),
                TextColumn("{task.description}", markup=False),
                console=console,
            )
            self._task = self._bar.add_task("starting", total=1.0)
            self._thread = threading.Thread(target=self._keep_fresh, daemon=True)

    def add(self, run: Run, *, over: bool = False) -> None:
        """Add a job, or continue one that had ended. over: whether the job has already ended."""
        with self._lock:
            is_known = run in self._histories
            self._histories[run] = history = run.history()
            if not is_known:
                self._epochs_before += self._planned() if over else len(history.epochs)
            if over:
                self._over[run] = ending(history)
            else:
                self._over.pop(run, None)

    def fewer(self, jobs: int) -> None:
        """Lower the total by this many jobs."""
        with self._lock:
            self._total -= jobs

    def ended(self, run: Run) -> None:
        """Count a job that has ended. If it was counted before, lower the total by one."""
        with self._lock:
            if run in self._over:
                self._total -= 1
                return
            self._histories[run] = history = run.history()
            self._over[run] = ending(history)
        if self._bar is None:
            if time.monotonic() - self._refreshed > REFRESH_S:
                self._refresh()
            best, objective = best_value(history), Objective.of(history.params)
            figure = "" if best is None else f"  {objective.title} {objective.format(best)}"
            print(f"{run.name}  {ending(history)}{figure}   {self.line()}", flush=True)

    def line(self) -> str:
        """`7/15 done, 2 running, 1 failed, best 1.98% (batch=16,seed=3), 40 s left`

        With several seeds, the best is a setting, by the mean of its finished runs: `best 2.03%
        over 5 seeds (batch=16)`; if there is one setting, `mean 2.03% over 5 seeds`.
        """
        with self._lock:
            histories = dict(self._histories)
            over = dict(self._over)
        count = Counter(over.values())
        active = histories.keys() - over.keys()
        running = sum(histories[run].status is RunStatus.RUNNING for run in active)
        parts = [f"{count['finished']}/{self._total} done", f"{running} running"]
        kinds = ("paused", "pruned", "failed", "killed", "damaged")
        parts += [f"{count[kind]} {kind}" for kind in kinds if count[kind]]
        parts += _best_of_each_kind(histories)
        left = self._seconds_left()
        if left is not None and len(over) < self._total:
            parts.append(f"{left:.0f} s left")
        return ", ".join(parts)

    def _keep_fresh(self) -> None:
        while not self._closing.wait(REFRESH_S):
            self._refresh()

    def _refresh(self) -> None:
        with self._lock:
            for run in self._histories.keys() - self._over.keys():
                self._histories[run] = run.history()
        self._refreshed = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, description=self.line(), completed=self._share())

    def _share(self) -> float:
        """The share of the work that is done, by epochs; a job that has ended counts in full."""
        with self._lock:
            shares: list[float] = [
                min(1.0, len(history.epochs) / history.params["epochs"])
                for run, history in self._histories.items()
                if run not in self._over
            ]
            return (len(self._over) + sum(shares)) / max(1, self._total)

    def _seconds_left(self) -> float | None:
        share, took = self._share(), time.monotonic() - self._begin
        with self._lock:
            before = self._epochs_before / max(1, self._total * self._planned())
        return None if share <= before else took * (1 - share) / (share - before)

    def _planned(self) -> int:
        """Epochs of one job. Call it under the lock."""
        return max((each.params["epochs"] for each in self._histories.values()), default=1)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._closing.set()
            self._thread.join()
            self._refresh()
            self._bar.stop()


def ending(history: History) -> str:
    """finished, failed, killed, pruned or paused; running or created until the run has ended."""
    return history.how_pruned or history.status.lower()


def best_value(history: History) -> float | None:
    """The best value of a run's objective so far; None if there is none.

    With `weights=last` it is the newest value.
    """
    objective = Objective.of(history.params)
    curve = history.curve(objective.metric)
    return objective.best(curve[-1:] if history.params["weights"] == "last" else curve)


@dataclass(frozen=True)
class _Scored:
    """The value of a run, or the mean of a setting's finished runs.

    name: empty for the only setting of a sweep over seeds. history: of the run, or of one run of
    the setting. seeds: how many are finished; 0 for a run.
    """

    name: str
    history: History
    value: float
    seeds: int = 0

    @property
    def text(self) -> str:
        value = Objective.of(self.history.params).format(self.value)
        over = f" over {self.seeds} seed{'s' if self.seeds > 1 else ''}" if self.seeds else ""
        return f"{value}{over}" + (f" ({self.name})" if self.name else "")


def _best_of_each_kind(histories: Mapping[Run, History]) -> list[str]:
    """`best 1.98% (batch=16,seed=3)`, one text per data set and objective.

    Runs that failed, or whose journals are damaged, do not count. With several seeds, settings are
    compared as in the final table, those with the most seeds first; runs until one is finished.
    """
    invalid = RunStatus.FAILED, RunStatus.DAMAGED
    valid = {run: each for run, each in histories.items() if each.status not in invalid}
    scored = [
        _Scored(run.name, each, value)
        for run, each in valid.items()
        if (value := best_value(each)) is not None
    ]
    if len({str(each.params.get(SEED)) for each in histories.values()}) > 1:
        scored = _settings(scored) or scored
    sets = data_sets.named([each.history.create["dataset"] for each in scored])
    objectives = [Objective.of(each.history.params) for each in scored]
    kinds = list(zip(sets, objectives, strict=True))
    several_objectives = len({objective for _, objective in kinds}) > 1
    parts = []
    for kind in dict.fromkeys(kinds):
        name, objective = kind
        own = [each for each, of_it in zip(scored, kinds, strict=True) if of_it == kind]
        best = min(own, key=lambda each: (-each.seeds, objective.order(each.value)))
        on = f" on {name}" if len({*sets}) > 1 else ""
        what = f" {objective}" if several_objectives else ""
        parts.append(f"{'best' if best.name else 'mean'}{on}{what} {best.text}")
    return parts


def _settings(runs: Sequence[_Scored]) -> list[_Scored]:
    """The settings of the finished runs, each with its mean."""
    settings: dict[frozenset[tuple[str, str]], list[_Scored]] = defaultdict(list)
    for each in runs:
        if each.history.status is RunStatus.FINISHED:
            params = each.history.params.items()
            key = ((k, str(v)) for k, v in params if k != SEED and determines_result(k))
            settings[frozenset(key)].append(each)
    return [
        _Scored(_without_seed(own[0].name), own[0].history, mean(x.value for x in own), len(own))
        for own in settings.values()
    ]


def _without_seed(name: str) -> str:
    """The name of a run without the override of its seed; empty if it has no other."""
    return ",".join(part for part in name.split(",") if not part.startswith(f"{SEED}="))
