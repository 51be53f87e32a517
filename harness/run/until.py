"""`until=decided`: a sweep adds seeds only to the settings that can still be the best.

Every setting gets three seeds, then one more at a time until a single setting is left, the seeds
of the command are used up, or a limit is reached: `budget=2h`, `max_jobs=N`, `max_epochs=N`. Which
settings are dropped depends only on the values of the runs (`analysis/sequential.py`), so a
repeated command continues where it stopped.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.analysis.sequential import FIRST_LOOK, MOST_LOOKS, race
from harness.analysis.statistics import LEVEL
from harness.run import freeze
from harness.run.compose import Job
from harness.run.grammar import short
from harness.run.judged import difference, judged_by, refusal
from harness.run.limits import UNTIL, Limits
from harness.run.prepared import Prepared
from harness.runfolder.about import About
from harness.runfolder.config import ConfigError
from harness.runfolder.history import History
from harness.runfolder.objective import Objective
from harness.runfolder.plan import AFTERWARDS, DECIDED, NO_SEED
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus

SEED = "seed"


class Deciding:
    """Chooses which jobs of a sweep with `until=decided` are trained.

    plan: the jobs that were made so far; it grows. seeds: the most seeds of a setting.
    """

    def __init__(
        self, prepared: list[Prepared], limits: Limits, overrides: list[str], *, fresh: bool,
        accept: bool, about: About,
    ) -> None:  # fmt: skip
        """prepared: all jobs, checked. Makes the run folders of the first seeds.

        Raises `ConfigError`.
        """
        self._begin = time.monotonic()
        self._prepared, self._limits, self._fresh, self._accept = prepared, limits, fresh, accept
        config = prepared[0].job.config
        self._outputs, self._objective = Path(config.outputs), Objective.parse(config.objective)
        places = by_setting([each.job for each in prepared])
        if len({each.key for each in prepared}) < len(prepared):
            raise ConfigError(f"until={UNTIL}: some jobs differ in nothing that changes a result")
        self._settings = {name: [prepared[i] for i in found] for name, found in places.items()}
        self.seeds = len(next(iter(self._settings.values())))
        first = [each for jobs in self._settings.values() for each in jobs[:FIRST_LOOK]]
        self.plan = freeze.freeze_sweep(
            prepared, overrides, fresh=fresh, accept=accept, about=about, first=first, mark=UNTIL
        )
        self._told = 0

    def runs(self) -> list[Run]:
        """The runs that were made so far."""
        return self.plan.runs(self._outputs)

    def more(self, slots: int) -> list[Run]:
        """Judge the trained runs and make those of the next seed; none if the sweep is over.

        slots: how many jobs are trained at the same time. Prints which settings cannot be the best,
        and saves the verdict in the plan.
        """
        histories = {run.id: run.history() for run in self.runs()}
        by_key = {job.key: histories[job.run] for job in self.plan.jobs}
        names = list(self._settings)
        values = {name: self._values(jobs, by_key) for name, jobs in self._settings.items()}
        broken = [name for name, found in values.items() if found is None]
        whole = [name for name in names if name not in broken]
        ended = race([values[name] or [] for name in whole], self.seeds, others=len(broken))
        for each in ended[self._told :]:
            print(
                f"{each.seeds} seeds: {whole[each.setting]} can no longer be the best; "
                f"{whole[each.by]} is better",
                flush=True,
            )
        self._told = len(ended)
        out = {whole[each.setting] for each in ended}
        left = [name for name in whole if name not in out]
        jobs = self._next(left, by_key)
        why = self._why_over(left, jobs, list(by_key.values()), slots)
        if why:
            losers = {each.key for name in out for each in self._settings[name]}
            self.plan = replace(
                self.plan,
                verdict=self._verdict(left, broken, why),
                ended=tuple(job.run for job in self.plan.jobs if job.key in losers),
            )
            self.plan.save(self._outputs)
            return []
        known = set(histories)
        self.plan = freeze.add_jobs(
            self.plan, jobs, self._prepared, fresh=self._fresh, accept=self._accept
        )
        return [run for run in self.runs() if run.id not in known]

    def _values(self, jobs: list[Prepared], histories: Mapping[str, History]) -> list[float] | None:
        """The objective of a setting's runs in the order of their seeds, lower is better.

        None if one of the runs failed and has no value.
        """
        found = [histories[each.key] for each in jobs if each.key in histories]
        key = self._objective.best_key
        if any(each.status is not RunStatus.FINISHED or key not in each.final for each in found):
            return None
        values = [self._objective.order(each.final[key]) for each in found]
        return values if all(map(math.isfinite, values)) else None

    def _next(self, left: list[str], histories: Mapping[str, History]) -> list[Prepared]:
        """The job of the next seed of each remaining setting."""
        later = ([e for e in self._settings[name] if e.key not in histories] for name in left)
        return [jobs[0] for jobs in later if jobs]

    def _why_over(
        self, left: list[str], jobs: list[Prepared], histories: list[History], slots: int
    ) -> str:
        """Why no more seeds are trained; empty while the sweep continues."""
        limits, done = self._limits, [each for each in histories if each.epochs]
        if len(left) < 2:
            return "no other one is left" if left else "nothing was trained to the end"
        if not jobs:
            return f"all {self.seeds} seeds are used up"
        if limits.max_jobs is not None and len(histories) + len(jobs) > limits.max_jobs:
            return f"max_jobs={limits.max_jobs} {NO_SEED}"
        trained = [len(each.epochs) for each in done]
        most = max(trained)  # with `patience`, a job rarely trains all of its epochs
        epochs = sum(trained) + sum(min(each.job.config.epochs, most) for each in jobs)
        if limits.max_epochs is not None and epochs > limits.max_epochs:
            return f"max_epochs={limits.max_epochs} {NO_SEED}"
        each_s = sum(each.seconds for each in done) / len(done)
        needed = each_s * math.ceil(len(jobs) / slots)
        if time.monotonic() - self._begin + needed > limits.seconds:
            return f"budget={limits.budget} {NO_SEED}"
        return ""

    def _verdict(self, left: list[str], broken: list[str], why: str) -> str:
        """What was decided, in a sentence or two."""
        of = f"{len(self.plan.jobs)} of {len(self._prepared)} runs"
        title = self._objective.title
        if len(left) == 1 and not broken:
            return (
                f"{DECIDED} {of}: {left[0]} has the {self._objective.best_word} {title}, with "
                f"an error rate of {LEVEL:.0%} over all looks. {AFTERWARDS}"
            )
        still = f"; left: {', '.join(left)}" if left else ""
        failed = f"; without {', '.join(broken)}, of which runs failed" if broken else ""
        return f"not {DECIDED} {of}: {why}{still}{failed}. {AFTERWARDS}"


def by_setting(jobs: Sequence[Job]) -> dict[str, list[int]]:
    """The indices of each setting's jobs, by the setting's name, in the order of their seeds."""
    keys = [key for key in jobs[0].swept if key != SEED]
    shown = {key: short([job.swept[key] for job in jobs]) for key in keys}
    settings: dict[str, list[int]] = {}
    for place, job in enumerate(jobs):
        name = ",".join(f"{key}={shown[key][job.swept[key]]}" for key in keys)
        settings.setdefault(name, []).append(place)
    return settings


def check(jobs: Sequence[Job], limits: Limits) -> None:
    """Raise `ConfigError` if nothing can be decided among these jobs within the limits."""
    settings = by_setting(jobs)
    seeds = {tuple(jobs[i].swept.get(SEED, "") for i in places) for places in settings.values()}
    if len(settings) < 2:
        raise ConfigError(f"until={UNTIL}: there is one setting; sweep another key besides seed")
    if len(seeds) > 1 or len(min(seeds)) < FIRST_LOOK:
        raise ConfigError(
            f"until={UNTIL}: every setting needs the same seeds, {FIRST_LOOK} or more: the most "
            "that it may get, such as seed='range(1,31)'"
        )
    if len(min(seeds)) > MOST_LOOKS:
        raise ConfigError(f"until={UNTIL}: {len(min(seeds))} seeds; expected at most {MOST_LOOKS}")
    if any(job.config.dataset.num_val == 0 for job in jobs):
        raise ConfigError(f"until={UNTIL}: dataset.num_val=0: it needs validation examples")
    judged: dict[str, object] = {}
    for job in jobs:
        now = judged_by(job.config)
        key, judged = difference(judged, now), now | judged
        if key is not None:
            raise ConfigError(
                f"until={UNTIL}: {key.removesuffix('.name')}: {refusal(key)}; give every job the "
                "same"
            )
    first = first_round(jobs)
    for name, least in (
        ("max_jobs", len(first)),
        ("max_epochs", sum(e.config.least_epochs for e in first)),
    ):
        limit = getattr(limits, name)
        if limit is not None and limit < least:
            raise ConfigError(
                f"{name}={limit}: expected at least {least}, for the first {FIRST_LOOK} seeds of "
                f"{len(settings)} settings, without which until={UNTIL} decides nothing"
            )


def first_round(jobs: Sequence[Job]) -> list[Job]:
    """The jobs that are always trained, in their order."""
    return [jobs[i] for i in sorted(i for e in by_setting(jobs).values() for i in e[:FIRST_LOOK])]


def rest(jobs: Sequence[Job], limits: Limits) -> str:
    """A line about the jobs that can follow the first round."""
    most = len(jobs) if limits.max_jobs is None else min(limits.max_jobs, len(jobs))
    return (
        f"until={UNTIL}: listed are the first {FIRST_LOOK} seeds of each setting; at most "
        f"{most - len(first_round(jobs))} more job(s) follow, of settings that can still be the "
        "best"
    )
