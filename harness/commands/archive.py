"""`python -m harness archive`: put runs and sweeps aside without removing them."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from harness.commands.note import add_tags, deliver
from harness.commands.options import OUTPUTS, at_rest, refuse
from harness.runfolder.history import ARCHIVED
from harness.runfolder.plan import Plan, saved_plans
from harness.runfolder.selection import Selection, divided, select, shown_plans
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
    plans = _sweeps(outputs, selection)
    saved = {plan.id: ns for ns, plan in saved_plans(outputs)}
    for plan in plans:
        replace(plan, is_archived=not undo).save(outputs, saved[plan.id])
    kept = {} if undo else _in_other_sweeps(outputs, plans)
    its = [run for run in chosen.runs if run.id not in kept]
    others = ""
    if len(its) < len(chosen.runs):
        ids = ", ".join(dict.fromkeys(kept[run.id] for run in chosen.runs if run.id in kept))
        others = f"; {len(chosen.runs) - len(its)} stay listed, which are of sweep {ids} too"
    written = add_tags(its, {ARCHIVED: str(not undo).lower()})
    if undo:
        print(f"{chosen.title}: {len(written)} run(s) are listed again")
    else:
        print(f"{chosen.title}: archived {len(written)} run(s){others}; {_how_to_undo(chosen)}")
    sys.exit(ExitStatus.FAILED if len(written) < len(its) else deliver(written))


def _sweeps(outputs: Path, words: tuple[str, ...]) -> list[Plan]:
    """The plans of the sweeps that are meant as a whole."""
    names, conditions = divided(words)
    parts = [] if conditions else [select(outputs, [name]) for name in names]
    return [part.plan for part in parts if part.plan is not None]


def _in_other_sweeps(outputs: Path, plans: list[Plan]) -> dict[str, str]:
    """The runs of these sweeps that other listed sweeps have, with the id of one."""
    its = {job.run for plan in plans for job in plan.jobs}
    return {
        job.run: other.id
        for other in shown_plans(outputs)
        for job in other.jobs
        if job.run in its and other.id not in {plan.id for plan in plans}
    }


def _how_to_undo(chosen: Selection) -> str:
    ids = [run.id for run in chosen.runs] if chosen.plan is None else [chosen.plan.id]
    words = " ".join(ids) if len(ids) <= MOST_NAMED else "IDS"
    return f"`python -m harness archive --undo {words}` lists them again"
