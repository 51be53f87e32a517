"""`python -m harness restore`: bring back what `rm` removed."""

import sys
from pathlib import Path

import click

from harness.commands.options import OUTPUTS, refuse
from harness.commands.rm import rename_study
from harness.runfolder import removed
from harness.runfolder.folder import alone
from harness.runfolder.hint import hint
from harness.runfolder.selection import Selection, Unknown, select
from harness.runfolder.status import ExitStatus


@click.command()
@click.argument("selection", nargs=-1, required=True)
@OUTPUTS
def restore(selection: tuple[str, ...], outputs: Path) -> None:
    """Bring back removed runs and sweeps, also in MLflow.

    SELECTION is as for `compare`, among removed runs; `status --removed` lists them.
    """
    from harness.tracking import removal  # which loads MLflow

    try:
        _chosen(outputs, selection)
        with alone(outputs):
            chosen = _chosen(outputs, selection)  # `gc` may have deleted it meanwhile
            removed.check_vacant(outputs, chosen.runs, chosen.plans)
            if problems := removal.restore(outputs, chosen.runs):
                for line in problems:
                    print(f"not restored in the store: {line}", file=sys.stderr)
                print("nothing was restored in outputs", file=sys.stderr)
                sys.exit(ExitStatus.UNDELIVERED)
            removed.restore(outputs, chosen.runs, chosen.plans)
        for plan in chosen.plans:
            rename_study(outputs, plan, is_removed=False)
    except ValueError as error:
        refuse(error)
    print(f"restored {chosen.title} ({len(chosen.runs)} run(s))")


def _chosen(outputs: Path, selection: tuple[str, ...]) -> Selection:
    """The removed runs that the words select. Raises `ValueError`."""
    try:
        chosen = select(removed.place(outputs), selection)
    except Unknown as unknown:
        raise ValueError(
            f"{unknown.word!r} is nothing that was removed; "
            f"`{hint('status', '--removed', outputs=outputs)}` lists what was"
        ) from None
    if not chosen.runs and not chosen.plans:
        raise ValueError(f"{chosen.title}: nothing of it was removed")
    return chosen
