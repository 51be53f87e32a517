"""`python -m harness compare`: which setting is better, by how much, and is the difference real?"""

import contextlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from filelock import Timeout
from rich.table import Table

from harness.analysis import tables
from harness.analysis.measure import Measure
from harness.analysis.ranking import FIRST
from harness.analysis.seed_run import SEED
from harness.commands.options import EVERY_OUTPUTS, JSON, URI, measured, refuse
from harness.data.atomic import explained
from harness.run.fitted_table import FittedTable, show
from harness.runfolder.cost import Cost
from harness.runfolder.hint import hint
from harness.runfolder.optional import attempt, preload
from harness.runfolder.run import Run
from harness.runfolder.status import ExitStatus
from harness.tracking.errors import StoreError
from harness.tracking.reading import Reader
from harness.tracking.recorded import Journals, Recorded
from harness.tracking.selection import Selection, newest_sweep, select
from harness.tracking.views import swept_params

if TYPE_CHECKING:
    from harness.analysis.page import Comparison

MOST_ROWS = 40


@click.command()
@click.argument("what", nargs=-1)
@EVERY_OUTPUTS
@URI
@measured
@click.option(
    "--cost",
    "costs",
    multiple=True,
    metavar="METRIC[:max]",
    help="Compare by this as well, such as parameters or time/epoch_s; may be repeated.",
)
@click.option(
    "--attach/--no-attach",
    default=None,
    help="Store the report with the best run; with --metric or several --outputs only if "
    "--attach is given.",
)
@JSON
def compare(
    what: tuple[str, ...], outputs: tuple[Path, ...], uri: str | None, *, measure: Measure | None,
    costs: tuple[str, ...], attach: bool | None, as_json: bool,
) -> None:  # fmt: skip
    """Compare runs: table, tests, and a report as one HTML page.

    WHAT is sweeps, runs, names, an experiment, `last`, `since=7d`, or a filter such as
    "params.batch = '16'". The default is the newest sweep. Use --metric for runs of another program
    that logs to MLflow. With several --outputs, the report goes to the first.
    """
    if attach is None:  # another folder may belong to someone else
        attach = measure is None and len(outputs) == 1
    preload("harness.analysis.compare")  # while the store answers
    try:
        given = tuple(str(Cost.typed(each, option="--cost ")) for each in costs)
        if given and measure is not None:
            raise ValueError(f"--cost {given[0]}: only for runs of this program; leave it out")
        selection = select(outputs, what or [newest_sweep(outputs, uri)], uri)
        recorded = dict.fromkeys(key for run in selection.recorded for key in run.final)
        for cost in costs:
            _check(Cost.parse(cost), [each for each in recorded if not each.startswith("test/")])
        selection = replace(selection, costs=given or selection.costs)
        from harness.analysis import compare as comparing

        comparison, chosen = comparing.build(selection, outputs, measure)
    except (ValueError, StoreError) as error:
        refuse(error)
    name = selection.name if measure is None else f"{selection.name}-{measure.folder}"
    folder = outputs[0] / "reports" / name
    nothing: list[Path] = []
    files = attempt("no report", lambda: comparing.write(comparison, folder), nothing)
    if as_json:
        print(comparison.to_json(), end="")
    else:
        show(terminal_table(comparison))
        print(comparison.lead)
    about = sys.stderr if as_json else sys.stdout
    for note in comparison.notes:
        print(f"note: {note}", file=sys.stderr)
    if not files:
        sys.exit(ExitStatus.FAILED if attach else ExitStatus.DONE)
    print(f"report: {files[0]}", file=about)
    if attach:
        with contextlib.redirect_stdout(about):
            sys.exit(_attach(selection, chosen, comparison, files, name))


def _check(cost: Cost, recorded: list[str]) -> None:
    try:
        cost.check(recorded)
    except ValueError as error:
        raise ValueError(f"--cost {error}") from None


def _attach(
    selection: Selection, chosen: Recorded, comparison: "Comparison", files: list[Path], name: str
) -> ExitStatus:
    """Store the report with the chosen run of the best setting."""
    folder = f"report/{name}"
    try:
        selection.source.attach(chosen, files, folder)
        if isinstance(selection.source, Journals):
            _deliver(Run(Path(chosen.location)), [f"{folder}/{path.name}" for path in files])
        _save_view(selection, chosen, comparison)
    except (ValueError, OSError, StoreError, Timeout) as error:
        print(f"not attached to {chosen.run}: {explained(error)}", file=sys.stderr)
        return ExitStatus.UNDELIVERED
    print(f"attached to {chosen.name} ({chosen.run}) as {folder}")
    return ExitStatus.DONE


def _deliver(run: Run, paths: list[str]) -> None:
    """Note files in a run's journal, and deliver them. Raises `StoreError`."""
    from harness.tracking.sync import deliver_now  # which loads MLflow

    run.add_artifacts(paths)
    if hindered := deliver_now([run]):
        again = hint("sync", outputs=run.outputs)
        raise StoreError(f"{hindered[0]}; `{again}` delivers it")


def terminal_table(comparison: "Comparison") -> Table:
    """The ranking as a table for the terminal, at most `MOST_ROWS` settings."""
    standings = comparison.standings[:MOST_ROWS]
    table = FittedTable(f"{comparison.title}   ({tables.legend(standings)})")
    head, rows = tables.ranking(standings, terminal=True)
    mark, *keys = head[: 1 + len(standings[0].setting.values)]
    table.add(mark)
    for key in keys:
        table.add(key, folds=True)
    drops = tables.drops(standings[0].setting)
    for title, drop in zip(head[1 + len(keys) :], drops, strict=True):
        table.add(title, right=True, drop=drop)
    for standing, row in zip(standings, rows, strict=True):
        table.add_row(*row, style="bold" if standing.verdict in FIRST else None)
    if len(comparison.standings) > MOST_ROWS:
        table.caption = f"the first {MOST_ROWS} of {len(comparison.standings)} settings"
    return table


def _save_view(selection: Selection, chosen: Recorded, comparison: "Comparison") -> None:
    """Store a view of a sweep in MLflow: swept keys as columns, means over seeds as curves."""
    by_epoch = comparison.settings[0].objective.by_epoch
    if not selection.sweep or not by_epoch:
        return
    params = swept_params(comparison.settings[0].values, chosen.params)
    seeds = {run.seed for setting in comparison.settings for run in setting.runs}
    params += [SEED] if len(seeds) > 1 else []
    source, experiment = selection.source, chosen.experiment
    if isinstance(source, Journals):
        run = Run(Path(chosen.location))
        target, experiment = run.target(), run.delivered().get("experiment_id", "")
        if target is None:
            return
        source = Reader(target)
    if isinstance(source, Reader):
        source.save_view(replace(chosen, experiment=experiment), selection.sweep, params)
