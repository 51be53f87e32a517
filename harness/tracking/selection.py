"""Resolve the arguments of `compare` (sweep, experiment, filter, run ids) to runs."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from harness.runfolder.plan import Plan, all_plans
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.reading import Reader
from harness.tracking.recorded import Journals, Recorded, Source, from_journal


@dataclass(frozen=True)
class Selection:
    """What is compared: its title, its runs, oldest first, and where they are read from.

    notes: what a reader of the comparison should know about the choice of runs.
    """

    title: str
    recorded: list[Recorded]
    source: Source
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The report's folder: the sweep's id, the experiment's name, else a digest."""
        kind, _, rest = self.title.partition(" ")
        if kind in ("sweep", "experiment") and re.fullmatch(r"[\w.-]+", rest):
            return rest if kind == "sweep" else f"{kind}-{rest}"
        return f"{kind}-{hashlib.sha256(rest.encode()).hexdigest()[:8]}"


def select(outputs: Path, words: list[str], uri: str | None) -> Selection:
    """Resolve the words. Raises `ValueError` or `StoreError`.

    A sweep that is on disk has all its runs, wherever they were delivered to: unless one store has
    all of them, it is read from its journals.
    """
    plan = _plan(outputs, words) if uri is None else None
    if plan is not None:
        return _of_plan(plan, outputs)
    reader = Reader(Target.named(uri, outputs))
    title, recorded = reader.select(words or [reader.newest_sweep()])
    notes = reader.elsewhere(recorded) if title.startswith("experiment ") else []
    return Selection(title, recorded, reader, tuple(notes))


def _of_plan(plan: Plan, outputs: Path) -> Selection:
    """All runs of a sweep that are on disk."""
    present = plan.readable_runs(outputs)
    targets = {run.target() for run in present} or {Target.local(outputs)}
    why = "some of its runs are in other stores"
    if len(targets) == 1:
        (target,) = targets
        if target is None:
            return _of_journals(plan, present)
        reader = Reader(target)
        title, recorded = reader.sweep(plan.id)
        lacking = {run.id for run in present} - {each.run for each in recorded}
        if not lacking:
            return Selection(title, recorded, reader)
        why = f"{target} lacks {len(lacking)} of its {len(present)} runs"
    return _of_journals(
        plan, present, f"{why}: read from the journals, and the report is not stored with a run"
    )


def _of_journals(plan: Plan, runs: list[Run], *notes: str) -> Selection:
    return Selection(f"sweep {plan.id}", list(map(from_journal, runs)), Journals(), notes)


def _plan(outputs: Path, words: list[str]) -> Plan | None:
    plans = all_plans(outputs)
    if not words:
        return plans[-1] if plans else None
    matches = [plan for plan in plans if plan.id.startswith(words[0])] if len(words) == 1 else []
    return matches[0] if len(matches) == 1 else None
