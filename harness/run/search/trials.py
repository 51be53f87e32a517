"""The trials of a search: every one is an ordinary run, and hopeless ones are ended early.

Each slot of the launcher asks for a trial whenever it is free, and follows the trial's journal.
Several commands may do so at the same time: they ask in turns, each trial names its command, and
the trials of a command that died are asked for again. A trial of a search with several seeds is a
run for each of them, one after another while it can still win (`analysis/racing.py`); its value is
their mean.
"""

import contextvars
import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.analysis.racing import Prospect, prospect
from harness.nn import metrics
from harness.run import freeze, notices
from harness.run.compose import Job, compose_one
from harness.run.freeze import Membership
from harness.run.launchers.base import Launcher
from harness.run.launchers.scoreboard import Scoreboard
from harness.run.launchers.shared import POLL_S, claimed
from harness.run.search import space
from harness.run.search.search import Search
from harness.run.search.study import ERROR, ended, open_study
from harness.run.search.watch import Watch
from harness.run.signals import setting_event
from harness.runfolder import config as configuration
from harness.runfolder import own_code
from harness.runfolder.config import ConfigError
from harness.runfolder.cost import Cost
from harness.runfolder.folder import Busy, open_run
from harness.runfolder.history import History
from harness.runfolder.objective import Objective
from harness.runfolder.own_code import OwnCodeError
from harness.runfolder.parts import PartError
from harness.runfolder.plan import AFTERWARDS, Plan, load_plan, sweeps_folder
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from optuna import Trial
    from optuna.trial import FrozenTrial

VALUES = "values"  # of a trial: those of its objective over the seeds, lower is better
RUN = "run"  # of a trial: the id of its run, the last one of several seeds
WORKER = "worker"  # of a trial: the command that runs it
RESUMES = "resumes"  # of a trial: the number of the interrupted one that it continues


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
        self._workers = search.workers
        self._workers.enter()
        self._composing = threading.Lock()
        self._followed: set[str] = set()
        self._is_told = False
        self.plan = self._known()
        if self.plan.jobs and not self.study.trials:
            notices.say(
                f"search {search.id}: {search.storage} has no trials of it anymore, "
                f"only its {len(self.plan.jobs)} runs are left: the trials start again; those with "
                "the values of a finished run take its result"
            )
        self._error: Exception | None = None
        self._order = Objective.parse(search.base.objective).order
        self._costs = tuple(map(Cost.parse, search.costs))
        self._own_source = search.own_source()
        self._deliver(self.plan.runs(search.outputs))

    @property
    def _seeds(self) -> "list[dict[str, str]]":
        """The seeds of each trial as settings: none for the one of the base configuration."""
        return [{space.SEED: seed} for seed in self.search.seeds] or [{}]

    def _known(self) -> Plan:
        """The plan as the commands of this search left it, without runs that were removed."""
        search = self.search
        own = next(map(str, own_code.folders()), "")
        new = Plan(search.id, search.typed, (), about=search.about, costs=search.costs,
                   config_dir=own)  # fmt: skip
        if not (sweeps_folder(search.outputs) / f"{search.id}.json").is_file():
            return new
        plan = load_plan(search.outputs, search.id)
        pairs = zip(plan.jobs, plan.runs(search.outputs), strict=True)
        jobs = tuple(job for job, run in pairs if run.is_readable())
        about = plan.about.then(search.about, 0)
        if not plan.about.question:
            about = replace(about, asked_after=search.about.asked_after)
        return replace(new, jobs=jobs, about=about, verdict=plan.verdict)

    def _deliver(self, runs: Iterable[Run]) -> None:
        """Follow the runs, once each."""
        for run in runs:
            if run.id not in self._followed:
                self._followed.add(run.id)
                self._follow(run)

    def elsewhere(self) -> str:
        """A line about the trials whose runs are not here, as of commands with other `outputs`."""
        here = {job.run for job in self.plan.jobs}
        runs = [each.user_attrs.get(RUN, "") for each in ended(self.study)]
        if self.search.storage.uri is None or here.issuperset(filter(None, runs)):
            return ""
        count = sum(run not in here for run in runs)
        return (
            f"{count} of {len(runs)} trials have no run here; if other commands trained them in "
            "another folder, `python -m harness merge FOLDER` joins it"
        )

    def run(self) -> None:
        """Run trials until the search has its total. Raises `KeyboardInterrupt`."""
        with self._workers.turn():
            self._running()
            left = self.search.settings.n_trials - len(ended(self.study))
        if left <= 0:
            return
        runs = self.plan.runs(self.search.outputs)
        over = [run for run in runs if _is_over(run.history())]
        total = len(over) + left * len(self._seeds)
        board = Scoreboard([], total, is_by_setting=bool(self.search.seeds))
        with setting_event() as stop, board:
            self._stop, self._board = stop, board
            self._shown = {run.id for run in over}
            for run in over:
                board.add(run, over=True)
            self._work_in_slots()
        self.plan = self._known()
        self._deliver(self.plan.runs(self.search.outputs))
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
        context = contextvars.copy_context()  # threads have none of the user's folders
        slots = range(self.launcher.slots)
        with ThreadPoolExecutor(len(slots)) as pool:
            futures = [pool.submit(context.copy().run, self._work) for _ in slots]
        for future in futures:
            future.result()

    def _work(self) -> None:
        """Run one trial after another; returns when no other command may leave one.

        An error that is not of one trial ends the search: the slots stop, and `run` raises it.
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
        """A trial with its values, or whether one may come, of another command that dies."""
        with self._workers.turn():
            running = self._running()
            room = self.search.settings.n_trials - len(ended(self.study)) - len(running)
            if room > 0:
                if self.launcher.slots > 1 or self._workers.others():
                    self.study.sampler.reseed_rng()  # those of one seed propose the same
                trial = self.study.ask()
                trial.set_user_attr(WORKER, self._workers.id)
                for parameter in self.search.space:
                    parameter.suggest(trial)
                return trial, True
        elsewhere = sum(each.user_attrs[WORKER] != self._workers.id for each in running)
        if elsewhere and not self._is_told:
            self._is_told = True
            print(f"{elsewhere} trial(s) are trained by other commands: waiting", flush=True)
        return None, elsewhere > 0

    def _running(self) -> "list[FrozenTrial]":
        """The trials that living commands run; those of dead ones wait again. In a turn."""
        from optuna.trial import TrialState

        live = {self._workers.id, *self._workers.others()}
        running = []
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.user_attrs.get(WORKER) not in live:
                self._put_back(trial)
            elif ERROR not in trial.user_attrs:
                running.append(trial)
        return running

    def _put_back(self, trial: "Trial | FrozenTrial") -> None:
        """End a trial that was interrupted; one with its values is asked for next."""
        from optuna.trial import TrialState

        with self._workers.turn():
            waiting = self.study.get_trials(states=(TrialState.WAITING,))
            is_known = any(each.user_attrs.get(RESUMES) == trial.number for each in waiting)
            if not is_known and ERROR not in trial.user_attrs:  # else it failed as it was killed
                self.study.enqueue_trial(trial.params, user_attrs={RESUMES: trial.number})
            self.study.tell(trial.number, state=TrialState.FAIL)

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
            values, state = None, TrialState.FAIL
            trial.set_user_attr(ERROR, str(error))
        except SearchInterrupted:
            self._put_back(trial)
            return
        except Exception:
            self._put_back(trial)
            raise
        with self._workers.turn():
            self.study.tell(trial.number, values, state)

    def _judge(self, trial: "Trial") -> list[float]:
        """The value of a trial's objective at the epoch whose weights count, over its seeds.

        And what it costs. Trains it with one seed after another, while it can still win; of several
        objectives, with all.
        """
        values = {each.key: each.suggest(trial) for each in self.search.space}
        found: list[float] = []
        paid: list[list[float]] = []
        now = Prospect(math.nan, math.inf)
        started = 0
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
                if not now.can_win:
                    break
        finally:
            self._board.fewer(len(self._seeds) - started)
        trial.set_user_attr(VALUES, found)
        if not now.can_win:
            shown = ",".join(f"{key}={space.short(value)}" for key, value in values.items())
            print(f"{shown} cannot win anymore, after {len(found)} of {len(self._seeds)} seeds")
        return [self._order(now.mean), *map(float, np.mean(paid, axis=0))]

    def _paid(self, run: Run) -> list[float]:
        """What a finished run costs; NaN for what was not recorded."""
        history = run.history()
        epoch = int(history.final.get(metrics.BEST_EPOCH, 0)) or None
        curves = {cost.key: np.array(history.curve(cost.key)) for cost in self._costs}
        return [cost.of(history.final, curves, epoch) for cost in self._costs]

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
        with self._workers.turn():
            self.plan.save(self.search.outputs)

    @contextmanager
    def _claim(self, run: Run) -> Iterator[None]:
        """Hold the claim of a run; waits while another trial has it."""
        with ExitStack() as held:
            while not held.enter_context(claimed(run)):
                if self._stop.wait(POLL_S):
                    raise SearchInterrupted
            yield

    def _freeze_trial(self, trial: "Trial", values: dict[str, str]) -> Run:
        """The run of these values. Raises `TrialFailed` when they cannot be combined."""
        if self._stop.is_set():
            raise SearchInterrupted
        try:
            run = self._freeze(values)
        except Busy:
            raise  # not of this trial: the search ends
        except (ConfigError, PartError) as error:
            print(f"trial {trial.number} is not possible: {error}", file=sys.stderr)
            raise TrialFailed(str(error)) from None
        trial.set_user_attr(RUN, run.id)
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
            raise SearchInterrupted
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
        with self._composing:
            config = compose_one(lines, search.folder / "conf", search.own_folders)
            configuration.check(config)
            prepared = freeze.prepare([freeze.with_backend(Job(name, shown, config))])[0]
            self._check_data(prepared.data_digest)
        with self._workers.turn():
            self.plan = self._known()
            self._show_others()
            run = next((job.run for job in self.plan.jobs if job.key == prepared.key), None)
            if run is None:
                number = str(len(self.plan.jobs) + 1)
                membership = Membership(search.id, number, self.plan.about)
                job = freeze.freeze_trial(prepared, list(search.typed), membership)
                self.plan = replace(self.plan, jobs=(*self.plan.jobs, job), verdict="")
                self.plan.save(search.outputs)
                run = job.run
            self._shown.add(run)
        found = open_run(search.outputs, run)
        self._deliver([found])
        return found

    def _show_others(self) -> None:
        """Count the runs that other commands have trained since."""
        for run in self.plan.runs(self.search.outputs):
            if run.id not in self._shown and _is_over(run.history()):
                self._shown.add(run.id)
                self._board.add(run, over=True)

    def _check_data(self, digest: str) -> None:
        """Raise `ValueError` unless a trial has the data that the search started with."""
        search = self.search
        is_searched = any(p.key.lstrip("+").partition(".")[0] == "dataset" for p in search.space)
        if not is_searched and digest != search.data():
            raise ValueError(
                f"search {search.id}: the data set was changed while it runs; restore it and "
                "repeat the command, or start another search with hydra.sweeper.study=NAME"
            )


def _is_over(history: History) -> bool:
    return history.status in (RunStatus.FINISHED, RunStatus.FAILED) or history.is_pruned
