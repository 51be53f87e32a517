"""`python -m harness compare`: which setting is better, by how much, and is the difference real?"""

import sys
from pathlib import Path

import click
from rich.table import Table

from harness.analysis import compare as comparing
from harness.analysis import tables
from harness.analysis.page import Comparison
from harness.analysis.ranking import FIRST
from harness.analysis.seed_run import SEED
from harness.commands.options import OUTPUTS, URI, refuse
from harness.run.fitted_table import FittedTable
from harness.run.summary import show
from harness.runfolder.optional import attempt
from harness.runfolder.status import ExitStatus
from harness.tracking.errors import StoreError
from harness.tracking.reading import Reader
from harness.tracking.recorded import Journals, Recorded
from harness.tracking.selection import Selection, select

MOST_ROWS = 40


@click.command()
@click.argument("what", nargs=-1)
@OUTPUTS
@URI
@click.option("--attach/--no-attach", default=True, help="Store the report with the best run.")
def compare(what: tuple[str, ...], outputs: Path, uri: str | None, attach: bool) -> None:
    """Compare runs: table, tests, and a report as one HTML page.

    WHAT is a sweep, an MLflow experiment, a filter such as "params.batch = '16'", or several run
    ids; the newest sweep when it is left out.
    """
    try:
        selection = select(outputs, list(what), uri)
        comparison, chosen = comparing.build(selection, outputs)
    except (ValueError, StoreError) as error:
        refuse(error)
    folder = outputs / "reports" / selection.name
    nothing: list[Path] = []
    files = attempt("no report", lambda: comparing.write(comparison, folder), nothing)
    show(terminal_table(comparison))
    print(tables.lead(comparison.standings))
    for note in comparison.notes:
        print(f"note: {note}", file=sys.stderr)
    if not files:
        sys.exit(ExitStatus.FAILED if attach else ExitStatus.DONE)
    print(f"report: {files[0]}")
    if attach and not isinstance(selection.source, Journals):
        sys.exit(_attach(selection, chosen, comparison, files))


def _attach(
    selection: Selection, chosen: Recorded, comparison: Comparison, files: list[Path]
) -> ExitStatus:
    """Store the report with the chosen run of the best setting."""
    try:
        selection.source.attach(chosen, files, f"report/{selection.name}")
        _save_view(selection, chosen, comparison)
    except (ValueError, StoreError) as error:
        print(f"not attached to {chosen.run}: {error}", file=sys.stderr)
        return ExitStatus.UNDELIVERED
    print(f"attached to {chosen.name} ({chosen.run}) as report/{selection.name}")
    return ExitStatus.DONE


def terminal_table(comparison: Comparison) -> Table:
    """The ranking as a table for the terminal, at most `MOST_ROWS` settings."""
    table = FittedTable(f"{comparison.title}   (* best, = not distinguishable from it at 5 %)")
    standings = comparison.standings[:MOST_ROWS]
    head, rows = tables.ranking(standings, terminal=True)
    mark, *keys = head[: 1 + len(standings[0].setting.values)]
    table.add(mark)
    for key in keys:
        table.add(key, folds=True)
    for title, drop in zip(head[1 + len(keys) :], tables.drops(), strict=True):
        table.add(title, right=True, drop=drop)
    for standing, row in zip(standings, rows, strict=True):
        table.add_row(*row, style="bold" if standing.verdict in FIRST else None)
    if len(comparison.standings) > MOST_ROWS:
        table.caption = f"the first {MOST_ROWS} of {len(comparison.standings)} settings"
    return table


def _save_view(selection: Selection, chosen: Recorded, comparison: Comparison) -> None:
    """Store a view of a sweep in MLflow: swept keys as columns, means over seeds as curves."""
    if isinstance(selection.source, Reader) and selection.title.startswith("sweep "):
        params = [key for key in comparison.settings[0].values if key in chosen.params]
        seeds = {run.seed for setting in comparison.settings for run in setting.runs}
        params += [SEED] if len(seeds) > 1 else []
        selection.source.save_view(chosen, selection.name, params)
