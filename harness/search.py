"""A search with Optuna: every trial is an ordinary run, and hopeless ones are ended early.

Optuna's own loop asks for a trial whenever a slot of the launcher is free, in a thread that follows
the trial's journal. What the search began with is frozen before trial 0 in `outputs/sweeps/<id>/`:
the folder `conf`, from which all its trials are composed, and `search.json`; a repeated command
that would change any of it is refused.
"""

import json
import shutil
import tempfile
import threading
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from harness import config as configuration
from harness import freeze, launch, runs, space, sweep
from harness.config import ConfigError
from harness.engines import OptunaSweeper
from harness.files import write_text
from harness.launch import Job
from harness.launchers import Launcher, signals_set
from harness.nn import metrics
from harness.schema import Config
from harness.scoreboard import Scoreboard
from harness.space import Parameter
from harness.study import ended, open_study
from harness.sweep import Plan
from harness.training import journal

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial

FROZEN = "search.json"


class TrialEnded(RuntimeError):
    """A trial's job failed or was killed; the search goes on without it."""


class Interrupted(RuntimeError):
    """The command was told to stop; the trial goes on when it is repeated."""


@dataclass(frozen=True)
class Search:
    """A search that is validated and frozen. base: the configuration that trials change."""

    id: str
    settings: OptunaSweeper
    fixed: tuple[str, ...]
    space: tuple[Parameter, ...]
    base: Config
    typed: tuple[str, ...]

    @property
    def outputs(self) -> Path:
        """The folder for everything generated."""
        return Path(self.base.outputs)

    @property
    def folder(self) -> Path:
        """Where what it began with is frozen."""
        return sweep.folder_of(self.outputs) / self.id

    @cached_property
    def lock(self) -> FileLock:
        """What the one command holds that runs it; the operating system frees it with that."""
        return FileLock(self.folder / ".lock", timeout=0)


def check(
    settings: OptunaSweeper, overrides: list[str], typed: list[str], special: launch.CommandKeys
) -> Search:
    """Validate everything that a search could try. Writes nothing. Raises `ValueError`."""
    if "-m" not in typed:
        raise ConfigError("hydra/sweeper=optuna: a search is a sweep; add -m before the overrides")
    if special.resume is not None or special.fresh:
        raise ConfigError(
            "a search goes on by itself when its command is repeated, and one under another name, "
            "hydra.sweeper.study=NAME, begins anew: leave resume and fresh out"
        )
    fixed, parameters = space.part(overrides)
    first = [f"{parameter.key}={parameter.extremes[0]}" for parameter in parameters]
    for number, parameter in enumerate(parameters):
        for value in parameter.extremes:
            lines = [*fixed, *first]
            lines[len(fixed) + number] = f"{parameter.key}={value}"
            try:
                config = launch.composed(lines)
            except ConfigError as error:
                whole = "; int(interval(...)) gives whole numbers" if ".0" in value else ""
                raise ConfigError(f"{error}{whole}") from None
            configuration.check(config)
            freeze.with_backend(Job("", {}, config))
            if config.dataset.num_val == 0:
                raise ConfigError("dataset.num_val=0: a search needs validation images to judge by")
    common = [p.key for p in parameters if p.key.startswith(("tracking", "outputs", "threads"))]
    if common:
        raise ConfigError(f"{common[0]}: cannot be searched; give every trial the same")
    name = settings.study or sweep.digest(sorted(overrides), 10)
    base = launch.composed([*fixed, *first])
    return Search(name, settings, tuple(fixed), tuple(parameters), base, tuple(typed))


def begin(search: Search) -> None:
    """Freeze what the search begins with, or compare with what it began with before; lock it.

    Raises `ConfigError` when something has changed since, or another command runs it now.
    """
    prepared = freeze.prepare([freeze.with_backend(Job("", {}, search.base))])[0]
    settings = {k: v for k, v in asdict(search.settings).items() if k not in ("n_trials", "study")}
    now: dict[str, Any] = {
        **{f"hydra.sweeper.{key}": value for key, value in settings.items()},
        **{f"the space of {p.key}": asdict(p) for p in search.space},
        **configuration.leaves(search.base),
        "the data": prepared.dataset["sha256"],
        "the source of data/, nn/ and training/": sweep.source_digest(),
    }
    for key in ("outputs", "tracking.uri", "tracking.patience", "tracking.name", "threads"):
        del now[key]
    now = json.loads(json.dumps(now))  # as it will be read back
    path = search.folder / FROZEN
    if not path.is_file():
        search.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=search.folder.parent) as place:
            unfinished = Path(place) / search.id
            shutil.copytree(launch.conf_path(), unfinished / "conf")
            write_text(unfinished / FROZEN, json.dumps(now, indent=1))
            unfinished.rename(search.folder)
    try:
        search.lock.acquire()
    except Timeout:
        raise ConfigError(
            f"search {search.id}: another command runs it at this moment; let that end, or end it, "
            "and repeat this one to go on"
        ) from None
    before = json.loads(path.read_text())
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"search {search.id}: {key} was {before.get(key)} when it began and is "
                f"{now.get(key)} now; a search does not change: put it back, or begin another with "
                "hydra.sweeper.study=NAME"
            )


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
        self.plan = Plan(search.id, search.typed, known)
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
            try:
                self.study.optimize(
                    self._objective, left, n_jobs=self.launcher.slots, catch=(TrialEnded,)
                )
            except Interrupted:
                raise KeyboardInterrupt from None
        if stop.is_set():
            raise KeyboardInterrupt

    def _objective(self, trial: "Trial") -> float:
        from optuna import TrialPruned

        values = {each.key: each.suggest(trial) for each in self.search.space}
        if self._stop.is_set():
            self._give_up(trial)
        with self._lock:
            folder = self._freeze(values)
            busy = self._busy[folder.name]
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
