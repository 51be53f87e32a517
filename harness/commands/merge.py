"""`python -m harness merge`: import the runs of another machine, or of a pack."""

import sys
from contextlib import nullcontext
from pathlib import Path

import click

from harness.commands.options import OUTPUTS, refuse
from harness.runfolder import merging, pack
from harness.runfolder.status import ExitStatus


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@OUTPUTS
def merge(source: Path, outputs: Path) -> None:
    """Import the runs and sweeps of SOURCE, an outputs folder or a pack, and deliver them.

    Safe to repeat: known runs are not imported again. Exit status: 1 if something could not be
    imported, 3 if something is not delivered yet.
    """
    from harness.tracking.sync import deliver_now  # which loads MLflow

    try:
        with pack.opened(source) if source.is_file() else nullcontext(source) as folder:
            merged = merging.merge(outputs, folder)
    except ValueError as error:
        refuse(error)
    for line in merged.refused:
        print(f"not taken in: {line}", file=sys.stderr)
    sweeps = f", {len(merged.sweeps)} sweep(s)" if merged.sweeps else ""
    print(f"{source}: took in {len(merged.runs)} run(s){sweeps}; {merged.known} known already")
    hindered = deliver_now([*merged.runs, *merged.left])
    for line in hindered:
        print(f"not delivered yet: {line}", file=sys.stderr)
    if merged.refused:
        sys.exit(ExitStatus.FAILED)
    sys.exit(ExitStatus.UNDELIVERED if hindered else ExitStatus.DONE)
