"""Select recorded runs by the words of a command: from journals or from a tracking store."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.runfolder import delivered, selection
from harness.runfolder.about import About
from harness.runfolder.hint import hint
from harness.runfolder.plan import AFTERWARDS, RACE, SEARCH, Plan, all_plans
from harness.runfolder.run import RACES, SEARCHES
from harness.runfolder.selection import Folders, Unknown, listed
from harness.runfolder.target import Target
from harness.tracking.reading import Reader
from harness.tracking.recorded import (
    Journals,
    Recorded,
    Source,
    from_journal,
    more_elsewhere,
)


@dataclass(frozen=True)
class Selection:
    """What is compared: a title, the runs, oldest first, and where they are read from.

    notes: what a reader of the comparison should know about the choice of runs. about: the name,
    note and question of the sweep, if it is one on disk. is_search: whether that is a search.
    is_raced: whether results decided how many seeds its settings got. raced: the runs of sweeps
    with `until=decided`; only its rule says which of their settings is better. costs: what the
    settings are compared by besides the objective, see `harness.runfolder.cost`. verdict: what
    `until=decided` decided. ended: the runs of the settings that it ended, if known. lacking: the
    runs of settings with a missing run, such as a removed one. sweep, experiment: the id or name,
    if it is one whole sweep or experiment. is_joined: whether several outputs have that sweep.
    """

    title: str
    recorded: list[Recorded]
    source: Source
    notes: tuple[str, ...] = ()
    about: About = About()
    is_search: bool = False
    is_raced: bool = False
    costs: tuple[str, ...] = ()
    verdict: str = ""
    ended: frozenset[str] = frozenset()
    raced: frozenset[str] = frozenset()
    lacking: frozenset[str] = frozenset()
    sweep: str = ""
    experiment: str = ""
    is_joined: bool = False

    @property
    def name(self) -> str:
        """The report's folder: the sweep's id, the experiment's name, else a digest.

        The report of a sweep in several outputs has its own folder, not the sweep's.
        """
        if self.sweep:
            return f"{self.sweep}-joined" if self.is_joined else self.sweep
        if re.fullmatch(r"[\w.-]+", self.experiment):
            return f"experiment-{self.experiment}"
        kind, _, rest = self.title.partition(" ")
        return f"{kind}-{hashlib.sha256(rest.encode()).hexdigest()[:8]}"


def select(outputs: Folders, words: Sequence[str], uri: str | None = None) -> Selection:
    """The runs that the words select, see `harness.runfolder.selection`; without words, all.

    Runs in outputs are read from their journals, wherever they were delivered. With `uri`, or if
    the words select nothing in outputs, the store is read. Raises `ValueError` or `StoreError`.
    """
    folders = listed(outputs)
    local = Target.local(folders[0])
    if uri is None:
        try:
            chosen = selection.select(folders, words)
            recorded = list(map(from_journal, chosen.runs))
            notes = [f"left out: {problem}" for problem in chosen.unreadable]
            notes += _elsewhere(folders, chosen)
            notes += delivered.deleted(run.folder for run in chosen.runs)
            plan = chosen.plan or Plan("", (), ())
            costs = tuple(dict.fromkeys(cost for each in chosen.plans for cost in each.costs))
            raced = _raced(recorded, chosen.plans)
            return replace(
                of_plan(plan, recorded, notes), title=chosen.title, costs=costs, raced=raced,
                sweep=chosen.sweep, experiment=chosen.experiment,
                is_joined=bool(chosen.sweep) and chosen.plan is None,
            )  # fmt: skip
        except Unknown:
            if local.database is None or not local.database.exists():
                raise
    reader = Reader(Target.named(uri, folders[0]))
    found = reader.select(words)
    recorded, sweep = found.runs, found.sweep
    notes = reader.elsewhere(recorded) if found.experiment else []
    is_search = _is_kind(SEARCHES, SEARCH, sweep, recorded)
    is_raced = is_search or _is_kind(RACES, RACE, sweep, recorded)
    if is_raced and _has_seeds(recorded):
        notes.append(AFTERWARDS)
    raced = _raced(recorded, ())
    if sweep:
        is_decided = is_raced and not is_search
        raced = frozenset(run.run for run in recorded) if is_decided else frozenset()
    return Selection(
        found.title, recorded, reader, tuple(notes), is_search=is_search, is_raced=is_raced,
        raced=raced, sweep=sweep, experiment=found.experiment,
    )  # fmt: skip


def of_plan(plan: Plan, recorded: list[Recorded], notes: Sequence[str] = ()) -> Selection:
    """The recorded runs of a sweep on disk. notes: added after the note about its seeds."""
    added = plan.verdict if plan.is_search else ""
    if not added and plan.is_raced and _has_seeds(recorded):
        added = AFTERWARDS
    return Selection(
        f"sweep {plan.id}", recorded, Journals(), (*([added] if added else []), *notes),
        plan.about, plan.is_search, plan.is_raced, plan.costs,
        "" if plan.is_search else plan.verdict, frozenset(plan.ended), _raced(recorded, [plan]),
        _lacking(plan, recorded), plan.id,
    )  # fmt: skip


def _lacking(plan: Plan, recorded: Sequence[Recorded]) -> frozenset[str]:
    """See `Selection`."""
    here = {run.run for run in recorded}
    settings = {job.run: {**job.swept, "seed": ""} for job in plan.jobs}
    lost = [setting for run, setting in settings.items() if run not in here]
    return frozenset(run for run, setting in settings.items() if setting in lost)


def _raced(recorded: Sequence[Recorded], plans: Sequence[Plan]) -> frozenset[str]:
    """See `Selection`. plans: those of the sweeps that are selected whole.

    A run of such a sweep without `until=decided` does not count as raced: the sweep chose its seeds
    before, even if another sweep has added more since.
    """
    decided = [plan for plan in plans if plan.is_raced and not plan.is_search]
    raced = {job.run for plan in decided for job in plan.jobs}
    of_plans = {job.run for plan in plans for job in plan.jobs}
    return frozenset(
        run.run
        for run in recorded
        if run.run in raced
        or (run.run not in of_plans and (run.tags.get(RACES) or _is_typed(RACE, run)))
    )


def _is_typed(word: str, run: Recorded) -> bool:
    """Whether a word of the command that made the run starts with this."""
    text = run.tags.get("command", run.tags.get("mlflow.source.name", ""))
    return any(each.startswith(word) for each in text.split())


def _has_seeds(recorded: Sequence[Recorded]) -> bool:
    return len({run.params.get("seed") for run in recorded}) > 1


def _is_kind(tag: str, typed: str, sweep: str, recorded: Sequence[Recorded]) -> bool:
    """Whether a sweep is a search or adds seeds by results; False without a sweep.

    tag: the tag with the ids of such sweeps. typed: the start of a word of its command, which
    identifies sweeps of earlier versions.
    """
    if not sweep:
        return False
    made = (run for run in recorded if run.tags.get("sweep", "").split(",")[0] == sweep)
    if (first := next(made, None)) is not None and _is_typed(typed, first):
        return True
    return any(sweep in run.tags.get(tag, "").split(",") for run in recorded)


def _elsewhere(folders: Sequence[Path], chosen: selection.Selection) -> list[str]:
    """Notes on sweeps that have some runs in the chosen experiment and more in others."""
    if not chosen.experiment:
        return []
    notes, known = [], set(chosen.runs)
    sweeps = [(plan, plan.readable_runs(each)) for each in folders for plan in all_plans(each)]
    for plan, runs in sweeps:
        others = [run for run in runs if run not in known]
        if 0 < len(others) < len(runs):
            names = sorted({repr(run.create["experiment"]) for run in others})
            notes.append(more_elsewhere(plan.id, len(others), names))
    return notes


def newest_sweep(outputs: Folders, uri: str | None = None) -> str:
    """The id of the newest sweep in outputs, or in a store. Raises `ValueError` or `StoreError`."""
    folders = listed(outputs)
    if uri is not None:
        return Reader(Target.named(uri, folders[0])).newest_sweep()
    found = selection.Outputs(folders)
    sweeps = [(saved, plan.id) for saved, plan, _ in found.shown]
    if not sweeps and found.plans:
        raise ValueError(
            f"{', '.join(map(str, folders))}: all sweeps are archived; "
            f"`{hint('status', '--archived', outputs=folders)}` lists them, and their ids name them"
        )
    if not sweeps:
        raise ValueError(
            f"{', '.join(map(str, folders))}: no sweep yet; start one with `python -m harness.run "
            "-m ...`, or name an experiment or runs"
        )
    return max(sweeps)[1]
