"""One run as it was recorded, whoever holds it; and the journals as one who does."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.runfolder import journal

Curve = NDArray[np.float64]


class Missing(ValueError):
    """An artifact that a run does not have."""


@dataclass(frozen=True)
class Recorded:
    """One run as it was recorded, whoever holds it.

    params: as text. final: the last value of every metric. curves: metric -> (epochs,) float64, as
    far as they were asked for. dataset: sizes of its parts, empty when unknown. place: where its
    artifacts are asked for (an MLflow id, or the run folder). experiment: its MLflow id, if any.
    """

    run: str
    name: str
    status: str
    params: dict[str, str]
    tags: dict[str, str]
    final: dict[str, float]
    dataset: dict[str, Any]
    place: str
    experiment: str = ""
    curves: dict[str, Curve] = field(default_factory=dict)


class Source(Protocol):
    """Where runs are read from."""

    def add_curves(self, runs: Iterable[Recorded], keys: Iterable[str]) -> None:
        """Fill in the curves of these metrics."""

    def fetch(self, run: Recorded, path: str, into: Path) -> Path:
        """An artifact as a local file. Raises `Missing`."""

    def attach(self, run: Recorded, files: list[Path], place: str) -> None:
        """Store files with a run, in the folder `place` of its artifacts."""


class Journals:
    """Runs read from their folders: no MLflow needed."""

    def read(self, folders: Iterable[Path]) -> list[Recorded]:
        """These runs, in the order given."""
        return [from_journal(folder) for folder in folders]

    def add_curves(self, runs: Iterable[Recorded], keys: Iterable[str]) -> None:
        """Nothing: a journal is read whole."""

    def fetch(self, run: Recorded, path: str, into: Path) -> Path:
        """The file in the run folder."""
        found = Path(run.place) / path
        if not found.is_file():
            raise Missing(f"{run.run}: the artifact {path} is missing in {run.place}")
        return found

    def attach(self, run: Recorded, files: list[Path], place: str) -> None:
        """Copy files into the run folder. Noting them in the journal is the owner's business."""
        target = Path(run.place) / place
        target.mkdir(parents=True, exist_ok=True)
        for path in files:
            shutil.copyfile(path, target / path.name)


def from_journal(folder: Path) -> Recorded:
    """A run as its journal tells it."""
    told = journal.history(folder)
    keys = told.epochs[-1]["metrics"] if told.epochs else {}
    return Recorded(
        run=told.run,
        name=told.create["name"],
        status=told.status,
        params={key: str(value) for key, value in told.create["params"].items()},
        tags=told.tags,
        final=keys | told.final,
        dataset=told.create["dataset"],
        place=str(folder),
        curves={key: np.array(told.curve(key)) for key in keys},
    )
