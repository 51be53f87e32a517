"""`python -m harness archive`: put runs and sweeps aside without removing them."""

import sys
from pathlib import Path

import click

from harness.commands.note import add_tags, deliver
from harness.commands.options import OUTPUTS, at_rest, refuse
from harness.runfolder.history import ARCHIVED
from harness.runfolder.selection import Selection
from harness.runfolder.status import ExitStatus

MOST_NAMED = 4


@click.command()
@click.argument("selection", nargs=-1, required=True)
@click.option("--undo", is_flag=True, help="List them again.")
@OUTPUTS
def archive(selection: tuple[str, ...], outputs: Path, *, undo: bool) -> None:
    """Put runs, or all runs of a sweep, aside: they stay, but are meant by their ids only.

    SELECTION is as for `compare`; `status --archived` lists what was archived. MLflow's runs get
    the tag `archived`.
    """
    try:
        chosen = at_rest(outputs, selection, "archive")
    except ValueError as error:
        refuse(error)
    written = add_tags(chosen.runs, {ARCHIVED: str(not undo).lower()})
    if undo:
        print(f"{chosen.title}: {len(written)} run(s) are listed again")
    else:
        print(f"{chosen.title}: archived {len(written)} run(s); {_how_to_undo(chosen)}")
    sys.exit(ExitStatus.FAILED if len(written) < len(chosen.runs) else deliver(written))


def _how_to_undo(chosen: Selection) -> str:
    ids = [run.id for run in chosen.runs] if chosen.plan is None else [chosen.plan.id]
    words = " ".join(ids) if len(ids) <= MOST_NAMED else "IDS"
    return f"`python -m harness archive --undo {words}` lists them again"
