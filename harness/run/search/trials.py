"""The trials of a search: every one is an ordinary run, and hopeless ones are ended early.

Optuna's own loop asks for a trial whenever a slot of the launcher is free, in a thread that follows
the trial's journal. A trial of a search with several seeds is a run for each of them, one after
another while it can still win (`analysis/racing.py`); its value is their mean.
"""

import contextvars
import math
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.analysis.racing import Prospect, prospect
from harness.run import freeze, notices
from harness.run.compose import Job, compose_one
from harness.run.freeze import Membership
from harness.run.launchers.base import Launcher
from harness.run.launchers.scoreboard import Scoreboard
from harness.run.search import space
from harness.run.search.search import Search
from harness.run.search.study import DATABASE, ended, open_study
from harness.run.search.watch import Watch
from harness.run.signals import setting_event
from harness.run.until import AFTERWARDS
from harness.runfolder import config as configuration
from harness.runfolder.config import ConfigError
from harness.runfolder.folder import Busy, open_run
from harness.runfolder.history import History
from harness.runfolder.objective import Objective
from harness.runfolder.own_code import OwnCodeError
from harness.runfolder.parts import PartError
from harness.runfolder.plan import Plan, SweepJob, load_plan, sweeps_folder
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from optuna import Trial
    from optuna.trial import FrozenTrial

VALUES = "values"  # of a trial: those of its objective over the seeds, lower is better


class TrialFailed(RuntimeError):
    """A trial's job failed, was killed or could not start; the search continues without it."""


class SearchInterrupted(RuntimeError):
    """The command is stopping; the trial is continued when the command is repeated."""


class Trials:
    """The trials of a search: asks for them, trains them, reports their values.

    follow: called with each new run, to deliver it. `plan` grows with the trials.
    """

    def __init__(self, search: Search, launcher: Launcher, follow: Callable[[Run], None]) -> None:
        self.search = search
        self.launcher = launcher
        self.study = open_study(search)
        self._follow = follow
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self.plan = self._known()
        if self.plan.jobs and not self.study.trials:
            notices.say(
                f"search {search.id}: {search.outputs / DATABASE} has no trials of it anymore, "
                f"only its {len(self.plan.jobs)} runs are left: the trials start again; those with "
                "the values of a finished run take its result"
            )
        self._error: Exception | None = None
        self._order = Objective.parse(search.base.objective).order
        self._own_source = search.own_source()
        for run in self.plan.runs(search.outputs):
            follow(run)

    @property
    def _seeds(self) -> "list[dict[str, str]]":
        """The seeds of each trial as settings: none for the one of the base configuration."""
        return [{space.SEED: seed} for seed in self.search.seeds] or [{}]

    def _known(self) -> Plan:
        """The plan of an earlier command of this search, without runs that were removed."""
        search = self.search
        jobs: tuple[SweepJob, ...] = ()
        verdict = ""
        if (sweeps_folder(search.outputs) / f"{search.id}.json").is_file():
            plan = load_plan(search.outputs, search.id)
            pairs = zip(plan.jobs, plan.runs(search.outputs), strict=True)
            jobs = tuple(job for job, run in pairs if run.is_readable())
            verdict = plan.verdict
        return Plan(search.id, search.typed, jobs, about=search.about, verdict=verdict)

    def run(self) -> None:
        """Run trials until the search has its total. Raises `KeyboardInterrupt`."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            self._enqueue_again(trial)  # the command that ran it died
            self.study.tell(trial.number, state=TrialState.FAIL)
        left = self.search.settings.n_trials - len(ended(self.study))
        if left <= 0:
            return
        self.plan = replace(self.plan, verdict="")
        context = contextvars.copy_context()  # Optuna's threads have none of the user's folders

        def objective(trial: "Trial") -> float:
            return context.copy().run(self._objective, trial)

        runs = self.plan.runs(self.search.outputs)
        over = [run for run in runs if _is_over(run.history())]
        total = len(over) + left * len(self._seeds)
        with setting_event() as stop, Scoreboard([], total) as board:
            self._stop, self._board = stop, board
            for run in runs:
                board.add(run, over=run in over)
            with suppress(SearchInterrupted):
                self.study.optimize(
                    objective, left, n_jobs=self.launcher.slots, catch=(TrialFailed,)
                )
        if self._error is not None:
            raise self._error
        if stop.is_set():
            raise KeyboardInterrupt
        self._conclude()

    def _objective(self, trial: "Trial") -> float:
        """The value of a trial's objective at the epoch whose weights count, over its seeds."""
        from optuna import TrialPruned

        try:
            return self._judge(trial)
        except (TrialFailed, TrialPruned, SearchInterrupted):
            raise
        except Exception as error:
            # With several threads Optuna drops what the last ones raise. The search ends here.
            self._error = self._error or error
            self._stop.set()
            self._enqueue_again(trial)
            raise SearchInterrupted from error

    def _judge(self, trial: "Trial") -> float:
        """Train a trial with one seed after another, while it can still win."""
        values = {each.key: each.suggest(trial) for each in self.search.space}
        found: list[float] = []
        now = Prospect(math.nan, math.inf)
        started = 0
        try:
            for seed in self._seeds:
                run = self._freeze_trial(trial, {**values, **seed})
                started += 1
                try:
                    with self._busy[run.id]:  # the same values again: wait, then use their result
                        found.append(self._order(self._train(trial, run, may_prune=not found)))
                finally:
                    self._board.ended(run)
                is_last = len(found) == len(self._seeds)
                now = prospect(found, np.zeros((0, len(found))) if is_last else self._whole())
                if not now.can_win:
                    break
        finally:
            self._board.fewer(len(self._seeds) - started)
        trial.set_user_attr(VALUES, found)
        if not now.can_win:
            shown = ",".join(f"{key}={space.short(value)}" for key, value in values.items())
            print(f"{shown} cannot win anymore, after {len(found)} of {len(self._seeds)} seeds")
        return self._order(now.mean)

    def _whole(self) -> "NDArray[np.float64]":
        """The values of each setting that has all seeds, one row each; lower is better."""
        from optuna.trial import TrialState

        rows = {
            str(trial.params): trial.user_attrs.get(VALUES, ())
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        }
        k = len(self._seeds)
        return np.array([row for row in rows.values() if len(row) == k]).reshape(-1, k)

    def _conclude(self) -> None:
        """Keep in the plan how many settings got all seeds."""
        if len(self._seeds) < 2:
            return
        count = len({str(trial.params) for trial in ended(self.study)})
        whole = len(self._whole())
        others = "the others were pruned, failed, or could not win anymore"
        self.plan = replace(
            self.plan,
            verdict=f"{whole} of {count} settings have all {len(self._seeds)} seeds"
            f"{f'; {others}' if whole < count else ''}. {AFTERWARDS}",
        )
        self.plan.save(self.search.outputs)

    def _freeze_trial(self, trial: "Trial", values: dict[str, str]) -> Run:
        """The run of these values. Raises `TrialFailed` when they cannot be combined."""
        if self._stop.is_set():
            self._give_up(trial)
        try:
            with self._lock:
                run = self._freeze(values)
                _ = self._busy[run.id]  # created under the lock
        except Busy:
            raise  # not of this trial: the search ends
        except (ConfigError, PartError) as error:
            trial.set_user_attr("error", str(error))
            print(f"trial {trial.number} is not possible: {error}", file=sys.stderr)
            raise TrialFailed(str(error)) from None
        trial.set_user_attr("run", run.id)
        return run

    def _train(self, trial: "Trial", run: Run, *, may_prune: bool) -> float:
        """Train a trial's run unless it is finished; returns the value of its objective.

        may_prune: whether Optuna gets its epochs, to end the trial early.
        """
        from optuna import TrialPruned

        watch = Watch(trial if may_prune else None, run, self._stop)
        if not run.is_finished:
            self._board.add(run)
            self.launcher.attend(run, watch)
        history = run.history()
        if history.status is RunStatus.FINISHED:
            watch.report()
            run.unmark_pruned()
            return history.final[Objective.of(history.params).best_key]
        if watch.pruned and history.status is RunStatus.KILLED:
            run.mark_pruned(watch.pruned)
            raise TrialPruned
        if self._stop.is_set():
            self._give_up(trial)
        trial.set_user_attr("error", history.error)
        raise TrialFailed(history.error)

    def _freeze(self, values: dict[str, str]) -> Run:
        """The run of these values: the existing one, or a new one."""
        search = self.search
        if search.own_source() != self._own_source:
            raise OwnCodeError(
                f"search {search.id}: the source of your own code was changed while it runs; "
                "restore it and repeat the command, or start another search with "
                "hydra.sweeper.study=NAME"
            )
        lines = [*search.fixed, *(f"{key}={value}" for key, value in values.items())]
        shown = {key: space.short(value) for key, value in values.items()}
        name = ",".join(f"{key}={value}" for key, value in shown.items())
        config = compose_one(lines, search.folder / "conf", search.own_folders)
        configuration.check(config)
        prepared = freeze.prepare([freeze.with_backend(Job(name, shown, config))])[0]
        self._check_data(prepared.data_digest)
        for job in self.plan.jobs:
            if job.key == prepared.key:
                return open_run(search.outputs, job.run)
        number = str(len(self.plan.jobs) + 1)
        membership = Membership(search.id, number, self.plan.about)
        job = freeze.freeze_trial(prepared, list(search.typed), membership)
        self.plan = replace(self.plan, jobs=(*self.plan.jobs, job))
        self.plan.save(search.outputs)
        run = open_run(search.outputs, job.run)
        self._follow(run)
        return run

    def _check_data(self, digest: str) -> None:
        """Raise `ValueError` unless a trial has the data that the search started with."""
        search = self.search
        is_searched = any(p.key.lstrip("+").partition(".")[0] == "dataset" for p in search.space)
        if not is_searched and digest != search.data():
            raise ValueError(
                f"search {search.id}: the data set was changed while it runs; restore it and "
                "repeat the command, or start another search with hydra.sweeper.study=NAME"
            )

    def _give_up(self, trial: "Trial") -> None:
        self._enqueue_again(trial)
        self.study.stop()
        raise SearchInterrupted

    def _enqueue_again(self, trial: "Trial | FrozenTrial") -> None:
        """Let the next command start with an interrupted trial's values; its run is continued."""
        from optuna.trial import TrialState

        waiting = self.study.get_trials(states=(TrialState.WAITING,))
        if not any(each.user_attrs.get("resumes") == trial.number for each in waiting):
            self.study.enqueue_trial(trial.params, user_attrs={"resumes": trial.number})


def _is_over(history: History) -> bool:
    return history.status in (RunStatus.FINISHED, RunStatus.FAILED) or history.is_pruned
