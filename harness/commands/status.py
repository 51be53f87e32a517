"""`python -m harness status`: sweeps and runs as tables, read from the journals."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from harness.analysis import apart
from harness.commands.options import EVERY_OUTPUTS, JSON, limited, refuse
from harness.nn import metrics
from harness.run.fitted_table import FittedTable, show
from harness.run.run_table import LISTED, NOTHING, best_row, figures, objectives
from harness.runfolder import delivered, removed, streams
from harness.runfolder.about import NOTE
from harness.runfolder.folder import broken_runs
from harness.runfolder.hint import hint
from harness.runfolder.objective import DEFAULT, Objective
from harness.runfolder.plan import Plan
from harness.runfolder.run import Run
from harness.runfolder.selection import Outputs
from harness.runfolder.status import RunStatus

MINUTES = "%Y-%m-%d %H:%M"


@click.command()
@click.argument("selection", nargs=-1)
@EVERY_OUTPUTS
@limited(LISTED, "newest")
@click.option(
    "--since", metavar="TIME", help="Only runs and sweeps since then: 90m, 12h, 7d, or a date."
)
@click.option("--removed", "is_removed", is_flag=True, help="List what `rm` removed instead.")
@click.option("--archived", "is_archived", is_flag=True, help="List what was archived instead.")
@JSON
def status(
    selection: tuple[str, ...],
    outputs: tuple[Path, ...],
    limit: int,
    since: str | None,
    *,
    is_removed: bool,
    is_archived: bool,
    as_json: bool,
) -> None:
    """List sweeps and runs, newest first, and the run folders that no command can use.

    SELECTION is ids, names, an experiment, `last`, `since=7d` or a filter, as for `compare`.
    """
    selection += () if since is None else (f"since={since}",)
    folders = [removed.place(each) if is_removed else each for each in outputs]
    listed = Outputs(folders, of_archived=is_archived)
    try:
        runs = list(listed.select(selection).runs if selection else listed.runs)
        if is_archived or not (selection or is_removed):
            runs = [run for run in runs if (run.id in listed.archived) == is_archived]
    except ValueError as error:
        refuse(error)
    plans = listed.aside if is_archived else listed.plans
    if selection:
        plans = list(_with_some_of(plans, runs))
    elif not (is_removed or is_archived):
        plans = listed.shown
    sweeps = _newest_first(plans)
    broken = [each for folder in folders for each in broken_runs(folder)]
    where = ", ".join(map(str, folders))
    if as_json:
        content = {
            "format": "harness status",
            "version": 1,
            "sweeps": [_sweep_fields(*each) for each in sweeps],
            "runs": [_run_fields(run) for run in reversed(runs)],
            "broken": [{"run": folder.name, "problem": problem} for folder, problem in broken],
        }
        print(json.dumps(content, indent=1, allow_nan=False))
        return
    newest = sorted(runs, key=lambda run: run.create["ms"])[-limit:]
    if runs or sweeps:
        _show_sweeps(sweeps[:limit])
        show(runs_table(newest[::-1], short=streams.console().is_terminal))
        for line in [] if is_removed else delivered.deleted(run.folder for run in runs):
            print(line)
    elif (is_removed or is_archived) and not selection:
        print(f"nothing was {'removed' if is_removed else 'archived'}")
    elif not selection and listed.archived:
        listing = hint("status", "--archived", outputs=folders)
        print(f"all runs in {where} are archived; `{listing}` lists them")
    elif not selection:
        print(
            f"no runs in {where}: train one with `python -m harness.run experiment=quick`, or "
            "name another folder with --outputs"
        )
    else:
        print(f"no runs in {where} are {' '.join(selection)}")
    for folder, problem in broken:
        print(f"cannot be used: run {folder.name}: {problem}", file=sys.stderr)


def _show_sweeps(sweeps: Sequence[tuple[int, Plan, Path]]) -> None:
    """Print the table of sweeps, then the verdict of each sweep with `until=decided`."""
    show(sweeps_table(sweeps))
    for _, plan, _ in sweeps:
        if plan.verdict:  # its second sentence is about p values, which are not shown here
            print(f"sweep {plan.id}: {plan.verdict.partition('. ')[0]}\n")


def _newest_first(plans: Iterable[tuple[int, Plan, Path]]) -> list[tuple[int, Plan, Path]]:
    """The plans, each with the time it was saved and its folder.

    If several folders have a sweep, the plan saved last counts.
    """
    found: dict[str, tuple[int, Plan, Path]] = {}
    for each in sorted(plans, key=lambda each: each[0], reverse=True):
        found.setdefault(each[1].id, each)
    return list(found.values())


def _with_some_of(
    plans: Iterable[tuple[int, Plan, Path]], runs: Sequence[Run]
) -> Iterator[tuple[int, Plan, Path]]:
    """The plans that have any of the runs."""
    ids = {run.id for run in runs}
    return (each for each in plans if ids & {job.run for job in each[1].jobs})


def _state(run: Run) -> RunStatus:
    """The status of a run; KILLED if its process died, which the next command records."""
    state = run.status
    return RunStatus.KILLED if state is RunStatus.RUNNING and not run.is_live() else state


def _run_fields(run: Run) -> dict[str, Any]:
    """A run as JSON values; errors are fractions, times are UTC or seconds."""
    history = run.history()
    objective = Objective.of(history.params)
    final = history.final
    return {
        "run": run.id,
        "name": history.name,
        "note": history.tags.get(NOTE) or None,
        "tags": history.user_tags,
        "status": _state(run),
        "created": _utc(history.created_ms),
        "ended": None if history.ended_ms is None else _utc(history.ended_ms),
        "sweeps": list(filter(None, history.tags.get("sweep", "").split(","))),
        "experiment": history.create["experiment"],
        "epochs": history.params["epochs"],
        "epochs_done": len(history.epochs),
        "objective": str(objective),
        "best": _number(final.get(objective.best_key)),
        "best_epoch": _number(final.get(metrics.BEST_EPOCH)),
        "test": _number(final.get(objective.test_key)),
        "seconds": _number(history.seconds),
        "error": history.error,
    }


def _sweep_fields(saved_ns: int, plan: Plan, outputs: Path) -> dict[str, Any]:
    runs = plan.readable_runs(outputs)
    best = _best(runs)
    return {
        "sweep": plan.id,
        "name": plan.about.name or None,
        "note": plan.about.note or None,
        "question": plan.about.question or None,
        "verdict": plan.verdict or None,
        "saved": _utc(saved_ns // 1_000_000),
        "jobs": len(plan.jobs),
        "finished": sum(run.is_finished for run in runs),
        "best_run": None if best is None else best.id,
        "command": list(plan.overrides),
        "runs": [job.run for job in plan.jobs],
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and value == value and abs(value) != float("inf") else None


def _utc(ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms / 1000))


def _best(runs: Sequence[Run]) -> Run | None:
    """The best finished run; None if there is none, or if the runs cannot be ranked together."""
    with suppress(ValueError):
        index = best_row([run.history() for run in runs])
        return None if index is None else runs[index]
    return None


def runs_table(runs: Sequence[Run], *, short: bool = False) -> Table:
    """One row per run; with several objectives, each row names its own.

    short: shorten long names to the words that tell the runs apart.
    """
    table = FittedTable("runs")
    different = objectives([run.history() for run in runs])
    first, is_mixed = next(iter(different), DEFAULT), len(different) > 1
    table.add("run id")
    table.add("started", drop=1)
    table.add("name", folds=True)
    table.add("status")
    table.add("epochs", drop=4)
    if is_mixed:
        table.add("objective", drop=6)
    value, test = ("value", "test") if is_mixed else (first.short_title, first.test_title)
    for title, drop in ((value, 0), ("epoch", 2), (test, 5), ("seconds", 3)):
        table.add(title, right=True, drop=drop)
    histories = [run.history() for run in runs]
    tags = [", ".join(f"{k}={v}" for k, v in sorted(h.user_tags.items())) for h in histories]
    if any(tags):
        table.add("tags", folds=True, drop=8)
    has_note = any(history.tags.get(NOTE) for history in histories)
    if has_note:
        table.add("note", folds=True, drop=7)
    names = [history.name for history in histories]
    if short:
        names = apart.names(names, [history.params for history in histories])
    for run, history, name, its in zip(runs, histories, names, tags, strict=True):
        started = time.strftime(MINUTES, time.localtime(history.created_ms / 1000))
        epochs = f"{len(history.epochs)}/{history.params['epochs']}"
        own = [str(Objective.of(history.params))] if is_mixed else []
        state = history.how_pruned.upper() or _state(run)
        row = (run.id, started, name, state, epochs, *own, *figures(history))
        said = [*([its] if any(tags) else []), *([history.tags.get(NOTE, "")] if has_note else [])]
        table.add_row(*row, *said)
    return table


def sweeps_table(sweeps: Sequence[tuple[int, Plan, Path]]) -> Table:
    """One row per sweep, with the time in ns when its plan was saved, and its outputs folder."""
    table = FittedTable("sweeps")
    table.add("sweep")
    has_name = any(plan.about.name for _, plan, _ in sweeps)
    has_note = any(plan.about.note for _, plan, _ in sweeps)
    if has_name:
        table.add("name", folds=True)
    table.add("date", drop=2)
    table.add("finished", folds=True)
    table.add("best", right=True, drop=3)
    table.add("test", right=True, drop=1)
    if has_note:
        table.add("note", folds=True, drop=5)
    table.add("command", folds=True, drop=4 if has_name else 0)
    commands = apart.commands([plan.overrides for _, plan, _ in sweeps])
    for (saved_ns, plan, outputs), command in zip(sweeps, commands, strict=True):
        runs = plan.readable_runs(outputs)
        best = _best(runs)
        value, _, test, _ = (NOTHING,) * 4 if best is None else figures(best.history())
        table.add_row(
            plan.id,
            *([plan.about.name] if has_name else []),
            time.strftime(MINUTES, time.localtime(saved_ns / 1e9)),
            f"{sum(run.is_finished for run in runs)}/{len(plan.jobs)}"
            f"{', stopped by a limit' if plan.is_limited else ''}",
            value,
            test,
            *([plan.about.note] if has_note else []),
            command,
        )
    return table
