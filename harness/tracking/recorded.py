"""A recorded run, independent of where it is stored, and a source that reads local journals."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.data.atomic import write_bytes
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus

Curve = NDArray[np.float64]


class Missing(ValueError):
    """A run does not have this artifact."""


@dataclass(frozen=True)
class Recorded:
    """One run as it was recorded.

    params: as text. final: the last value of every metric. curves: metric -> (epochs,) float64, as
    far as they were loaded. dataset: as in the create record, empty if unknown. location: where its
    artifacts are (an MLflow id, or the run folder). experiment: the experiment's MLflow id, if any.
    epochs: metric -> (epochs,) int64, the epochs of the values of its curve. created_ms, ended_ms:
    ms since 1970. how_pruned: see `harness.runfolder.history.how_pruned`.
    """

    run: str
    name: str
    status: RunStatus
    params: dict[str, str]
    tags: dict[str, str]
    final: dict[str, float]
    dataset: dict[str, Any]
    location: str
    experiment: str = ""
    curves: dict[str, Curve] = field(default_factory=dict)
    epochs: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    created_ms: int | None = None
    ended_ms: int | None = None
    how_pruned: str = ""


class Source(Protocol):
    """Where runs are read from."""

    def add_curves(self, runs: Iterable[Recorded], keys: Iterable[str]) -> None:
        """Fill in the curves of these metrics."""

    def fetch(self, run: Recorded, path: str, into: Path) -> Path:
        """An artifact as a local file. Raises `Missing`."""

    def attach(self, run: Recorded, files: list[Path], folder: str) -> None:
        """Store files with a run, in a folder of its artifacts."""


class Journals:
    """Runs read from their folders: no MLflow needed."""

    def add_curves(self, runs: Iterable[Recorded], keys: Iterable[str]) -> None:
        """Do nothing: a journal is read whole."""

    def fetch(self, run: Recorded, path: str, into: Path) -> Path:
        """The file in the run folder. Raises `ValueError` if it is damaged."""
        if not (Path(run.location) / path).is_file():
            raise Missing(f"{run.run}: the artifact {path} is missing in {run.location}")
        return Run(Path(run.location)).verified(path)

    def attach(self, run: Recorded, files: list[Path], folder: str) -> None:
        """Copy files into the run folder; the caller records them in the journal."""
        target = Path(run.location) / folder
        target.mkdir(parents=True, exist_ok=True)
        for path in files:
            write_bytes(target / path.name, path.read_bytes())  # the store may link to the old file


def from_journal(run: Run) -> Recorded:
    """A run as its journal records it."""
    history = run.history()
    last = history.epochs[-1]["metrics"] if history.epochs else {}
    points: dict[str, tuple[list[int], list[float]]] = {}
    for record in history.epochs:
        for key, value in record["metrics"].items():
            epochs, values = points.setdefault(key, ([], []))
            epochs.append(record["epoch"])
            values.append(value)
    return Recorded(
        run=history.run,
        name=run.name,
        status=history.status,
        params={key: str(value) for key, value in history.params.items()},
        tags=history.tags,
        final=last | history.final,
        dataset=history.create["dataset"],
        location=str(run.folder),
        curves={key: np.array(values) for key, (_, values) in points.items()},
        epochs={key: np.array(epochs) for key, (epochs, _) in points.items()},
        created_ms=history.created_ms,
        ended_ms=history.ended_ms,
        how_pruned=history.how_pruned,
    )


def more_elsewhere(sweep: str, count: int, names: Iterable[str]) -> str:
    """The note that a sweep has runs outside the experiment that is compared."""
    return (
        f"{count} more runs of sweep {sweep} are in experiment {', '.join(names)}; "
        f"`python -m harness compare {sweep}` compares all of them"
    )
