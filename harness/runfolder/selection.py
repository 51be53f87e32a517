"""Select runs: one language for every command and for Python.

    last   last~1   3f2a   ab12cd 77e0   mnist   batch=16,seed=1   since=7d   "params.lr < 0.1"

Each word is the id of a run or a sweep (or a unique prefix), the name of a run, a sweep or an
experiment, or `last`, what the newest command made (`last~1`: the one before). Several words select
their union. Two kinds of words restrict it instead: `since=`, and a filter in MLflow's language
(see filters.py); without other words they restrict all runs. Reproductions and archived runs are
selected only by their ids.
"""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.runfolder import delivered, folder, removed
from harness.runfolder.filters import FILTER, Filter
from harness.runfolder.folder import Ambiguous, named, open_run
from harness.runfolder.hint import hint
from harness.runfolder.plan import Plan, saved_plans
from harness.runfolder.run import REPRODUCES, Run

LAST = re.compile(r"last(?:~(\d+))?")
SINCE = re.compile(r"since=(.*)", re.DOTALL)
AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
ID_PREFIX = 4  # fewest characters of an MLflow id or the id of a removed run
UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
DAY, MINUTE = "%Y-%m-%d", "%Y-%m-%dT%H:%M"
Folders = Path | Sequence[Path]
"""An outputs folder, or several that are read as one."""


class Unknown(ValueError):
    """A word names nothing in outputs; `word` is the word."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


@dataclass(frozen=True)
class Selection:
    """The selected runs, in the order of their sweep if there is just one, else oldest first.

    title: what they are, in words. plan: the plan, if the words select one whole sweep. unreadable:
    the problems of run folders that could be selected but have no readable journal or are gone.
    plans: those of all sweeps that are selected whole. sweep, experiment: the id or name, if the
    words select one whole sweep or experiment; a sweep in several outputs has no plan here.
    """

    title: str
    runs: tuple[Run, ...]
    plan: Plan | None = None
    unreadable: tuple[str, ...] = ()
    plans: tuple[Plan, ...] = ()
    sweep: str = ""
    experiment: str = ""


def of_others(plans: Sequence[Plan], every: Iterable[Plan]) -> dict[str, str]:
    """The runs of some sweeps that other sweeps share, each with the id of such a sweep."""
    its = {job.run for plan in plans for job in plan.jobs}
    ids = {plan.id for plan in plans}
    return {
        job.run: other.id
        for other in every
        if other.id not in ids
        for job in other.jobs
        if job.run in its
    }


def missing(folders: Sequence[Path], plans: Iterable[Plan]) -> list[str]:
    """A line for each run of these sweeps whose folder is gone but was not removed by `rm`."""
    lines = {}
    for plan in plans:
        for job in plan.jobs:
            if not any(_was_here(folder, job.run) for folder in folders):
                lines[job.run] = (
                    f"{job.name} ({job.run}) of sweep {plan.id}: its folder is gone; repeating the "
                    "sweep's command trains it again"
                )
    return list(lines.values())


def _was_here(outputs: Path, run_id: str) -> bool:
    """Whether a run is in outputs or was removed from there by `rm`."""
    places = open_run(outputs, run_id), removed.removed_run(outputs, run_id)
    return any(run.folder.is_dir() for run in places) or run_id in removed.gone(outputs)


def listed(outputs: Folders) -> list[Path]:
    """The distinct folders; commands write to the first."""
    return [outputs] if isinstance(outputs, Path) else list(dict.fromkeys(outputs))


def select(outputs: Folders, words: Sequence[str] = ()) -> Selection:
    """The runs in one or several outputs that the words select; without words, all runs.

    Raises `Unknown` for a word that names nothing, `Ambiguous` for one that names several things,
    and `ValueError` for an invalid condition.
    """
    return Outputs(listed(outputs)).select(words)


def one_run(outputs: Path, word: str) -> Run:
    """The one run that a word selects; `last` is the newest run, even if a sweep has it.

    Raises like `select`, and `ValueError` for several runs.
    """
    return folder.find(outputs, word) if word == "last" else only(select(outputs, [word]))


def only(chosen: Selection) -> Run:
    """The only run of a selection. Raises `ValueError` if there is not exactly one."""
    if len(chosen.runs) != 1:
        names = ", ".join(run.id for run in chosen.runs[:3])
        such = f"; name one, such as {names}" if names else ""
        raise ValueError(f"{chosen.title} has {len(chosen.runs)} runs{such}")
    return chosen.runs[0]


def since_ms(text: str) -> int:
    """The time that `since=TEXT` names, in ms since 1970. Raises `ValueError`."""
    if found := AGE.fullmatch(text):
        return int((time.time() - float(found[1]) * UNIT_S[found[2]]) * 1000)
    for form in (DAY, MINUTE):
        try:
            return int(time.mktime(time.strptime(text, form)) * 1000)
        except (ValueError, OverflowError):
            continue
    raise ValueError(
        f"since={text}: expected an age such as 90m, 12h, 7d or 2w, or a time such as 2026-11-27 "
        "or 2026-11-27T09:30"
    )


def divided(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split words into those that name something and the conditions."""
    conditions = [word for word in words if SINCE.fullmatch(word) or FILTER.match(word)]
    return [word for word in words if word not in conditions], conditions


def is_relative(words: Sequence[str]) -> bool:
    """Whether runs that are made or removed later can change what the words select."""
    names, conditions = divided(words)
    return bool(conditions) or any(LAST.fullmatch(name) for name in names)


def title(titles: Sequence[str], conditions: Sequence[str]) -> str:
    """Join the titles of what words select: "run A" and "run B" give "runs A B"."""
    if not titles:
        return " ".join(["filter", *conditions]) if conditions else "all runs"
    kinds = {each.partition(" ")[0] for each in titles}
    if len(titles) > 1 and len(kinds) == 1:
        (kind,) = kinds
        titles = [" ".join([f"{kind}s", *(each.partition(" ")[2] for each in titles)])]
    return " ".join([" and ".join(titles), *conditions])


def _accepted(runs: Iterable[Run], conditions: Sequence[str]) -> tuple[Run, ...]:
    """The runs that meet all conditions. Raises `ValueError` for an invalid condition."""
    runs = list(runs)
    filters = [Filter.parse(each) for each in conditions if not SINCE.fullmatch(each)]
    for each in filters:
        each.check(runs)
    since = [since_ms(found[1]) for each in conditions if (found := SINCE.fullmatch(each))]
    return tuple(
        run
        for run in runs
        if run.create["ms"] >= max(since, default=0) and all(each.accepts(run) for each in filters)
    )


def shown_plans(outputs: Path) -> list[Plan]:
    """The sweeps that are not archived, in the order in which they were saved."""
    shown = sorted(Outputs([outputs]).shown, key=lambda each: (each[0], each[1].id))
    return [plan for _, plan, _ in shown]


class Outputs:
    """The runs and sweeps of some outputs folders, read once.

    of_archived: whether words other than ids select what was archived, instead of the rest. runs:
    oldest first. broken: name of a run folder without a readable journal -> its problem. plans: the
    time in ns when each was saved, the plan, and the folder that has it.
    """

    def __init__(self, folders: Sequence[Path], *, of_archived: bool = False) -> None:
        self.folders, self.of_archived = folders, of_archived
        scanned = [folder.scan(each) for each in folders]
        self.runs = _sorted(run for runs, _ in scanned for run in runs)
        self.broken = {path.name: problem for _, broken in scanned for path, problem in broken}
        self.plans = [(saved, plan, each) for each in folders for saved, plan in saved_plans(each)]

    @cached_property
    def archived(self) -> frozenset[str]:
        """The ids of the runs that were archived."""
        return frozenset(run.id for run in self.runs if run.is_archived)

    @cached_property
    def own(self) -> tuple[Run, ...]:
        """The runs that words other than ids select: no reproductions, none archived."""
        return tuple(
            run
            for run in self.runs
            if REPRODUCES not in run.create["tags"]
            and (run.id in self.archived) == self.of_archived
        )

    @cached_property
    def shown(self) -> list[tuple[int, Plan, Path]]:
        """The plans that are not archived, neither themselves nor all their runs."""
        return [each for each in self.plans if self._is_aside(each[1]) == self.of_archived]

    @cached_property
    def aside(self) -> list[tuple[int, Plan, Path]]:
        """The plans that were archived."""
        return [each for each in self.plans if self._is_aside(each[1])]

    def _is_aside(self, plan: Plan) -> bool:
        runs = {job.run for job in plan.jobs}
        return plan.is_archived or (bool(runs) and runs <= self.archived)

    def select(self, words: Sequence[str]) -> Selection:
        """See the function `select`."""
        names, conditions = divided(words)
        chosen = [self._named(word) for word in names]
        if len(chosen) == 1 and not conditions:
            return chosen[0]
        if len(chosen) == 1:
            runs = chosen[0].runs
        else:
            runs = _sorted(run for each in chosen for run in each.runs) if names else self.own
        accepted = _accepted(runs, conditions)
        about = title([each.title for each in chosen], conditions)
        plans = () if conditions else tuple(plan for each in chosen for plan in each.plans)
        lost = [problem for each in chosen for problem in each.unreadable]
        lost += [] if names else missing(self.folders, (plan for _, plan, _ in self.shown))
        unreadable = tuple(dict.fromkeys([*self.broken.values(), *lost]))
        return Selection(about, accepted, unreadable=unreadable, plans=plans)

    def _named(self, word: str) -> Selection:
        if found := LAST.fullmatch(word):
            return self._last(word, int(found[1] or 0))
        if any(run.create["experiment"] == word for run in self.own):
            return self._experiment(word)
        of_name = [Selection("", (run,)) for run in self.own if word == run.create["name"]]
        named = [each for each in self.shown if word and word == each[1].about.name]
        of_name += [self._sweep(plan, at) for _, plan, at in named]
        if len(of_name) == 1 and of_name[0].plan is not None:
            return of_name[0]
        if of_name:
            return Selection(f"name {word}", _sorted(run for each in of_name for run in each.runs))
        return self._by_id(word)

    def _experiment(self, word: str) -> Selection:
        """Its runs, including those whose experiment has this name in the store, as `sync` saw."""
        runs = [
            run
            for run in self.own
            if word in (run.create["experiment"], run.delivered().get(delivered.RENAMED))
        ]
        every = tuple(self.broken.values())
        return Selection(f"experiment {word}", tuple(runs), unreadable=every, experiment=word)

    def _by_id(self, word: str) -> Selection:
        sweeps = [(plan, each) for _, plan, each in self.plans if word and plan.id.startswith(word)]
        runs = {run.id: run for run in self.runs if word and run.id.startswith(word)}
        if not runs and not sweeps and len(word) >= ID_PREFIX:
            runs = {run.id: run for run in self.runs if _mlflow_id(run).startswith(word)}
        exact = [(plan, each) for plan, each in sweeps if plan.id == word]
        sweeps = exact or sweeps
        ids = sorted({plan.id for plan, _ in sweeps} | runs.keys())
        if len(ids) > 1 and not (exact or word in runs):
            raise Ambiguous(f"{word!r} could be {named(ids)}; type more of it")
        if word in runs:
            return Selection(f"run {word}", (runs[word],))
        if len(sweeps) == 1:
            return self._sweep(*sweeps[0])
        if sweeps:  # the same sweep in several outputs: its runs in all of them
            parts = [self._sweep(plan, each) for plan, each in sweeps]
            lost = tuple(dict.fromkeys(problem for part in parts for problem in part.unreadable))
            runs_of_all = _sorted(run for part in parts for run in part.runs)
            one = parts[0]
            return Selection(one.title, runs_of_all, unreadable=lost, sweep=one.sweep)
        if runs:
            return Selection(f"run {ids[0]}", tuple(runs.values()))
        if (of_experiment := self._experiment(word)).runs:
            return of_experiment
        where = ", ".join(map(str, self.folders))
        for name, problem in self.broken.items():
            if word and name.startswith(word):
                raise ValueError(problem)
        for each in self.folders:
            if len(word) >= ID_PREFIX and (what := removed.named(each, word)):
                back = hint("restore", what.partition(" ")[2], outputs=each)
                raise ValueError(f"{what} was removed from {each}; `{back}` brings it back")
        if word and (aside := self._archived_as(word)):
            first, outputs = next(iter(aside.items()))
            raise ValueError(
                f"{word!r} was archived; select archived runs and sweeps by id: "
                f"{named(list(aside))}; "
                f"`{hint('archive', '--undo', first, outputs=outputs)}` lists it again"
            )
        raise Unknown(
            word,
            f"{word!r} is no run, sweep, name or experiment in {where}, nor a filter such as "
            f"\"params.batch = '16'\"; `{hint('status', outputs=self.folders)}` lists them. "
            "Only `compare` and `export` know names given in MLflow; the others know those of "
            f"experiments after `{hint('sync', outputs=self.folders[0])}`",
        )

    def _archived_as(self, word: str) -> dict[str, Path]:
        """Id -> outputs of archived sweeps with this name, else runs with it or its experiment."""
        sweeps = {plan.id: each for _, plan, each in self.aside if plan.about.name == word}
        return sweeps or {
            run.id: run.outputs
            for run in self.runs
            if run.id in self.archived and word in (run.create["name"], run.create["experiment"])
        }

    def _sweep(self, plan: Plan, outputs: Path) -> Selection:
        lost = [self.broken[job.run] for job in plan.jobs if job.run in self.broken]
        lost += missing(self.folders, [plan])
        runs = tuple(plan.readable_runs(outputs))
        return Selection(f"sweep {plan.id}", runs, plan, tuple(lost), (plan,), plan.id)

    def _last(self, word: str, back: int) -> Selection:
        """What the newest command, or an earlier one, made: a sweep or a single run."""
        in_sweeps = {
            run
            for _, plan, _ in self.plans
            for run in (*(job.run for job in plan.jobs), *plan.replaced)
        }
        made = [(saved / 1e6, self._sweep(plan, each)) for saved, plan, each in self.shown]
        made += [
            (folder.order(run), Selection(f"run {run.id}", (run,)))
            for run in self.own
            if run.id not in in_sweeps
        ]
        made.sort(key=lambda each: each[0])
        if back >= len(made):
            where = ", ".join(map(str, self.folders))
            raise Unknown(word, f"{word}: there are {len(made)} sweeps and single runs in {where}")
        return made[-1 - back][1]


def _mlflow_id(run: Run) -> str:
    return str(run.delivered().get("mlflow_id") or "")


def _sorted(runs: Iterable[Run]) -> tuple[Run, ...]:
    """The runs, oldest first; of copies in several outputs, only the one with the most records."""
    found: dict[str, Run] = {}
    for run in dict.fromkeys(runs):
        other = found.setdefault(run.id, run)
        if other != run and run.journal.stat().st_size > other.journal.stat().st_size:
            found[run.id] = run
    return tuple(sorted(found.values(), key=lambda run: (folder.order(run), run.id)))
