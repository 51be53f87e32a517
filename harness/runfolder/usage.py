"""Measure the disk space of everything in an outputs folder, by kind and by run.

Sizes are those of the file system's blocks, as in `du`. A file with several names (hard links) is
counted once, under its first name: in the run folder rather than in the store. Files that vanish
meanwhile count as 0.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.runfolder import journal
from harness.runfolder.checkpoints import FOLDER
from harness.runfolder.run import Run

BLOCK = 512  # bytes; the unit of `st_blocks` on every system
ARTIFACTS, DATABASE = "MLflow's artifacts", "MLflow's database"
OF_RUN, OTHER = "other files of runs", "other"
IN_RUN = {
    FOLDER: "checkpoints",
    "weights": "weights",
    "predictions": "predictions",
    "plots": "plots",
    journal.FILE_NAME: "journals",
}
IN_OUTPUTS = {"artifacts": ARTIFACTS, "cache": "cache", "removed": "removed"}
KINDS = (*IN_RUN.values(), OF_RUN, ARTIFACTS, DATABASE, "cache", "removed", OTHER)


@dataclass(frozen=True)
class Usage:
    """Bytes on disk. kinds: kind -> bytes, in the order of `KINDS`. runs: run id -> kind -> bytes.

    unreadable: the paths that could not be read, each with the reason.
    """

    kinds: dict[str, int]
    runs: dict[str, dict[str, int]]
    unreadable: tuple[str, ...]


def measure(outputs: Path, runs: Sequence[Run], *, everything: bool) -> Usage:
    """The space of these runs, here and in the store in `outputs`; `everything` adds the rest."""
    meter = Meter()
    of_runs = {run.id: _of_run(meter, run) for run in runs}
    for run in runs:  # after all run folders, so that hard links count there
        of_runs[run.id][ARTIFACTS] += sum(map(meter.size, _stored(outputs, run)))
    kinds: Counter[str] = Counter()
    for each in of_runs.values():
        kinds.update(each)
    if everything:
        for name, kind in IN_OUTPUTS.items():
            kinds[kind] += meter.size(outputs / name)
        kinds[DATABASE] += sum(map(meter.size, outputs.glob("mlflow.db*")))
        kinds[OTHER] += meter.size(outputs)
    ordered = {run: _ordered(each) for run, each in of_runs.items()}
    return Usage(_ordered(kinds), ordered, tuple(meter.unreadable))


class Meter:
    """Adds up disk space, counting each file once."""

    def __init__(self) -> None:
        self.unreadable: list[str] = []
        self._seen: set[tuple[int, int]] = set()

    def size(self, path: Path) -> int:
        """The bytes of a file, or of a folder with its content, that were not counted before."""
        return sum(size for _, size in self.sizes(path))

    def sizes(self, top: Path) -> Iterator[tuple[str, int]]:
        """The bytes of each file and folder, with the entry of `top` that it is or is in.

        `top` itself has an empty name.
        """
        yield "", self._own(top)
        for folder, folders, files in os.walk(top, onerror=self._note):
            for name in (*folders, *files):
                path = Path(folder, name)
                yield path.relative_to(top).parts[0], self._own(path)

    def _own(self, path: Path) -> int:
        try:
            stat = path.lstat()
        except OSError as error:
            self._note(error)
            return 0
        if (stat.st_dev, stat.st_ino) in self._seen:
            return 0
        self._seen.add((stat.st_dev, stat.st_ino))
        return stat.st_blocks * BLOCK if hasattr(stat, "st_blocks") else stat.st_size

    def _note(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            self.unreadable.append(f"{error.filename}: {error.strerror}")


def _of_run(meter: Meter, run: Run) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for name, size in meter.sizes(run.folder):
        kinds[IN_RUN.get(name, OF_RUN)] += size
    return kinds


def _ordered(kinds: Counter[str]) -> dict[str, int]:
    return {kind: kinds[kind] for kind in KINDS if kinds[kind]}


def _stored(outputs: Path, run: Run) -> list[Path]:
    """The folders of a run in the store in `outputs`, if any."""
    mlflow_id = run.delivered().get("mlflow_id")
    return list((outputs / "artifacts").glob(f"*/{mlflow_id}")) if mlflow_id else []
