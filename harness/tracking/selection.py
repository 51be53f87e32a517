"""Resolve the arguments of `compare` (sweep, experiment, filter, run ids) to runs."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from harness.runfolder.plan import Plan, all_plans
from harness.runfolder.run import CONFIG
from harness.runfolder.target import Target
from harness.tracking.reading import Reader
from harness.tracking.recorded import Journals, Recorded, Source, from_journal


@dataclass(frozen=True)
class Selection:
    """What is compared: its title, its runs, oldest first, and where they are read from."""

    title: str
    recorded: list[Recorded]
    source: Source

    @property
    def name(self) -> str:
        """The report's folder: the sweep's id, the experiment's name, else a digest."""
        kind, _, rest = self.title.partition(" ")
        if kind in ("sweep", "experiment") and re.fullmatch(r"[\w.-]+", rest):
            return rest if kind == "sweep" else f"{kind}-{rest}"
        return f"{kind}-{hashlib.sha256(rest.encode()).hexdigest()[:8]}"


def select(outputs: Path, words: list[str], uri: str | None) -> Selection:
    """Resolve the words. Raises `ValueError` or `StoreError`.

    A sweep whose runs are only on disk (`tracking=none`) is read from its journals.
    """
    plan = _plan(outputs, words) if uri is None else None
    if plan is None:
        reader = Reader(Target.named(uri, outputs))
        title, recorded = reader.select(words or [reader.newest_sweep()])
        return Selection(title, recorded, reader)
    present = [run for run in plan.runs(outputs) if (run.folder / CONFIG).is_file()]
    target = present[0].target() if present else Target.local(outputs)
    if target is None:
        recorded = [from_journal(run) for run in present]
        return Selection(f"sweep {plan.id}", recorded, Journals())
    reader = Reader(target)
    return Selection(*reader.select([plan.id]), reader)


def _plan(outputs: Path, words: list[str]) -> Plan | None:
    plans = all_plans(outputs)
    if not words:
        return plans[-1] if plans else None
    matches = [plan for plan in plans if plan.id.startswith(words[0])] if len(words) == 1 else []
    return matches[0] if len(matches) == 1 else None
