"""`python -m harness stop`: stop runs after their current epoch; they can be resumed."""

from pathlib import Path

import click

from harness.commands.options import OUTPUTS, refuse
from harness.runfolder.selection import select


@click.command()
@click.argument("selection", nargs=-1, required=True)
@OUTPUTS
def stop(selection: tuple[str, ...], outputs: Path) -> None:
    """Stop runs after their current epoch, on any machine.

    SELECTION is as for `compare`. The other jobs of a sweep continue. To resume a stopped run,
    repeat its command or use `resume=RUN_ID`.
    """
    try:
        chosen = select(outputs, selection)
        live = [run for run in chosen.runs if run.is_live()]
        if not live:
            raise ValueError(f"{chosen.title}: none of its runs is being trained at this moment")
    except ValueError as error:
        refuse(error)
    for run in live:
        run.request_stop()
        print(f"{run.id}: stops after its current epoch")
