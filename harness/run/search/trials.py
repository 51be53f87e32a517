"""The trials of a search: every one is an ordinary run, and hopeless ones are ended early.

Optuna's own loop asks for a trial whenever a slot of the launcher is free, in a thread that follows
the trial's journal.
"""

import sys
import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.nn import metrics
from harness.run import compose as launch
from harness.run import freeze
from harness.run.compose import Job
from harness.run.launchers.local import Launcher, signals_set
from harness.run.launchers.scoreboard import Scoreboard
from harness.run.search import space
from harness.run.search.search import Search
from harness.run.search.study import ended, open_study
from harness.runfolder import config as configuration
from harness.runfolder import folder as runs
from harness.runfolder import journal
from harness.runfolder import plan as sweep
from harness.runfolder.config import ConfigError
from harness.runfolder.plan import Plan

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial


class TrialEnded(RuntimeError):
    """A trial's job failed or was killed, or could not begin; the search goes on without it."""


class Interrupted(RuntimeError):
    """The command was told to stop; the trial goes on when it is repeated."""


class Trials:
    """The trials of a search: asked for, trained, judged. `plan` grows with them."""

    def __init__(self, search: Search, launcher: Launcher, follow: Any) -> None:
        self.search = search
        self.launcher = launcher
        self.study = open_study(search)
        self._follow = follow
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._runs = runs.by_key(search.outputs)
        path = sweep.folder_of(search.outputs) / f"{search.id}.json"
        known = sweep.load_plan(search.outputs, search.id).jobs if path.is_file() else ()
        there = {folder.name for folder, _ in runs.readable(search.outputs)}
        known = tuple(job for job in known if job.run in there)  # somebody may have removed one
        self.plan = Plan(search.id, search.typed, known)
        self._error: Exception | None = None
        for job in known:
            follow(runs.folder_of(search.outputs) / job.run)

    def run(self) -> None:
        """Go on until the search has its total of trials. Raises `KeyboardInterrupt`."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            self._again(trial)  # the command that ran it died
            self.study.tell(trial.number, state=TrialState.FAIL)
        left = self.search.settings.n_trials - len(ended(self.study))
        if left <= 0:
            return
        with signals_set() as stop, Scoreboard([], self.search.settings.n_trials) as board:
            self._stop, self._board = stop, board
            for job in self.plan.jobs:
                folder = runs.folder_of(self.search.outputs) / job.run
                told = journal.history(folder)
                over = told.status in ("FINISHED", "FAILED") or runs.is_pruned(told)
                board.add(folder, over=over)
            with suppress(Interrupted):
                self.study.optimize(
                    self._objective, left, n_jobs=self.launcher.slots, catch=(TrialEnded,)
                )
        if self._error is not None:
            raise self._error
        if stop.is_set():
            raise KeyboardInterrupt

    def _objective(self, trial: "Trial") -> float:
        """The best validation error of a trial."""
        from optuna import TrialPruned

        try:
            return self._judged(trial)
        except (TrialEnded, TrialPruned, Interrupted):
            raise
        except Exception as error:
            # With several threads Optuna forgets what the last ones raised. Everything ends here.
            self._error = self._error or error
            self._stop.set()
            self._again(trial)
            raise Interrupted from error

    def _judged(self, trial: "Trial") -> float:
        from optuna import TrialPruned

        values = {each.key: each.suggest(trial) for each in self.search.space}
        if self._stop.is_set():
            self._give_up(trial)
        try:
            with self._lock:
                folder = self._freeze(values)
                busy = self._busy[folder.name]
        except ConfigError as error:  # each value is possible, but not all of them together
            trial.set_user_attr("error", str(error))
            print(f"trial {trial.number} cannot be: {error}", file=sys.stderr)
            raise TrialEnded(str(error)) from None
        trial.set_user_attr("run", folder.name)
        watch = Watch(trial, folder, self._stop)
        try:
            with busy:  # the same values once more: wait, then take its result
                if not runs.is_finished(folder):
                    self._board.add(folder)
                    self.launcher.attend(folder, watch)
                told = journal.history(folder)
                if watch.pruned and told.status == "KILLED":
                    runs.mark_pruned(folder, watch.pruned)
                    raise TrialPruned
                if told.status == "FINISHED":
                    watch.report()
                    runs.unmark_pruned(folder)
                    return told.final[metrics.BEST_VAL_ERROR]
                if self._stop.is_set():
                    self._give_up(trial)
                trial.set_user_attr("error", told.error)
                raise TrialEnded(told.error)
        finally:
            self._board.ended(folder)

    def _freeze(self, values: dict[str, str]) -> Path:
        """The run folder of these values: the one that has them already, or a new one."""
        search = self.search
        lines = [*search.fixed, *(f"{key}={value}" for key, value in values.items())]
        shown = {key: space.short(value) for key, value in values.items()}
        name = ",".join(f"{key}={value}" for key, value in shown.items())
        config = launch.composed(lines, search.folder / "conf")
        configuration.check(config)
        prepared = freeze.prepare([freeze.with_backend(Job(name, shown, config))])[0]
        for job in self.plan.jobs:
            if job.key == prepared.key:
                return runs.folder_of(search.outputs) / job.run
        place = str(len(self.plan.jobs) + 1)
        job = freeze.one(prepared, list(search.typed), self._runs, (search.id, place))
        self.plan = replace(self.plan, jobs=(*self.plan.jobs, job))
        self.plan.save(search.outputs)
        folder = runs.folder_of(search.outputs) / job.run
        self._follow(folder)
        return folder

    def _give_up(self, trial: "Trial") -> None:
        self._again(trial)
        self.study.stop()
        raise Interrupted

    def _again(self, trial: "Trial | FrozenTrial") -> None:
        """Have an interrupted trial's values tried first next time; its run goes on then."""
        from optuna.trial import TrialState

        waiting = self.study.get_trials(states=(TrialState.WAITING,))
        if not any(each.user_attrs.get("resumes") == trial.number for each in waiting):
            self.study.enqueue_trial(trial.params, user_attrs={"resumes": trial.number})


class Watch:
    """Follows one trial's journal and reports each epoch; calling it says whether to end the job.

    pruned: the epoch after which the pruner gave the trial up, 0 while it has not.
    """

    def __init__(self, trial: "Trial", folder: Path, stop: threading.Event) -> None:
        self.pruned = 0
        self._trial, self._stop = trial, stop
        self._path, self._offset, self._epoch = folder / journal.FILE_NAME, 0, 0

    def __call__(self) -> Literal["end", "leave"] | None:
        """Report what is new, and say whether the job is to be ended."""
        if self._stop.is_set():
            return "leave"
        return "end" if self.report(may_prune=True) else None

    def report(self, *, may_prune: bool = False) -> bool:
        """Report the epochs that are new. Returns whether the trial is given up."""
        records, self._offset, _ = journal.read(self._path, self._offset)
        for record in records:
            if record["kind"] != "epoch" or record["epoch"] <= self._epoch:
                continue
            self._epoch = record["epoch"]
            self._trial.report(record["metrics"][metrics.VAL_ERROR], self._epoch)
            if may_prune and self._trial.should_prune():
                self.pruned = self._epoch
                return True
        return False
