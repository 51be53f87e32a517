"""`python -m harness status`: runs and sweeps as tables, read from the journals."""

import sys
import time
from pathlib import Path

import click
from rich.table import Table

from harness.commands.options import OUTPUTS
from harness.run.fitted_table import FittedTable
from harness.run.summary import figures, objectives, show
from harness.runfolder.folder import all_runs, broken_runs
from harness.runfolder.objective import DEFAULT, Objective
from harness.runfolder.plan import all_plans
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus


@click.command()
@OUTPUTS
@click.option("--limit", default=30, show_default=True, help="Show this many of the newest runs.")
def status(outputs: Path, limit: int) -> None:
    """List runs and sweeps, and name the run folders that no command can use."""
    runs = all_runs(outputs)
    if runs or all_plans(outputs):
        show(runs_table(runs[-limit:]), sweeps_table(outputs, runs))
    else:
        print(
            f"no runs in {outputs}: train one with `python -m harness.run experiment=quick`, or "
            "name another folder with --outputs"
        )
    for folder, problem in broken_runs(outputs):
        print(f"cannot be used: run {folder.name}: {problem}", file=sys.stderr)


def runs_table(runs: list[Run]) -> Table:
    """One row per run; with runs of several objectives, each row names its own."""
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
    for run in runs:
        history = run.history()
        state = history.status
        if state is RunStatus.RUNNING and not run.is_live():
            state = RunStatus.KILLED  # its process died; the next command records that
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(history.create["ms"] / 1000))
        epochs = f"{len(history.epochs)}/{history.params['epochs']}"
        own = [str(Objective.of(history.params))] if is_mixed else []
        table.add_row(run.id, started, history.name, state, epochs, *own, *figures(history))
    return table


def sweeps_table(outputs: Path, runs: list[Run]) -> Table:
    """One row per sweep. runs: all that can be read."""
    table = FittedTable("sweeps")
    table.add("sweep")
    table.add("finished")
    table.add("command", folds=True)
    done = {run.id for run in runs if run.is_finished}
    for plan in all_plans(outputs):
        finished = sum(job.run in done for job in plan.jobs)
        table.add_row(plan.id, f"{finished}/{len(plan.jobs)}", " ".join(plan.overrides))
    return table
