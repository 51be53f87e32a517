"""`python -m harness gc`: permanently delete what `rm` removed."""

import sys
from pathlib import Path

import click

from harness.commands.options import PRESENT_OUTPUTS, YES, confirmed, refuse
from harness.data.atomic import size_of
from harness.runfolder import removed
from harness.runfolder.folder import alone
from harness.runfolder.selection import Outputs
from harness.runfolder.status import ExitStatus


@click.command()
@YES
@PRESENT_OUTPUTS
def gc(yes: bool, outputs: Path) -> None:
    """Permanently delete what `rm` removed: from disk, and from the store in outputs.

    On a tracking server, the runs stay in the deleted state until you run its own `mlflow gc`.
    """
    place = removed.place(outputs)
    listed = Outputs([place])
    size = size_of(place) / 1e6
    question = f"permanently delete {len(listed.runs)} run(s) ({size:.1f} MB)?"
    try:
        if not listed.runs and not listed.plans:
            if place.is_dir():
                _erase_rest(outputs)
            print("there is nothing to delete permanently")
            return
        if not confirmed(question, yes=yes):
            print("nothing was removed")
            sys.exit(ExitStatus.FAILED)
        with alone(outputs):
            status = _erase(outputs, listed)
    except ValueError as error:
        refuse(error)
    sys.exit(status)


def _erase_rest(outputs: Path) -> None:
    """Remove what a killed `gc` left, unless `rm` has just removed something."""
    with alone(outputs):
        listed = Outputs([removed.place(outputs)])
        if not listed.runs and not listed.plans:
            removed.erase_rest(outputs)


def _erase(outputs: Path, listed: Outputs) -> ExitStatus:
    """Delete the listed runs that still exist; if no others are left, also the sweeps."""
    from harness.run.search import study
    from harness.tracking import removal

    now, asked = Outputs([removed.place(outputs)]), set(listed.runs)
    runs = [run for run in now.runs if run in asked]
    problems = removal.delete(outputs, runs) + removal.erase(outputs, runs)
    kept = {line.partition(":")[0] for line in problems}
    erased = [run for run in runs if run.id not in kept]
    for run in erased:
        removed.erase(outputs, run)
    plans = {plan.id for _, plan, _ in now.plans}
    is_all = len(runs) == len(now.runs) and plans <= {plan.id for _, plan, _ in listed.plans}
    if is_all and not kept:
        for plan in plans:
            study.forget(outputs, f"{study.REMOVED}{plan}")
        removed.erase_rest(outputs)
    for line in problems:
        print(f"kept: {line}", file=sys.stderr)
    print(f"permanently deleted {len(erased)} run(s)")
    return ExitStatus.UNDELIVERED if problems else ExitStatus.DONE
