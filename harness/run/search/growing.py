"""The runs of a search's trials: a plan that grows with each new setting and seed."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

from harness.run import freeze
from harness.run.compose import Job, compose_one
from harness.run.freeze import Membership
from harness.run.prepared import Prepared
from harness.run.search import space
from harness.run.search.search import Search
from harness.run.search.workers import Workers
from harness.runfolder import config as configuration
from harness.runfolder import keys, own_code
from harness.runfolder.folder import open_run
from harness.runfolder.own_code import OwnCodeError
from harness.runfolder.plan import Plan, load_plan, sweeps_folder
from harness.runfolder.run import SEARCHES, Run


class GrowingPlan:
    """The runs that the commands of a search have made so far. Thread-safe.

    follow: called with each run once, to deliver it. `plan` is as it was last read.
    """

    def __init__(self, search: Search, workers: Workers, follow: Callable[[Run], None]) -> None:
        self._search, self._workers, self._follow = search, workers, follow
        self._composing = threading.Lock()
        self._followed: set[str] = set()
        self._read: dict[str, Run] = {}  # reused, because a run keeps what it has read
        self._own_source = search.own_source()
        self.plan = self._known()
        self._deliver(self.runs())

    def runs(self) -> list[Run]:
        """The runs of the plan."""
        return self.plan.runs(self._search.outputs)

    def epochs(self) -> int:
        """How many epochs all commands have trained so far."""
        with self._workers.turn():
            found = self._known().readable_runs(self._search.outputs)
        self._read = {run.id: self._read.get(run.id, run) for run in found}
        return sum(len(run.history().epochs) for run in self._read.values())

    def refresh(self) -> None:
        """Read the plan again, with the runs that other commands have made since."""
        self.plan = self._known()
        self._deliver(self.runs())

    def conclude(self, verdict: str) -> None:
        """Save the verdict in the plan, if it is new and the plan has jobs."""
        if verdict == self.plan.verdict or not self.plan.jobs:
            return
        self.plan = replace(self.plan, verdict=verdict)
        with self._workers.turn():
            self.plan.save(self._search.outputs)

    def run(self, values: dict[str, str]) -> Run:
        """The run of these values: the existing one, or a new one.

        Raises `ConfigError` or `PartError` if they cannot be combined, and `OwnCodeError` or
        `ValueError` if something has changed since the search started.
        """
        search = self._search
        if keys.is_source_changed():
            raise ValueError(
                f"search {search.id}: the source of data/, nn/ or training/ changed while it was "
                "running; restore it and repeat the command, or start another search with "
                "hydra.sweeper.study=NAME"
            )
        if search.own_source() != self._own_source:
            raise OwnCodeError(
                f"search {search.id}: the source of your own code changed while it was running; "
                "restore it and repeat the command, or start another search with "
                "hydra.sweeper.study=NAME"
            )
        lines = [*search.fixed, *(f"{key}={value}" for key, value in values.items())]
        shown = {key: space.short(value) for key, value in values.items()}
        name = ",".join(f"{key}={value}" for key, value in shown.items())
        with self._composing:
            config = compose_one(lines, search.folder / "conf", search.own_folders)
            prepared = _prepared(Job(name, shown, config))
            self._check_data(prepared.data_digest)
        with self._workers.turn():
            self.plan = self._known()
            run = next((job.run for job in self.plan.jobs if job.key == prepared.key), None)
            if run is None:
                number = str(len(self.plan.jobs) + 1)
                membership = Membership(search.id, number, self.plan.about, SEARCHES)
                job = freeze.freeze_trial(prepared, list(search.typed), membership)
                self.plan = replace(self.plan, jobs=(*self.plan.jobs, job), verdict="")
                self.plan.save(search.outputs)
                run = job.run
        found = open_run(search.outputs, run, name)
        self._deliver([found])
        return found

    def is_possible(self) -> bool:
        """Whether the base configuration can still be trained."""
        try:
            with self._composing:
                _prepared(Job("", {}, self._search.base))
        except ValueError:
            return False
        return True

    def _known(self) -> Plan:
        """The plan as the commands of this search saved it, without runs that were removed."""
        search = self._search
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
        """Call `follow` with the runs, once each."""
        for run in runs:
            if run.id not in self._followed:
                self._followed.add(run.id)
                self._follow(run)

    def _check_data(self, digest: str) -> None:
        """Raise `ValueError` unless a trial has the data that the search started with."""
        search = self._search
        if digest != search.data():
            raise ValueError(
                f"search {search.id}: the data set changed while it was running; restore it and "
                "repeat the command, or start another search with hydra.sweeper.study=NAME"
            )


def _prepared(job: Job) -> Prepared:
    """A job with its run key. Raises `ConfigError`, `PartError`, `ValueError`."""
    configuration.check(job.config)
    return freeze.prepare([freeze.with_backend(job)])[0]
