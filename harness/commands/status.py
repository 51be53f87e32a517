"""Runs and sweeps as tables in the terminal, read from the journals."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from harness.nn import metrics
from harness.runfolder import folder as runs
from harness.runfolder import journal
from harness.runfolder import plan as sweep
from harness.runfolder.journal import History
from harness.runfolder.plan import SweepJob
from harness.tracking.follower import read_state
from harness.tracking.store import Store
from harness.tracking.target import Target
from harness.tracking.views import save_view, swept_params, view_link

NOTHING = "-"


def best_row(histories: Sequence[History]) -> int | None:
    """The index of the finished run with the lowest validation error; the earliest of equals."""
    errors = {
        index: told.final[metrics.BEST_VAL_ERROR]
        for index, told in enumerate(histories)
        if told.status == "FINISHED" and metrics.BEST_VAL_ERROR in told.final
    }
    return min(errors, key=lambda index: errors[index]) if errors else None


def sweep_table(jobs: Sequence[SweepJob], histories: Sequence[History]) -> Table:
    """One row per job: swept values, best validation error and its epoch, test error, seconds,
    run."""
    best = best_row(histories)
    title = None if best is None else "best by validation error is marked *"
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    swept = list(jobs[0].swept) or ["run"]
    for key in ("", *swept):
        table.add_column(key)
    for heading in ("val error", "epoch", "test error", "seconds"):
        table.add_column(heading, justify="right")
    for heading in ("status", "run id"):
        table.add_column(heading, no_wrap=True)
    for index, (job, told) in enumerate(zip(jobs, histories, strict=True)):
        values = [job.swept[key] for key in swept] if job.swept else [job.name]
        table.add_row(
            "*" if index == best else "",
            *values,
            *_figures(told),
            "PRUNED" if runs.is_pruned(told) else told.status,
            told.run,
            style="bold" if index == best else None,
        )
    return table


def status_tables(outputs: Path, limit: int) -> list[Table]:
    """The newest runs and all sweeps."""
    table = Table(title="runs", title_justify="left", box=box.SIMPLE)
    for title in ("run id", "started", "name", "status", "epochs"):
        table.add_column(title, no_wrap=title != "name")
    for title in ("val error", "epoch", "test error", "seconds"):
        table.add_column(title, justify="right")
    readable = dict(runs.readable(outputs))
    for folder, told in list(readable.items())[-limit:]:
        status = told.status
        if status == "RUNNING" and not runs.is_live(folder):
            status = "KILLED"  # died without a word; the next command writes that down
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(told.create["ms"] / 1000))
        done = f"{len(told.epochs)}/{told.create['params']['epochs']}"
        table.add_row(told.run, started, told.create["name"], status, done, *_figures(told))
    sweeps = Table(title="sweeps", title_justify="left", box=box.SIMPLE)
    for title in ("sweep", "finished", "command"):
        sweeps.add_column(title)
    for plan in sweep.plans(outputs):
        folders = [runs.folder_of(outputs) / job.run for job in plan.jobs]
        finished = sum(f in readable and readable[f].status == "FINISHED" for f in folders)
        sweeps.add_row(plan.id, f"{finished}/{len(plan.jobs)}", " ".join(plan.overrides))
    return [table, sweeps]


def newest_view(outputs: Path, target: Target, address: str) -> str | None:
    """Store the newest sweep's view with its experiment and return the link to it, if there is one.

    address: where the UI of the store `target` is served.
    """
    for plan in sweep.plans(outputs)[-1:]:
        folder = runs.folder_of(outputs) / plan.jobs[0].run
        state = read_state(folder)
        if state.get("store") == target.key:
            params = swept_params(plan.jobs[0].swept, journal.history(folder).create["params"])
            save_view(Store(target).client, state["experiment_id"], plan.id, params)
            return view_link(address, state["experiment_id"], plan.id)
    return None


def show(*tables: Table) -> None:
    """Print to standard output, at full width when it is not a terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    for table in tables:
        console.print(table)


def _figures(told: History) -> tuple[str, str, str, str]:
    final = told.final
    best = final.get(metrics.BEST_VAL_ERROR)
    return (
        NOTHING if best is None else f"{best:.2%}",
        NOTHING if best is None else f"{final[metrics.BEST_EPOCH]:.0f}",
        f"{final[metrics.TEST_ERROR]:.2%}" if final else NOTHING,
        f"{told.seconds:.1f}" if told.epochs else NOTHING,
    )
