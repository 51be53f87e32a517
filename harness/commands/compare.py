"""`python -m harness compare`: which setting is better, by how much, and is the difference real?"""

import sys
from pathlib import Path

from rich import box
from rich.table import Table

from harness.analysis import compare, tables
from harness.analysis.page import Comparison
from harness.analysis.ranking import BEST, LOWEST
from harness.analysis.settings import SEED
from harness.commands import status
from harness.tracking.reading import Reader
from harness.tracking.recorded import Journals, Recorded
from harness.tracking.selection import Selection, select
from harness.tracking.store import StoreError

DONE, BAD_INPUT, UNDELIVERED = 0, 2, 3
MOST_ROWS = 40


def command(outputs: Path, words: list[str], uri: str | None, *, attach: bool) -> int:
    """Compare the selected runs and write the report; returns the exit status.

    attach: also store the report with the chosen run of the best setting.
    """
    try:
        selection = select(outputs, words, uri)
        comparison, chosen = compare.build(selection, outputs)
    except (ValueError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    files = compare.write(comparison, outputs / "reports" / selection.name)
    status.show(terminal_table(comparison))
    print(tables.lead(comparison.standings))
    for note in comparison.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"report: {files[0]}")
    if not attach or isinstance(selection.source, Journals):
        return DONE
    try:
        selection.source.attach(chosen, files, f"report/{selection.name}")
        _save_view(selection, chosen, comparison)
    except (ValueError, StoreError) as error:
        print(f"not attached to {chosen.run}: {error}", file=sys.stderr)
        return UNDELIVERED
    print(f"attached to {chosen.name} ({chosen.run}) as report/{selection.name}")
    return DONE


def terminal_table(comparison: Comparison) -> Table:
    """The ranking as a table for the terminal, at most `MOST_ROWS` settings."""
    table = Table(
        title=f"{comparison.title}   (* best, = not distinguishable from it at 5 %)",
        title_justify="left",
        box=box.SIMPLE,
    )
    standings = comparison.standings[:MOST_ROWS]
    head, rows = tables.ranking(standings, terminal=True)
    keys = len(standings[0].setting.values)
    for number, title in enumerate(head):
        table.add_column(title, justify="left" if number <= keys else "right")
    for standing, row in zip(standings, rows, strict=True):
        table.add_row(*row, style="bold" if standing.verdict in (BEST, LOWEST) else None)
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
