"""`python -m harness note`: say something about runs or a sweep."""

import sys
from dataclasses import replace
from pathlib import Path

import click
from filelock import Timeout

from harness.commands.options import OUTPUTS, refuse
from harness.runfolder.about import NOTE, SWEEP_NOTE, About
from harness.runfolder.plan import Plan, saved_plans
from harness.runfolder.run import Run
from harness.runfolder.selection import Selection, select
from harness.runfolder.status import ExitStatus


@click.command()
@click.argument("selection", nargs=-1, required=True)
@click.argument("text")
@OUTPUTS
def note(selection: tuple[str, ...], text: str, outputs: Path) -> None:
    """Set the note of runs, or of a sweep; an empty TEXT removes it.

    SELECTION is as for `compare`. The note is shown by `status`, in the report, and in MLflow.
    """
    try:
        About(note=text).check()
        chosen = select(outputs, selection)
        if not chosen.runs:
            raise ValueError(f"{chosen.title}: there are no runs to note anything of")
        if live := [run.id for run in chosen.runs if run.is_live()]:
            raise ValueError(f"{live[0]} is being trained at this moment; note it when it is done")
    except ValueError as error:
        refuse(error)
    _write(chosen, text, outputs)
    print(f"{chosen.title}: {'noted' if text else 'note removed'} ({len(chosen.runs)} run(s))")
    sys.exit(deliver(list(chosen.runs)))


def _write(chosen: Selection, text: str, outputs: Path) -> None:
    """Write the note into the plan of a sweep, and into the journals."""
    tag = NOTE
    if chosen.plan is not None:
        tag = SWEEP_NOTE
        set_about(chosen.plan, replace(chosen.plan.about, note=text), outputs)
    for run in chosen.runs:
        try:
            run.add_tags({tag: text})
        except Timeout:
            print(f"{run.id}: another process holds it; its note stays as it was", file=sys.stderr)


def set_about(plan: Plan, about: About, outputs: Path) -> None:
    """Write what is said of a sweep, which stays where it is among the others."""
    saved = {each.id: saved_ns for saved_ns, each in saved_plans(outputs)}
    replace(plan, about=about).save(outputs, saved[plan.id])


def deliver(runs: list[Run]) -> ExitStatus:
    """Deliver what was just noted in the journals; says what could not be."""
    from harness.tracking.sync import deliver_now  # which loads MLflow

    hindered = deliver_now(runs)
    for line in hindered:
        print(f"not delivered yet: {line}", file=sys.stderr)
    if hindered:
        print("`python -m harness sync` delivers it", file=sys.stderr)
    return ExitStatus.UNDELIVERED if hindered else ExitStatus.DONE
