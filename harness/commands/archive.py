"""`python -m harness archive`: put runs and sweeps aside without removing them."""

import sys
from pathlib import Path

import click
from filelock import Timeout

from harness.commands.note import deliver
from harness.commands.options import OUTPUTS, refuse
from harness.runfolder.history import ARCHIVED
from harness.runfolder.selection import Selection, select

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
        chosen = select(outputs, selection)
        if not chosen.runs:
            raise ValueError(f"{chosen.title}: there are no runs to archive")
        if live := [run.id for run in chosen.runs if run.is_live()]:
            raise ValueError(f"{live[0]} is being trained at this moment; stop it first")
    except ValueError as error:
        refuse(error)
    for run in chosen.runs:
        try:
            if run.history().is_archived == undo:
                run.add_tags({ARCHIVED: str(not undo).lower()})
        except Timeout:
            print(f"{run.id}: another process holds it; it stays as it was", file=sys.stderr)
    if undo:
        print(f"{chosen.title}: {len(chosen.runs)} run(s) are listed again")
    else:
        print(f"{chosen.title}: archived {len(chosen.runs)} run(s); {_how_to_undo(chosen)}")
    sys.exit(deliver(list(chosen.runs)))


def _how_to_undo(chosen: Selection) -> str:
    ids = [run.id for run in chosen.runs] if chosen.plan is None else [chosen.plan.id]
    words = " ".join(ids) if len(ids) <= MOST_NAMED else "IDS"
    return f"`python -m harness archive --undo {words}` lists them again"
