"""Find the existing runs of a command's jobs, including those trained with other source code."""

import itertools
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness.run import notices
from harness.run.prepared import Prepared
from harness.runfolder import config as configuration
from harness.runfolder import keys, versions
from harness.runfolder.history import History
from harness.runfolder.keys import Key
from harness.runfolder.own_code import Source
from harness.runfolder.plan import load_plan
from harness.runfolder.run import REPRODUCES, Run

NAMED = 3  # runs that a line names


def existing_runs(
    prepared: Sequence[Prepared], runs: list[Run], *, accept: bool, sweep: str = ""
) -> list[Run | None]:
    """The existing run that each job reuses or continues; None for a new job.

    A repeated sweep keeps its runs, even if another command has since trained one of them again.

    runs: oldest first. accept: a job without a finished run of the current source uses a finished
    run of other source, if settings and data are equal. Raises `ConfigError` if a run was changed
    after it was frozen, or was written by a newer version.
    """
    rows = _rows(prepared, sweep)
    runs = sorted(runs, key=lambda run: run.id in rows)  # the last of equal runs is used
    # `threads=1,2` is a sweep too, although it changes no result.
    swept = {name for each in prepared for name in each.job.swept}
    also = sorted(name for name in swept if not keys.determines_result(name))
    by_key = keys.runs_by_key(runs, {each.key for each in prepared}, also)
    found = [by_key.get(each.full_key(also)) for each in prepared]
    if accept:
        left = [run is None or not run.is_finished for run in found]
        others = of_other_source(runs, list(itertools.compress(prepared, left)), also)
        found = [
            others.get(each.full_key(also)) or run if is_left else run
            for each, run, is_left in zip(prepared, found, left, strict=True)
        ]
    for run in found:
        if run is not None and not run.is_finished:
            run.check_trainable()  # a finished run does not need its config.yaml
    return found


def _rows(prepared: Sequence[Prepared], sweep: str) -> set[str]:
    """The ids of the runs in the plan of these jobs' sweep; empty if it was not run before."""
    if not prepared:
        return set()
    outputs = Path(prepared[0].job.config.outputs)
    with suppress(ValueError):  # there is none, or it is damaged
        plan = load_plan(outputs, sweep or keys.sweep_id([each.key for each in prepared]))
        return {job.run for job in plan.jobs}
    return set()


def is_of_other_source(run: Run, prepared: Prepared) -> bool:
    """Whether a job's existing run was trained with other source."""
    return bool(run.create["tags"].get("run_key") != prepared.key)


def retraining(runs: Iterable[Run], new: Sequence[Prepared]) -> None:
    """Print which jobs are trained again only because the source or the data has changed.

    runs: oldest first. new: the jobs without an existing run.
    """
    runs = list(runs)
    others = of_other_source(runs, new)
    if found := [run.history() for run in others.values()]:
        code = {each.full_key(()): each.code for each in new}
        source = source_of(found[-1], code.get(list(others)[-1], ()))
        notices.say(
            f"{len(found)} of {len(new)} new jobs were trained before with other source "
            f"({source}): {_names(found)}; training again; accept=source keeps those runs"
        )
    left = [each for each in new if each.full_key(()) not in others]
    if found := [run.history() for run in _of_other_data(runs, left).values()]:
        then = found[-1]
        notices.say(
            f"{len(found)} of {len(new)} new jobs were trained before on other data of "
            f"dataset={then.params['dataset.name']} (SHA-256 {then.create['dataset']['sha256'][:8]}"
            f"{_day(then)}): {_names(found)}; training again"
        )


def _names(found: Sequence[History]) -> str:
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(history.name for history in found[:NAMED]) + more


def _of_other_data(runs: Iterable[Run], jobs: Sequence[Prepared]) -> dict[str, Run]:
    """The newest finished run of each job whose data has changed since, by run key.

    The data is from the same function, file or folder of the user. runs: oldest first.
    """
    sets = [each.job.config.dataset for each in jobs]
    own = [each for each, data in zip(jobs, sets, strict=True) if data.is_own or data.place]
    wanted = {_place(configuration.leaves(each.job.config)): each for each in own}
    found = {}
    for run in runs if wanted else ():
        each = wanted.get(_place(versions.completed(run.create["params"])))
        digest = run.create.get("dataset", {}).get("sha256")
        if each is None or digest in (None, each.data_digest) or REPRODUCES in run.create["tags"]:
            continue
        if run.is_finished:
            found[each.key] = run
    return found


def _place(params: Mapping[str, object]) -> str:
    """A digest of a run's settings and of the place of its data, whatever data is there."""
    place = [params.get(f"dataset.{key}") for key in ("dir", "file", "label")]
    return keys.digest([keys.subject(params, None), place], 16)


def of_other_source(
    runs: Iterable[Run], jobs: Sequence[Prepared], also: Collection[str] = ()
) -> dict[Key, Run]:
    """The newest finished run of each job that was trained with other source, by `full_key`.

    runs: oldest first. also: see `keys.full_key`.
    """
    wanted = {}
    for each in jobs:
        params = configuration.leaves(each.job.config)
        wanted[keys.full_key(_subject(params, each.data_digest), params, also)] = each.key
    found: dict[Key, Run] = {}
    for run in runs if wanted else ():
        tags, params = run.create["tags"], versions.completed(run.create["params"])
        subject = _subject(params, run.create.get("dataset", {}).get("sha256"))
        full = keys.full_key(subject, params, also)
        if full not in wanted or REPRODUCES in tags or tags.get("run_key") == wanted[full]:
            continue
        if run.is_finished:
            found[(wanted[full], *full[1:])] = run
    return found


def _subject(params: Mapping[str, object], data_digest: object) -> str:
    return keys.digest(keys.subject(params, data_digest), 16)


def source_of(history: History, code: Iterable[Source] = ()) -> str:
    """The commit and the day of a run's source, if they are known.

    code: the user's files now. If some differ from the run's, they are named instead of the
    harness's commit.
    """
    then = {each["path"]: each["syntax"] for each in history.code}
    now = {each.path: each.syntax for each in code}
    commit = history.tags.get("mlflow.source.git.commit")
    words = f"commit {commit[:7]}" if commit else "commit not known"
    if history.tags.get("git.dirty") == "true":
        words += " with uncommitted changes"
    if then and now and then != now:
        words = before_files_changed(then, now)
    return words + _day(history)


def before_files_changed(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """`before mine/net.py changed`. then, now: the digests of the user's files by path."""
    changed = sorted(path for path in {**then, **now} if then.get(path) != now.get(path))
    more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    return f"before {', '.join(changed[:NAMED])}{more} changed"


def _day(history: History) -> str:
    """`, 2026-11-26`; empty if it is not known."""
    if "ms" not in history.create:
        return ""
    return time.strftime(", %Y-%m-%d", time.localtime(history.create["ms"] / 1000))
