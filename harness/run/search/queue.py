"""Which trial is next: those to be tried again, paused ones that go on, then new ones.

Trials of commands that died, and trials that earlier commands left without a result, are tried
again. All commands of a search ask the same study, in turns. A trial names its command, so none is
taken twice.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.run.search import pausing
from harness.run.search.pausing import CONTINUES, PAUSE
from harness.run.search.search import Search
from harness.run.search.study import (
    ERROR,
    IMPOSSIBLE,
    RESUMES,
    RUNS,
    ended,
    is_removed,
    open_study,
    proposed,
    resumed,
)
from harness.runfolder.objective import Objective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Trial
    from optuna.trial import FrozenTrial, TrialState

WORKER = "worker"  # of a trial: the command that runs it


class TrialQueue:
    """The trials of a search, with ask and tell. Thread-safe."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.study = open_study(search)
        self.workers = search.workers
        self.workers.enter()
        self._objective = Objective.parse(search.base.objective)
        self.rungs = search.rungs
        self._try_again()

    def left(self) -> int:
        """How many trials are to be started or are running; 0 when the search is over."""
        with self.workers.turn():
            self._running()
            left = self._room([])
            if left > 0 or not self.rungs:
                return max(left, 0)
            return int(self._is_waiting() or self._going_on(is_full=True) is not None)

    def ask(self, *, several: bool) -> "tuple[Trial | None, int, int]":
        """A trial with its values; how many are running, and how many of those elsewhere.

        several: whether this command trains several at the same time.
        """
        with self.workers.turn():
            running = self._running()
            elsewhere = sum(each.user_attrs[WORKER] != self.workers.id for each in running)
            if not self._enqueue(running):
                return None, len(running), elsewhere
            if several or self.workers.others():
                self.study.sampler.reseed_rng()  # those of one seed propose the same
            trial = self.study.ask()
            trial.set_user_attr(WORKER, self.workers.id)
            if self.rungs and PAUSE not in trial.user_attrs:
                trial.set_user_attr(PAUSE, self.rungs[0])
            for parameter in self.search.space:
                parameter.suggest(trial)
            return trial, len(running), elsewhere

    def elsewhere(self) -> set[int]:
        """The numbers of the trials that other commands run."""
        with self.workers.turn():
            return {e.number for e in self._running() if e.user_attrs[WORKER] != self.workers.id}

    def _enqueue(self, running: "Sequence[FrozenTrial]") -> bool:
        """Queue the trial that the study shall return next. Returns whether there is one."""
        room = self._room(running)
        if not self.rungs:
            return room > 0
        if self._is_waiting():
            return True
        going_on = self._going_on(is_full=room <= 0)
        if going_on is not None:
            course, rung = going_on
            attributes = {CONTINUES: course.number, PAUSE: rung}
            self.study.enqueue_trial(course.params, user_attrs=attributes)
            return True
        if room > 0 and self.search.settings.sampler == "tpe":
            found = self._courses()
            ranked = pausing.ranked(found, self.rungs)
            begun = len(found) + self._repeated()  # else it would be proposed once more
            self.study.enqueue_trial(proposed(self.search, ranked, begun))
        return room > 0

    def _is_waiting(self) -> bool:
        """Whether a trial with its values waits to be asked for."""
        from optuna.trial import TrialState

        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def _room(self, running: "Sequence[FrozenTrial]") -> int:
        """How many more settings may start."""
        begun = sum(CONTINUES not in each.user_attrs for each in (*ended(self.study), *running))
        return self.search.settings.n_trials - begun

    def _courses(self) -> list[pausing.Course]:
        return pausing.courses(self.study.get_trials(deepcopy=False), self._objective, ERROR)

    def _going_on(self, *, is_full: bool) -> tuple[pausing.Course, int] | None:
        startup = pausing.startup(self.search.settings.startup_trials)
        return pausing.chosen(self._courses(), self.rungs, startup, is_full=is_full)

    def _running(self) -> "list[FrozenTrial]":
        """The trials that living commands run; those of dead ones wait again. In a turn."""
        from optuna.trial import TrialState

        live = {self.workers.id, *self.workers.others()}
        running = []
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.user_attrs.get(WORKER) not in live:
                self.put_back(trial)
            elif ERROR not in trial.user_attrs:
                running.append(trial)
        return running

    def put_back(self, trial: "Trial | FrozenTrial") -> None:
        """End a trial that was interrupted; one with its values is asked for next."""
        from optuna.trial import TrialState

        with self.workers.turn():
            if ERROR not in trial.user_attrs:  # else it failed as it was killed
                self._enqueue_again(trial)
            self.study.tell(trial.number, state=TrialState.FAIL)

    def _try_again(self) -> None:
        """Queue the trials that earlier commands left without a result before new ones.

        That is the trials that failed, unless their values cannot be combined, and the finished
        ones of which a run was removed.
        """
        from optuna.trial import TrialState

        with self.workers.turn():
            self._running()
            for trial in ended(self.study):
                is_finished = trial.state is TrialState.COMPLETE
                is_lost = is_finished and is_removed(self.search.storage, trial)
                has_failed = ERROR in trial.user_attrs and IMPOSSIBLE not in trial.user_attrs
                if has_failed or is_lost:
                    self._enqueue_again(trial)

    def _enqueue_again(self, trial: "Trial | FrozenTrial") -> None:
        """Have a trial with the same values asked for, once. In a turn."""
        if trial.number in resumed(self.study):
            return
        kept = {k: v for k, v in trial.user_attrs.items() if k in (CONTINUES, PAUSE)}
        attributes: dict[str, Any] = {RESUMES: trial.number, **kept}
        self.study.enqueue_trial(self._values(trial.number), user_attrs=attributes)

    def begun(self, trial: "Trial") -> int:
        """How many runs were begun by the trials that this one replaces."""
        trials, most = self.study.get_trials(deepcopy=False), 0
        attributes = trial.user_attrs
        while RESUMES in attributes:
            attributes = trials[attributes[RESUMES]].user_attrs
            most = max(most, len(attributes.get(RUNS, ())))
        return most

    def _values(self, number: int) -> dict[str, Any]:
        """Those of a trial, also of one whose command was killed as it asked for them."""
        trial = self.study.get_trials(deepcopy=False)[number]
        values: dict[str, Any] = trial.system_attrs.get("fixed_params", {}) | trial.params
        return values

    def fail(self, trial: "Trial", why: str) -> None:
        """Note that a trial failed, which this command does not try again."""
        from optuna.trial import TrialState

        trial.set_user_attr(ERROR, why)
        self.tell(trial, None, TrialState.FAIL)

    def refuse(self, trial: "Trial", why: str) -> bool:
        """Note that a trial's values cannot be combined; no command tries it again.

        Returns whether that was new. Otherwise it takes the place of the trial that had the same
        values, so that they count once.
        """
        with self.workers.turn():
            same = [each.number for each in self._impossible() if each.params == trial.params]
            if same and RESUMES not in trial.user_attrs:
                trial.set_user_attr(RESUMES, same[0])
            trial.set_user_attr(IMPOSSIBLE, True)
            self.fail(trial, why)
        return not same

    def impossible(self) -> dict[str, int]:
        """Why the values of trials cannot be combined, and of how many."""
        return Counter(str(trial.user_attrs[ERROR]) for trial in self._impossible())

    def _impossible(self) -> "list[FrozenTrial]":
        return [trial for trial in ended(self.study) if IMPOSSIBLE in trial.user_attrs]

    def _repeated(self) -> int:
        """How many trials had values that were already known to be impossible to combine."""
        trials = self.study.get_trials(deepcopy=False)
        return sum(IMPOSSIBLE in t.user_attrs for t in trials) - len(self._impossible())

    def tell(self, trial: "Trial", values: list[float] | None, state: "TrialState") -> None:
        """Note how a trial ended. values: one for each objective, of a finished one."""
        with self.workers.turn():
            self.study.tell(trial.number, values, state)
