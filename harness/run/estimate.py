"""Estimate from existing runs how long the jobs of a command take and how much disk they need.

A job is estimated by the finished run on the same data that has the most settings in common, the
newest of equals: its time per epoch, and the size of its folder. Settings that change no speed
(`NO_SPEED`) do not count. Jobs of a parallel launcher are counted as it starts them: the next one
when one ends.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.run.compose import Job
from harness.run.launcher_schema import Launcher, SlurmLauncher
from harness.run.launchers import choose
from harness.run.launchers.prestart import Prestart
from harness.runfolder import config as configuration
from harness.runfolder import keys
from harness.runfolder.config import Leaf
from harness.runfolder.run import Run

NO_SPEED = ("seed", "lr", "epochs", "patience", "dataset.split_seed")
OTHER_DATA_KEYS = ("dataset.label", "dataset.split_seed")  # which leave the number of examples
UNITS = ((86_400, "days"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class Nearest:
    """The past run that a job is estimated by. different: the keys in which they differ."""

    epoch_s: float
    size: int
    different: tuple[str, ...]


class Past:
    """The finished runs that jobs are estimated by."""

    def __init__(self, runs: Iterable[Run]) -> None:
        """runs: oldest first; those that are not finished are left out."""
        self._runs = [(run, _speed(run.history().params)) for run in runs if run.is_finished]
        self._known: dict[str, Nearest | None] = {}

    def nearest(self, job: Job) -> Nearest | None:
        """The run that a job is estimated by; None when no run has the same data."""
        settings = _speed(configuration.leaves(job.config))
        key = keys.digest(settings, 16)  # jobs that differ in their seed have the same
        if key not in self._known:
            self._known[key] = self._find(settings, is_local=job.config.tracking.name == "local")
        return self._known[key]

    def _find(self, settings: Mapping[str, Leaf], *, is_local: bool) -> Nearest | None:
        found: tuple[Run, tuple[str, ...]] | None = None
        for run, params in self._runs:
            names = dict.fromkeys((*settings, *params))
            if any(params.get(key) != settings.get(key) for key in filter(_is_of_data, names)):
                continue
            different = tuple(key for key in names if params.get(key) != settings.get(key))
            if found is None or len(different) <= len(found[1]):
                found = (run, different)
        if found is None:
            return None
        run, different = found
        history = run.history()
        epoch_s = history.seconds / max(1, len(history.epochs))
        return Nearest(epoch_s, size_of(run, is_local=is_local), different)


def size_of(run: Run, *, is_local: bool) -> int:
    """The bytes of a run's folder, and of its artifacts in the store in outputs if it has them."""
    files = (path for path in run.folder.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    if is_local:
        size += sum(each.size or 0 for each in run.history().artifacts.values())
    return size


def _speed(params: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """The settings that may change how long an epoch takes."""
    return {
        key: value
        for key, value in params.items()
        if key not in NO_SPEED and (keys.determines_result(key) or _is_of_data(key))
    }


def _is_of_data(key: str) -> bool:
    """Whether a setting determines the data, including keys of the user's data function."""
    return key.startswith("dataset.") and key not in OTHER_DATA_KEYS


def makespan(seconds: Sequence[float], slots: int) -> float:
    """How long jobs take if `slots` of them run at once, and each starts when a slot is free."""
    free = [0.0] * slots
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def slots_of(launcher: Launcher, threads: int) -> int:
    """The largest number of jobs at once. threads: the BLAS threads of the job that needs most."""
    if isinstance(launcher, SlurmLauncher):
        return launcher.array_parallelism
    return choose.create(launcher, Path(), threads, Prestart()).slots


def existing_folder(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.is_dir())


def duration(seconds: float) -> str:
    """A duration in one unit, two significant digits: `42 s`, `1.5 h`."""
    size, unit = next((u for u in UNITS if seconds >= u[0]), UNITS[-1])
    return f"about {_two_digits(seconds / size)} {unit}"


def megabytes(size: float) -> str:
    """A size in MB or GB."""
    return f"{_two_digits(size / 1e6)} MB" if size < 1e9 else f"{_two_digits(size / 1e9)} GB"


def _two_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"
