"""What a sweep is, without Hydra: its jobs, the keys that identify their results, its plan on disk.

A run's key is the digest of everything that determines its result: the settings (not tracking,
paths, threads), the data, and the source of `data/`, `nn/` and `training/`. A sweep's id is the
digest of the set of its runs' keys, so the same sweep has the same id however its command was
written.
"""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.data.atomic import write_text
from harness.runfolder import config as configuration
from harness.runfolder.environment import SOURCE
from harness.runfolder.schema import Config

DETERMINING_SOURCE = ("data", "nn", "training")


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep: its run, its name, and the swept keys with their values as typed."""

    run: str
    name: str
    swept: dict[str, str]
    key: str


@dataclass(frozen=True)
class Plan:
    """A sweep as it was asked for; `outputs/sweeps/<id>.json`."""

    id: str
    overrides: tuple[str, ...]
    jobs: tuple[SweepJob, ...]

    def save(self, outputs: Path) -> None:
        """Write the plan atomically, with the time: the one saved last is the newest."""
        content = asdict(self) | {"saved_ns": time.time_ns()}
        write_text(folder_of(outputs) / f"{self.id}.json", json.dumps(content, indent=1))


def folder_of(outputs: Path) -> Path:
    """Where the plans lie."""
    return outputs / "sweeps"


def load_plan(outputs: Path, sweep_id: str) -> Plan:
    """Read a plan back. Raises `ValueError` when there is none of that id."""
    path = folder_of(outputs) / f"{sweep_id}.json"
    if not path.is_file():
        raise ValueError(
            f"sweep {sweep_id!r} is not in {path.parent}; see `python -m harness status`"
        )
    return _plan(json.loads(path.read_text()))


def plans(outputs: Path) -> list[Plan]:
    """All plans, the one saved last at the end. (Copying a folder may change the files' times.)"""
    found = []
    for path in folder_of(outputs).glob("*.json"):
        content = json.loads(path.read_text())
        found.append((content.get("saved_ns", path.stat().st_mtime_ns), content["id"], content))
    return [_plan(content) for *_, content in sorted(found, key=lambda each: each[:2])]


def _plan(content: dict[str, Any]) -> Plan:
    jobs = tuple(SweepJob(**job) for job in content["jobs"])
    return Plan(content["id"], tuple(content["overrides"]), jobs)


def determines_result(key: str) -> bool:
    """Whether a setting can change what a run results in: not where it goes, nor how fast."""
    where = ("outputs", "threads", "dataset.dir")
    return key not in where and not key.startswith(("tracking.", "checkpoint."))


def run_key(config: Config, data_digest: str) -> str:
    """The key of a run's result, 16 hexadecimal digits."""
    leaves = configuration.leaves(config)
    settings = {key: value for key, value in leaves.items() if determines_result(key)}
    return digest({"settings": settings, "data": data_digest, "source": source_digest()}, 16)


def sweep_id(keys: list[str]) -> str:
    """The id of the sweep with these run keys, 10 hexadecimal digits."""
    return digest(sorted(set(keys)), 10)


def digest(content: object, length: int) -> str:
    """The first digits of the SHA-256 of a JSON-able object."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@cache
def source_digest() -> str:
    """The digest of the source that determines results: `data/`, `nn/` and `training/`."""
    total = hashlib.sha256()
    for folder in DETERMINING_SOURCE:
        for path in sorted((SOURCE / folder).rglob("*.py")):
            total.update(path.relative_to(SOURCE).as_posix().encode() + b"\0")
            total.update(path.read_bytes() + b"\0")
    return total.hexdigest()
