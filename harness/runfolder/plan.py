"""A sweep on disk: its jobs and the command that asked for them, `outputs/sweeps/<id>.json`."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.data.atomic import write_text
from harness.runfolder.folder import open_run
from harness.runfolder.run import Run


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep: its run id, its name, and the swept keys with their values as typed."""

    run: str
    name: str
    swept: dict[str, str]
    key: str


@dataclass(frozen=True)
class Plan:
    """A sweep. overrides: the command's arguments; jobs: in the command's order."""

    id: str
    overrides: tuple[str, ...]
    jobs: tuple[SweepJob, ...]

    def save(self, outputs: Path) -> None:
        """Write the plan atomically, with the time: the one saved last is the newest."""
        content = asdict(self) | {"saved_ns": time.time_ns()}
        write_text(sweeps_folder(outputs) / f"{self.id}.json", json.dumps(content, indent=1))

    def runs(self, outputs: Path) -> list[Run]:
        """The runs of the jobs, in order; a run may have been removed since."""
        return [open_run(outputs, job.run) for job in self.jobs]


def sweeps_folder(outputs: Path) -> Path:
    """The folder that holds the plans."""
    return outputs / "sweeps"


def load_plan(outputs: Path, sweep_id: str) -> Plan:
    """Read a plan. Raises `ValueError` when there is none with this id."""
    path = sweeps_folder(outputs) / f"{sweep_id}.json"
    if not path.is_file():
        raise ValueError(
            f"sweep {sweep_id!r} is not in {path.parent}; see `python -m harness status`"
        )
    return _plan(json.loads(path.read_text()))


def all_plans(outputs: Path) -> list[Plan]:
    """All plans, in the order in which they were saved. (Copying may change the files' times.)"""
    plans = []
    for path in sweeps_folder(outputs).glob("*.json"):
        content = json.loads(path.read_text())
        plans.append((content.get("saved_ns", path.stat().st_mtime_ns), content["id"], content))
    return [_plan(content) for *_, content in sorted(plans, key=lambda each: each[:2])]


def _plan(content: dict[str, Any]) -> Plan:
    jobs = tuple(SweepJob(**job) for job in content["jobs"])
    return Plan(content["id"], tuple(content["overrides"]), jobs)
