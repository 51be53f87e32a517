"""Run the trials of a search: every one is an ordinary run, and hopeless ones end early.

Each slot of the launcher asks for a trial whenever it is free (`queue.py`), and follows the trial's
journal. In a search with several seeds, a trial is one run per seed, one after another while it can
still win (`analysis/racing.py`); its value is their mean.
"""

import contextvars
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np

from harness.analysis.racing import Prospect, prospect
from harness.nn import metrics
from harness.run import notices
from harness.run.launchers.base import Launcher
from harness.run.launchers.scoreboard import Scoreboard
from harness.run.launchers.shared import POLL_S, claimed
from harness.run.search import space
from harness.run.search.growing import GrowingPlan
from harness.run.search.pausing import PAUSE
from harness.run.search.queue import TrialQueue
from harness.run.search.search import Search
from harness.run.search.study import ERROR, RUN, RUNS, ended, failures
from harness.run.search.watch import Watch
from harness.run.signals import setting_event
from harness.runfolder.config import ConfigError
from harness.runfolder.cost import Cost
from harness.runfolder.folder import Busy
from harness.runfolder.history import PAUSED, History
from harness.runfolder.objective import Objective
from harness.runfolder.parts import PartError
from harness.runfolder.plan import AFTERWARDS, ENDED, Plan
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from optuna import Trial

VALUES = "values"  # attribute of a trial: its objective by seed, lower is better


class TrialFailed(RuntimeError):
    """A trial's job failed, was killed or could not start; a later command tries it again."""


class Impossible(RuntimeError):
    """The values of a trial cannot be combined; no command tries it again."""


class SearchInterrupted(RuntimeError):
    """The command is stopping; the trial is continued when the command is repeated."""


class Trials:
    """Trains the trials of a search and reports their values to Optuna.

    follow: called with each new run, to deliver it.
    """

    def __init__(self, search: Search, launcher: Launcher, follow: Callable[[Run], None]) -> None:
        self.search = search
        self.launcher = launcher
        self.queue = TrialQueue(search)
        self.runs = GrowingPlan(search, self.queue.workers, follow)
        self._is_told, self._begin, self._ended_by = False, time.monotonic(), ""
        self._awaited: set[int] | None = None  # at the limit: the trials of other commands
        if self.plan.jobs and not self.queue.study.trials:
            notices.say(
                f"search {search.id}: {search.storage} has no trials of it anymore, "
                f"only its {len(self.plan.jobs)} runs are left: the trials start again; those with "
                "the values of a finished run take its result"
            )
        for why, count in self.queue.impossible().items():
            notices.say(
                f"search {search.id}: {count} trial(s) are impossible and will not be tried again: "
                f"{why}"
            )
        self._error: Exception | None = None
        self._order = Objective.parse(search.base.objective).order
        self._costs = tuple(map(Cost.parse, search.costs))

    @property
    def plan(self) -> Plan:
        """The plan, which grows with the trials."""
        return self.runs.plan

    @property
    def _seeds(self) -> "list[dict[str, str]]":
        """The seeds of each trial as settings; an empty setting keeps the base configuration's."""
        return [{space.SEED: seed} for seed in self.search.seeds] or [{}]

    def trained_elsewhere(self) -> list[Run]:
        """The runs that other commands are still training."""
        if not self.queue.elsewhere():
            return []
        going_on = (RunStatus.CREATED, RunStatus.RUNNING)
        return [run for run in self.runs.runs() if run.history().status in going_on]

    def without_run(self) -> str:
        """A line about trials whose runs are not here, such as those of another `outputs`."""
        here = {job.run for job in self.plan.jobs}
        runs = [each.user_attrs.get(RUN, "") for each in ended(self.queue.study)]
        if self.search.storage.uri is None or here.issuperset(filter(None, runs)):
            return ""
        count = sum(run not in here for run in runs)
        return (
            f"{count} of {len(runs)} trials have no run here; if other commands trained them in "
            "another folder, `python -m harness merge FOLDER` joins it"
        )

    def without_value(self) -> list[str]:
        """A line for each reason why trials failed although all their runs are finished."""
        trials = ended(self.queue.study)
        reasons = Counter(t.user_attrs.get(ERROR) for t in trials if VALUES in t.user_attrs)
        return [
            f"failed: {count} of {len(trials)} trials: {why}"
            for why, count in reasons.items()
            if why
        ]

    def run(self) -> None:
        """Run trials until the search has its total. Raises `KeyboardInterrupt`."""
        left = self.queue.left()
        if not left:
            self._conclude()
            return
        before = [run for run in self.runs.runs() if _is_over(run.history())]
        over = [run for run in before if run.status is not RunStatus.FAILED]  # tried again
        total = len(over) + left * len(self._seeds)
        board = Scoreboard([], total)
        with setting_event() as stop, board:
            self._stop, self._board = stop, board
            self._shown = {run.id for run in before}
            for run in over:
                board.add(run, over=True)
            self._work_in_slots()
        self.runs.refresh()
        if self._error is not None:
            raise self._error
        if stop.is_set():
            raise KeyboardInterrupt
        self._conclude()

    def _work_in_slots(self) -> None:
        """Run trials in all slots of the launcher until none is left to start."""
        if self.launcher.slots == 1:
            self._work()
            return
        context = contextvars.copy_context()  # new threads do not have the user's folders
        slots = range(self.launcher.slots)
        with ThreadPoolExecutor(len(slots)) as pool:
            futures = [pool.submit(context.copy().run, self._work) for _ in slots]
        for future in futures:
            future.result()

    def _work(self) -> None:
        """Run one trial after another, until no more can come.

        An error that is not about one trial ends the search: the slots stop, and `run` raises it.
        """
        try:
            while not self._stop.is_set():
                trial, may_come = self._ask()
                if trial is not None:
                    self._run(trial)
                elif not may_come:
                    return
                else:
                    self._stop.wait(POLL_S)
        except Exception as error:
            self._error = self._error or error
            self._stop.set()

    def _ask(self) -> "tuple[Trial | None, bool]":
        """A trial, or whether one can still come: if another command dies, or a trial pauses."""
        if self._is_at_limit():
            others = self.queue.elsewhere()  # another command may have no such limit
            self._awaited = others if self._awaited is None else self._awaited & others
            self._tell_of_waiting(len(self._awaited))
            return None, bool(self._awaited)
        trial, running, elsewhere = self.queue.ask(several=self.launcher.slots > 1)
        if trial is not None:
            return trial, True
        self._tell_of_waiting(elsewhere)
        return None, elsewhere > 0 or (running > 0 and self.queue.rungs != ())

    def _tell_of_waiting(self, elsewhere: int) -> None:
        """Print once that this command waits for the `elsewhere` trials that others run."""
        if elsewhere and not self._is_told:
            self._is_told = True
            print(f"{elsewhere} trial(s) are being trained by other commands; waiting", flush=True)

    def _is_at_limit(self) -> bool:
        """Whether no further trial may start."""
        if self._ended_by:
            return True
        limits = self.search.limits
        if time.monotonic() - self._begin >= limits.seconds:
            self._ended_by = f"budget={limits.budget}"
        elif limits.max_epochs is not None and self.runs.epochs() >= limits.max_epochs:
            self._ended_by = f"max_epochs={limits.max_epochs}"
        return self._ended_by != ""

    def _run(self, trial: "Trial") -> None:
        """Train a trial and tell the study how it ended."""
        from optuna import TrialPruned
        from optuna.trial import TrialState

        values: list[float] | None = None
        try:
            values, state = self._judge(trial), TrialState.COMPLETE
            names = (self.search.base.objective, *self.search.costs)
            for name, value in zip(names, values, strict=True):
                if math.isnan(value):
                    raise TrialFailed(f"its {name} is not a number, or was not recorded")
        except TrialPruned:
            state = TrialState.PRUNED
        except TrialFailed as error:
            self.queue.fail(trial, str(error))
            return
        except Impossible as error:
            if self.queue.refuse(trial, str(error)):
                print(f"trial {trial.number} is impossible: {error}", file=sys.stderr)
            else:
                self._board.fewer(-len(self._seeds))  # another one replaces it
            return
        except SearchInterrupted:
            self.queue.put_back(trial)
            return
        except Exception:
            with suppress(*failures()):  # the record of trials may be gone
                self.queue.put_back(trial)
            raise
        self.queue.tell(trial, values, state)

    def _judge(self, trial: "Trial") -> list[float]:
        """The mean over its seeds of a trial's objective at the epoch that counts, and its costs.

        Trains one seed after another while the trial can still win; with several objectives, all of
        them. A trial that is tried again gets at least the seeds that it had started. Otherwise
        their runs would stay interrupted, however often the command is repeated.
        """
        values = {each.key: each.suggest(trial) for each in self.search.space}
        found: list[float] = []
        paid: list[list[float]] = []
        now = Prospect(math.nan, math.inf)
        started, begun = 0, self.queue.begun(trial)
        try:
            for seed in self._seeds:
                run = self._freeze_trial(trial, {**values, **seed})
                started += 1
                try:
                    with self._claim(run):  # the same values again: wait, then use their result
                        may_prune = not found and not self._costs
                        found.append(self._order(self._train(trial, run, may_prune=may_prune)))
                        paid.append(self._paid(run))
                finally:
                    self._board.ended(run)
                is_last = len(found) == len(self._seeds)
                is_whole = is_last or bool(self._costs)
                now = prospect(found, np.zeros((0, len(found))) if is_whole else self._whole())
                if not now.can_win and started >= begun:
                    break
        finally:
            self._board.fewer(len(self._seeds) - started)
        trial.set_user_attr(VALUES, found)
        if not now.can_win:
            shown = ",".join(f"{key}={space.short(value)}" for key, value in values.items())
            print(f"{shown} can no longer win, after {len(found)} of {len(self._seeds)} seeds")
        return [self._order(now.mean), *map(float, np.mean(paid, axis=0))]

    def _paid(self, run: Run) -> list[float]:
        """The costs of a finished run; NaN for those that were not recorded."""
        history = run.history()
        epoch = int(history.final.get(metrics.BEST_EPOCH, 0)) or None
        curves = {cost.key: np.array(history.curve(cost.key)) for cost in self._costs}
        return [cost.of(history.final, curves, epoch) for cost in self._costs]

    def _whole(self) -> "NDArray[np.float64]":
        """The values of each setting that has all seeds, one row each; lower is better."""
        from optuna.trial import TrialState

        rows = {
            str(trial.params): trial.user_attrs.get(VALUES, ())
            for trial in ended(self.queue.study)
            if trial.state is TrialState.COMPLETE
        }
        k = len(self._seeds)
        return np.array([row for row in rows.values() if len(row) == k]).reshape(-1, k)

    def _conclude(self) -> None:
        """Save in the plan what ended the search, and how many settings got all seeds."""
        by = ""
        if self._ended_by and self.queue.left():  # not if its last trial reached the limit
            trials = (
                f"{len(self.plan.jobs)} runs, before its {self.search.settings.n_trials} trials"
            )
            by = f"{self._ended_by} {ENDED} after {trials}"
            if not self.plan.jobs:
                print(by)  # there is no table to show it
        if len(self._seeds) < 2:
            self.runs.conclude(by)
            return
        count = len({str(trial.params) for trial in ended(self.queue.study)})
        whole = len(self._whole())
        if not whole and self.without_value():
            self.runs.conclude(by)  # each setting may have all its seeds, but no value
            return
        others, added = (
            "the others were pruned, failed, or could no longer win",
            f". {AFTERWARDS}",
        )
        if self._costs:
            others, added = "the others failed", ""
        self.runs.conclude(
            f"{whole} of {count} settings have all {len(self._seeds)} seeds"
            f"{f'; {others}' if whole < count else ''}{f'; {by}' if by else ''}{added}"
        )

    @contextmanager
    def _claim(self, run: Run) -> Iterator[None]:
        """Hold the claim of a run; waits while another trial has it."""
        with ExitStack() as held:
            while not held.enter_context(claimed(run)):
                if self._stop.wait(POLL_S):
                    raise SearchInterrupted
            yield

    def _freeze_trial(self, trial: "Trial", values: dict[str, str]) -> Run:
        """The run of these values.

        Raises `Impossible` if they cannot be combined, and `TrialFailed` if no trial can start now,
        such as without the files of the data.
        """
        if self._stop.is_set():
            raise SearchInterrupted
        try:
            run = self.runs.run(values)
        except Busy:
            raise  # not about this trial: the search ends
        except (ConfigError, PartError) as error:
            is_other = isinstance(error.__cause__, OSError | MemoryError)
            if is_other or not self.runs.is_possible():
                print(f"trial {trial.number} cannot start: {error}", file=sys.stderr)
                raise TrialFailed(str(error)) from None
            raise Impossible(str(error)) from None
        trial.set_user_attr(RUN, run.id)
        trial.set_user_attr(RUNS, [*trial.user_attrs.get(RUNS, ()), run.id])
        self._show_others(run)
        return run

    def _train(self, trial: "Trial", run: Run, *, may_prune: bool) -> float:
        """Train a trial's run unless it is finished; returns the value of its objective.

        may_prune: whether Optuna gets the trial's epochs and the trial can be pruned or paused.
        """
        from optuna import TrialPruned

        watch = Watch(trial if may_prune else None, run, self._stop)
        pause = trial.user_attrs.get(PAUSE) if may_prune else None
        if not run.is_finished and not _has_paused(run.history(), pause):
            self._board.add(run)
            self.launcher.attend(run, watch, pause)
        history = run.history()
        if history.status is RunStatus.FINISHED:
            watch.report()
            return history.final[Objective.of(history.params).best_key]
        if _has_paused(history, pause):
            watch.report()
            if not history.is_pruned:
                run.mark_pruned(len(history.epochs), is_paused=True)
            raise TrialPruned
        if watch.pruned and history.status is RunStatus.KILLED:
            run.mark_pruned(watch.pruned)
            raise TrialPruned
        if self._stop.is_set():
            raise SearchInterrupted
        raise TrialFailed(history.error)

    def _show_others(self, own: Run) -> None:
        """Add the runs that other commands have trained since to the scoreboard."""
        self._shown.add(own.id)
        for run in self.runs.runs():
            if run.id not in self._shown and _is_over(run.history()):
                self._shown.add(run.id)
                self._board.add(run, over=True)


def _is_over(history: History) -> bool:
    return history.status in (RunStatus.FINISHED, RunStatus.FAILED) or history.is_pruned


def _has_paused(history: History, pause: int | None) -> bool:
    """Whether a run ended after `pause` or more epochs because its search paused it."""
    is_there = pause is not None and len(history.epochs) >= pause
    return is_there and (history.is_pruned or history.error == PAUSED)
