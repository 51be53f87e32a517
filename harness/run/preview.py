"""What a command would do: its jobs, which of them are done, and an estimate of time and disk.

Creates nothing. The estimate of a job is that of the finished run of the same data with the most
equal settings, the newest of equals: its time per epoch, and the size of its folder. Settings that
change no speed (`NO_SPEED`) do not count. Jobs of a parallel launcher are counted as it starts
them: the next one when one ends.
"""

import heapq
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.run.compose import Job
from harness.run.existing import existing_runs, is_of_other_source, retraining
from harness.run.launcher_schema import Launcher, SlurmLauncher
from harness.run.launchers import choose
from harness.run.launchers.prestart import Prestart
from harness.run.prepared import keyed
from harness.runfolder import config as configuration
from harness.runfolder import folder, keys
from harness.runfolder.config import Leaf
from harness.runfolder.own_dataset import known_digest
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus

NO_SPEED = ("seed", "lr", "epochs", "patience", "dataset.split_seed")
OTHER_DATA_KEYS = ("dataset.label", "dataset.split_seed")  # which leave the number of examples
UNKNOWN = "not known"
UNITS = ((86_400, "days"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class Planned:
    """A job as it would be executed. run: that it builds on. state: what there is of it.

    epochs: those that are left to train.
    """

    job: Job
    run: Run | None
    state: str
    epochs: int


@dataclass(frozen=True)
class Nearest:
    """The past run that a job is estimated by. different: the keys in which they differ."""

    epoch_s: float
    size: int
    different: tuple[str, ...]


def planned(jobs: list[Job], *, accept: bool, reuse: bool) -> list[Planned]:
    """What there is of each job.

    accept: see `existing_runs`. reuse: whether the command builds on existing runs. Raises
    `ValueError`.
    """
    outputs = Path(jobs[0].config.outputs)
    digests = [known_digest(job.config.dataset, outputs / "cache") for job in jobs]
    if not reuse:
        return [_planned(job, None, "new") for job in jobs]
    known = zip(jobs, digests, strict=True)
    prepared = keyed((job, {"sha256": digest}) for job, digest in known if digest is not None)
    runs = folder.all_runs(outputs)
    found = existing_runs(prepared, runs, accept=accept)
    retraining(runs, [p for p, run in zip(prepared, found, strict=True) if run is None])
    pairs = iter(zip(prepared, found, strict=True))
    rows = []
    for job, digest in zip(jobs, digests, strict=True):
        if digest is None:
            rows.append(_planned(job, None, UNKNOWN))
            continue
        each, run = next(pairs)
        is_other = run is not None and is_of_other_source(run, each)
        rows.append(_planned(job, run, _state(run, is_other=is_other)))
    return rows


def _planned(job: Job, run: Run | None, state: str) -> Planned:
    done = len(run.history().epochs) if run is not None else 0
    is_done = run is not None and run.is_finished
    return Planned(job, run, state, 0 if is_done else max(0, job.config.epochs - done))


def _state(run: Run | None, *, is_other: bool) -> str:
    if run is None:
        return "new"
    history = run.history()
    if history.status is RunStatus.FINISHED:
        return f"done{' by other source' if is_other else ''} as {run.id}"
    if (run.folder / ".lock").is_file() and run.is_live():
        words = "being trained,"
    elif history.status is RunStatus.CREATED:
        return f"not started as {run.id}"
    else:
        words = "failed" if history.status is RunStatus.FAILED else "interrupted"
    return f"{words} at epoch {len(history.epochs)} of {history.params['epochs']} as {run.id}"


def text(rows: Sequence[Planned], launcher: Launcher) -> str:
    """What `--dry-run` prints. rows: the jobs in the command's order."""
    counts: dict[str, int] = {}
    for row in rows:
        kind = row.state.partition(" as ")[0].partition(" at ")[0].rstrip(",")
        counts[kind] = counts.get(kind, 0) + 1
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    width = max(len(row.job.name) for row in rows)
    lines = [f"{len(rows)} job(s): {told}"]
    lines += [f"  {row.job.name:<{width}}  {row.state}" for row in rows]
    unknown = dict.fromkeys(_data(row.job) for row in rows if row.state == UNKNOWN)
    lines += [
        f"{data} is not in the cache yet: which of its jobs are done is not known, they are "
        "counted as new"
        for data in unknown
    ]
    return "\n".join([*lines, *_estimate(rows, launcher), "nothing was created"])


def _data(job: Job) -> str:
    settings = job.config.dataset
    return f"dataset={settings.name}{f' in {settings.place}' if settings.place else ''}"


def _estimate(rows: Sequence[Planned], launcher: Launcher) -> list[str]:
    """The lines about time and disk."""
    left = [row for row in rows if row.epochs]
    if not left:
        return ["estimate: nothing is left to train"]
    outputs = Path(rows[0].job.config.outputs)
    past = Past(folder.all_runs(outputs))
    found = [past.nearest(row.job) for row in left]
    without = sum(each is None for each in found)
    if without == len(left):
        return [f"no estimate: no finished run of the same data in {outputs}"]
    pairs = [(row, each) for row, each in zip(left, found, strict=True) if each is not None]
    slots = _slots(launcher, max(row.job.config.required_threads for row in left))
    seconds = makespan([row.epochs * each.epoch_s for row, each in pairs], slots)
    size = sum(max(0, each.size - _size_so_far(row)) for row, each in pairs)
    free = shutil.disk_usage(_existing_folder(outputs)).free
    at_once = f", {min(slots, len(left))} jobs at once" if min(slots, len(left)) > 1 else ""
    queue = ", without waiting in the queue" if isinstance(launcher, SlurmLauncher) else ""
    at_most = "at most " if any(row.job.config.patience is not None for row in left) else ""
    lines = [
        f"estimate: {at_most}{duration(seconds)} of training{at_once}{queue}; {megabytes(size)} "
        f"on disk, {megabytes(free)} are free"
    ]
    if without:
        lines.append(f"  without {without} job(s): no finished run of the same data in {outputs}")
    lines.append(
        "  by the time per epoch and the size of the finished run of the same data with the most "
        "equal settings"
    )
    differing = [each.different for _, each in pairs if each.different]
    if differing:
        names = ", ".join(dict.fromkeys(key for each in differing for key in each))
        lines.append(f"  rough: {len(differing)} of {len(pairs)} jobs differ from it, in {names}")
    return lines


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
        return Nearest(epoch_s, _size(run, is_local=is_local), different)


def _size(run: Run, *, is_local: bool) -> int:
    """The bytes of a run's folder, and of its artifacts in the store in outputs if it has them."""
    files = (path for path in run.folder.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    if is_local:
        size += sum(each.size or 0 for each in run.history().artifacts.values())
    return size


def _size_so_far(row: Planned) -> int:
    """The bytes that the run of a job has already."""
    is_local = row.job.config.tracking.name == "local"
    return 0 if row.run is None else _size(row.run, is_local=is_local)


def _speed(params: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """The settings that may change how long an epoch takes."""
    return {
        key: value
        for key, value in params.items()
        if key not in NO_SPEED and (keys.determines_result(key) or _is_of_data(key))
    }


def _is_of_data(key: str) -> bool:
    """Whether a setting says which data there are, the keys of the user's own function included."""
    return key.startswith("dataset.") and key not in OTHER_DATA_KEYS


def makespan(seconds: Sequence[float], slots: int) -> float:
    """How long jobs take, of which `slots` run at once, each starting when a slot is free."""
    free = [0.0] * slots
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def _slots(launcher: Launcher, threads: int) -> int:
    """The most jobs at once. threads: the BLAS threads of the job that needs most."""
    if isinstance(launcher, SlurmLauncher):
        return launcher.array_parallelism
    return choose.create(launcher, Path(), threads, Prestart()).slots


def _existing_folder(path: Path) -> Path:
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
