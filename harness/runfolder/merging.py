"""Merge the runs and sweeps of another machine's outputs, or of a pack, into an outputs folder.

Run ids are random, so the ids of two machines never collide. A run that is already there is not
merged again, so merging twice changes nothing. Everything appears whole or not at all.
"""

import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.data.atomic import fsync_folder
from harness.runfolder import delivered, removed
from harness.runfolder.folder import alone, open_run, runs_folder, scan
from harness.runfolder.hint import hint
from harness.runfolder.plan import Plan, SweepJob, saved_plans, sweeps_folder
from harness.runfolder.run import Run, within
from harness.runfolder.target import LOCAL

BEFORE = ".before"  # suffix of a run folder that a newer state replaces
NOT_COPIED = shutil.ignore_patterns("*.lock", ".*")


@dataclass
class Merged:
    """What was merged. known: how many runs were already there; refused: why others were not.

    left: the known runs that a killed merge did not deliver.
    """

    runs: list[Run] = field(default_factory=list)
    left: list[Run] = field(default_factory=list)
    sweeps: list[str] = field(default_factory=list)
    known: int = 0
    refused: list[str] = field(default_factory=list)


def merge(outputs: Path, source: Path) -> Merged:
    """Merge everything in the outputs folder `source`. Raises `ValueError` if it is not one."""
    if not source.exists():
        raise ValueError(f"{source}: is missing; expected an outputs folder or a pack")
    if not runs_folder(source).is_dir():
        raise ValueError(f"{source}: expected an outputs folder, with runs/ in it, or a pack")
    if source.resolve() == outputs.resolve():
        raise ValueError(f"{source}: is the folder itself; name another one")
    runs, broken = scan(source)
    merged = Merged(refused=[f"{path.name}: {within(path, problem)}" for path, problem in broken])
    with alone(outputs):
        put_back(outputs)
        left_out = _removed(outputs)
        for run in runs:
            if run.id in left_out:
                merged.refused.append(f"{run.id}: {left_out[run.id]}")
            else:
                _take(outputs, run, merged)
        for saved_ns, plan in sorted(saved_plans(source), key=lambda each: each[0]):
            if Path(plan.id).name != plan.id:
                merged.refused.append(f"sweep {plan.id!r}: expected an id that is no path")
                continue
            if _is_removed(outputs, plan):
                merged.refused.append(f"sweep {plan.id}: {_was_removed(outputs, plan.id)}")
                continue
            if _take_plan(outputs, plan, saved_ns):
                merged.sweeps.append(plan.id)
            _take_report(outputs, source, plan)
    return merged


def _removed(outputs: Path) -> dict[str, str]:
    """The runs that were removed here, each with advice on getting it back."""
    for_good = (
        "was removed here for good, by `harness gc`; merge it into another folder with --outputs, "
        f"or remove its line from {removed.place(outputs) / removed.GONE} first"
    )
    kept = [run.id for run in scan(removed.place(outputs))[0]]
    return dict.fromkeys(removed.gone(outputs), for_good) | {
        each: _was_removed(outputs, each) for each in kept
    }


def _was_removed(outputs: Path, name: str) -> str:
    return f"was removed here; `{hint('restore', name, outputs=outputs)}` brings it back"


def _is_removed(outputs: Path, plan: Plan) -> bool:
    """Whether a sweep was removed here, so only runs that other sweeps share are left."""
    kept, ours = (sweeps_folder(each) / f"{plan.id}.json"
                  for each in (removed.place(outputs), outputs))  # fmt: skip
    return kept.exists() and not ours.exists() and bool(plan.readable_runs(outputs))


def _take(outputs: Path, run: Run, merged: Merged) -> None:
    """Copy a run, or its newer state; if that is not possible, record why."""
    ours = open_run(outputs, run.id)
    if run.is_training():
        merged.refused.append(f"{run.id}: is being trained now")
        return
    if ours.is_readable():
        here, there = ours.journal.read_bytes(), run.journal.read_bytes()
        if here.startswith(there):
            merged.known += 1
            if ours.delivered().get("offset", 0) < len(here) and not ours.is_live():
                merged.left.append(ours)
            return
        if not there.startswith(here) or ours.is_training():
            merged.refused.append(
                f"{run.id}: has diverged: it continued in both folders; keeping ours"
            )
            return
    if damage := run.damage():
        merged.refused.append(f"{run.id}: {damage}")
        return
    _copy(run, ours)
    merged.runs.append(ours)


def _copy(run: Run, ours: Run) -> None:
    """Copy a run folder; it appears whole and replaces an earlier state."""
    copy = _hidden_copy(run.folder, ours.folder)
    if run.delivered().get("store") == LOCAL:  # the other folder's own store
        (copy / delivered.FILE_NAME).unlink()
    fsync_folder(copy)
    if ours.folder.exists():
        before = ours.folder.with_name(f".{run.id}{BEFORE}")
        if before.exists():
            shutil.rmtree(before)
        ours.folder.rename(before)
        copy.rename(ours.folder)
        shutil.rmtree(before)
    else:
        copy.rename(ours.folder)
    fsync_folder(ours.folder.parent)


def put_back(outputs: Path) -> None:
    """Put back each run that a killed merge had moved aside to make room for its newer state.

    The newer state is still hidden. If it is not, it took the run's place and was removed since.
    """
    for before in runs_folder(outputs).glob(f".*{BEFORE}"):
        newer = before.with_name(before.name.removesuffix(BEFORE))
        folder = before.with_name(newer.name.removeprefix("."))
        if newer.exists() and not folder.exists():
            before.rename(folder)


def _take_plan(outputs: Path, plan: Plan, saved_ns: int) -> bool:
    """Merge the plan of a sweep into ours; return whether that changed anything here."""
    known = {each.id: (saved, each) for saved, each in saved_plans(outputs)}
    if plan.id not in known:
        if not plan.readable_runs(outputs):
            return False
        plan.save(outputs, saved_ns)
        return True
    saved, ours = known[plan.id]
    jobs = joined(outputs, ours.jobs, plan.jobs)
    every = dict.fromkeys(job.run for job in (*ours.jobs, *plan.jobs))
    others = [each for each in every if each not in {job.run for job in jobs}]
    replaced = tuple(dict.fromkeys([*ours.replaced, *plan.replaced, *others]))
    about = replace(
        ours.about,
        name=ours.about.name or plan.about.name,
        note=ours.about.note or plan.about.note,
    )
    costs = ours.costs or plan.costs
    both = replace(ours, jobs=jobs, replaced=replaced, about=about, costs=costs)
    if both == ours:
        return False
    both.save(outputs, max(saved, saved_ns))
    return True


def _take_report(outputs: Path, source: Path, plan: Plan) -> None:
    """Copy the report of a sweep that has all its runs but no report here; it appears whole."""
    report, ours = (folder / removed.REPORTS / plan.id for folder in (source, outputs))
    is_whole = len(plan.readable_runs(outputs)) == len(plan.jobs)
    if not report.is_dir() or ours.exists() or not is_whole:
        return
    _hidden_copy(report, ours).rename(ours)
    fsync_folder(ours.parent)


def _hidden_copy(folder: Path, ours: Path) -> Path:
    """Copy a folder to a hidden place beside `ours`, with write permission for the user.

    A copy that a killed merge left there is removed first.
    """
    copy = ours.with_name(f".{ours.name}")
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(folder, copy, ignore=NOT_COPIED)
    for path in (copy, *copy.rglob("*")):
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
    return copy


def joined(
    outputs: Path, ours: Sequence[SweepJob], theirs: Sequence[SweepJob]
) -> tuple[SweepJob, ...]:
    """One job for each key: of two, ours, unless only the run of theirs is finished."""
    by_key = {job.key: job for job in theirs}
    jobs = []
    for job in ours:
        other = by_key.pop(job.key, job)
        run, their_run = open_run(outputs, job.run), open_run(outputs, other.run)
        is_done = run.is_readable() and run.is_finished
        better = not is_done and their_run.is_readable() and their_run.is_finished
        jobs.append(other if better else job)
    return (*jobs, *by_key.values())
