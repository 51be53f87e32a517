"""Show what a command would do: its jobs, which are done, and an estimate of time and disk.

Creates nothing.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.run.compose import Job
from harness.run.estimate import (
    Past,
    duration,
    existing_folder,
    makespan,
    megabytes,
    size_of,
    slots_of,
)
from harness.run.existing import existing_runs, is_of_other_source, retraining
from harness.run.launcher_schema import Launcher, SlurmLauncher
from harness.run.prepared import keyed
from harness.runfolder import folder
from harness.runfolder.own_dataset import known_digest
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus

UNKNOWN = "not known"


@dataclass(frozen=True)
class Planned:
    """A job as it would be executed. run: its existing run. state: of that run, in words.

    epochs: how many are left to train.
    """

    job: Job
    run: Run | None
    state: str
    epochs: int


def planned(jobs: list[Job], *, accept: bool, reuse: bool) -> list[Planned]:
    """Each job with the state of its existing run.

    accept: see `existing_runs`. reuse: whether the command reuses existing runs. Raises
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
        return f"done{' with other source' if is_other else ''} as {run.id}"
    if (run.folder / ".lock").is_file() and run.is_live():
        words = "being trained,"
    elif history.status is RunStatus.CREATED:
        return f"not started as {run.id}"
    else:
        words = "failed" if history.status is RunStatus.FAILED else "interrupted"
    return f"{words} at epoch {len(history.epochs)} of {history.params['epochs']} as {run.id}"


def text(rows: Sequence[Planned], launcher: Launcher, note: str = "") -> str:
    """What `--dry-run` prints. rows: the jobs in the command's order. note: lines below them."""
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
    lines += [note] if note else []
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
    slots = slots_of(launcher, max(row.job.config.required_threads for row in left))
    seconds = makespan([row.epochs * each.epoch_s for row, each in pairs], slots)
    size = sum(max(0, each.size - _size_so_far(row)) for row, each in pairs)
    free = shutil.disk_usage(existing_folder(outputs)).free
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


def _size_so_far(row: Planned) -> int:
    """The bytes that a job's run already has."""
    is_local = row.job.config.tracking.name == "local"
    return 0 if row.run is None else size_of(row.run, is_local=is_local)
