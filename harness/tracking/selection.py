"""What a comparison is asked to compare: words of a command line, and the runs they mean."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from harness.runfolder import config
from harness.runfolder import folder as runs
from harness.runfolder import plan as sweep
from harness.runfolder.plan import Plan
from harness.tracking.reading import Reader
from harness.tracking.recorded import Journals, Recorded, Source, from_journal
from harness.tracking.target import Target


@dataclass(frozen=True)
class Selection:
    """What is compared: its name, its runs oldest first, and who holds them."""

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
    """What the words mean. Raises `ValueError` or `StoreError`."""
    plan = _plan(outputs, words) if uri is None else None
    if plan is None:
        reader = Reader(Target(uri) if uri else Target.local(outputs))
        title, recorded = reader.select(words or [reader.newest_sweep()])
        return Selection(title, recorded, reader)
    folders = [runs.folder_of(outputs) / job.run for job in plan.jobs]
    here = [folder for folder in folders if (folder / runs.CONFIG).is_file()]
    tracking = config.read_yaml(here[0] / runs.CONFIG).tracking if here else None
    if tracking is not None and tracking.name == "none":
        recorded = [from_journal(folder) for folder in here]
        return Selection(f"sweep {plan.id}", recorded, Journals())
    server = tracking.uri if tracking is not None and tracking.name == "server" else None
    reader = Reader(Target(server) if server else Target.local(outputs))
    return Selection(*reader.select([plan.id]), reader)


def _plan(outputs: Path, words: list[str]) -> Plan | None:
    plans = sweep.plans(outputs)
    if not words:
        return plans[-1] if plans else None
    found = [plan for plan in plans if plan.id.startswith(words[0])] if len(words) == 1 else []
    return found[0] if len(found) == 1 else None
