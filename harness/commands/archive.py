"""`python -m harness archive`: hide runs and sweeps without removing them."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from harness.commands.note import add_tags, deliver
from harness.commands.options import OUTPUTS, at_rest, refuse
from harness.runfolder.hint import hint
from harness.runfolder.history import ARCHIVED
from harness.runfolder.plan import change
from harness.runfolder.selection import Selection, of_others, shown_plans
from harness.runfolder.status import ExitStatus

MOST_NAMED = 4


@click.command()
@click.argument("selection", nargs=-1, required=True)
@click.option("--undo", is_flag=True, help="List them again.")
@OUTPUTS
def archive(selection: tuple[str, ...], outputs: Path, *, undo: bool) -> None:
    """Archive runs, or all runs of a sweep: they stay, but only their ids select them.

    SELECTION is as for `compare`; `status --archived` lists archived runs. In MLflow, the runs get
    the tag `archived`.
    """
    try:
        chosen = at_rest(outputs, selection, "archive")
    except ValueError as error:
        refuse(error)
    kept = {} if undo else of_others(chosen.plans, shown_plans(outputs))
    its = [run for run in chosen.runs if run.id not in kept]
    others = ""
    if len(its) < len(chosen.runs):
        ids = ", ".join(dict.fromkeys(kept[run.id] for run in chosen.runs if run.id in kept))
        others = f"; {len(chosen.runs) - len(its)} stay listed, which are of sweep {ids} too"
    before = {run.id for run in its if run.is_archived}
    written = add_tags(its, {ARCHIVED: str(not undo).lower()})
    try:
        for plan in chosen.plans:  # after its runs: until then, its name still selects it
            change(outputs, plan.id, partial(replace, is_archived=not undo))
    except ValueError as error:
        refuse(error)
    if undo:
        count = sum(run.id in before for run in written)
        print(f"{chosen.title}: {count} run(s) are listed again")
    else:
        back = _how_to_undo(outputs, chosen)
        print(f"{chosen.title}: archived {len(written)} run(s){others}; {back}")
    sys.exit(ExitStatus.FAILED if len(written) < len(its) else deliver(written))


def _how_to_undo(outputs: Path, chosen: Selection) -> str:
    in_sweeps = {job.run for plan in chosen.plans for job in plan.jobs}
    ids = [plan.id for plan in chosen.plans]
    ids += [run.id for run in chosen.runs if run.id not in in_sweeps]
    words = ids if len(ids) <= MOST_NAMED else ["IDS"]
    return f"`{hint('archive', '--undo', *words, outputs=outputs)}` lists them again"
