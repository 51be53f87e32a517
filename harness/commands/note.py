"""`python -m harness note`: set the note of runs or of a sweep."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
from filelock import Timeout

from harness.commands.options import OUTPUTS, at_rest, refuse
from harness.runfolder.about import NOTE, SWEEP_NOTE, About
from harness.runfolder.hint import hint
from harness.runfolder.optional import attempt
from harness.runfolder.plan import Plan, change
from harness.runfolder.run import Run
from harness.runfolder.status import ExitStatus


@click.command()
@click.argument("selection", nargs=-1, metavar="SELECTION...")
@click.argument("text")
@OUTPUTS
def note(selection: tuple[str, ...], text: str, outputs: Path) -> None:
    """Set the note of runs, or of a sweep; an empty TEXT removes it.

    SELECTION is as for `compare`. `status`, the report and MLflow show the note.
    """
    try:
        if not selection:  # click takes the last word for the text
            raise ValueError(f"note {text}: the text is missing; type note SELECTION TEXT")
        About(note=text).check()
        chosen = at_rest(outputs, selection, "note anything of")
    except ValueError as error:
        refuse(error)
    of_sweeps = {job.run for plan in chosen.plans for job in plan.jobs}
    try:
        noted = [change(outputs, plan.id, partial(_noted, text=text)) for plan in chosen.plans]
    except ValueError as error:
        refuse(error)
    written = add_tags([run for run in chosen.runs if run.id in of_sweeps], {SWEEP_NOTE: text})
    written += add_tags([run for run in chosen.runs if run.id not in of_sweeps], {NOTE: text})
    print(f"{chosen.title}: {'noted' if text else 'note removed'} ({len(written)} run(s))")
    for plan in noted:
        if (outputs / "reports" / plan.id).is_dir():
            print(attempt("report", partial(_report, plan, outputs), "no report"))
    sys.exit(ExitStatus.FAILED if len(written) < len(chosen.runs) else deliver(written))


def _noted(plan: Plan, text: str) -> Plan:
    return replace(plan, about=replace(plan.about, note=text))


def _report(plan: Plan, outputs: Path) -> str:
    """Write the report of a sweep again, with the new note; returns the line to print."""
    from harness.analysis import compare  # which loads Matplotlib

    return compare.after_sweep(plan, outputs)


def add_tags(runs: Sequence[Run], tags: dict[str, str], *, by: str | None = None) -> list[Run]:
    """Write tags into journals; returns the runs that got them, and prints the others."""
    written = []
    for run in runs:
        try:
            run.add_tags(tags, by=by)
            written.append(run)
        except Timeout:
            print(f"{run.id}: another process is writing to it; not changed", file=sys.stderr)
    return written


def deliver(runs: list[Run]) -> ExitStatus:
    """Deliver what was just written to the journals; prints what could not be delivered."""
    from harness.tracking.sync import deliver_now  # which loads MLflow

    hindered = deliver_now(runs)
    for line in hindered:
        print(f"not delivered yet: {line}", file=sys.stderr)
    if hindered:
        again = hint("sync", outputs=runs[0].outputs)
        print(f"`{again}` delivers it", file=sys.stderr)
    return ExitStatus.UNDELIVERED if hindered else ExitStatus.DONE
