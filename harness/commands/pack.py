"""`python -m harness pack`: write runs to one zip file."""

import sys
from pathlib import Path

import click

from harness import __version__
from harness.commands.options import OUTPUTS, refuse
from harness.data import own_data
from harness.runfolder import pack as packs
from harness.runfolder.selection import select
from harness.runfolder.status import ExitStatus


@click.command()
@click.argument("selection", nargs=-1, required=True)
@click.option("--to", type=click.Path(path_type=Path), default=Path("pack.zip"), show_default=True)
@OUTPUTS
def pack(selection: tuple[str, ...], to: Path, outputs: Path) -> None:
    """Write runs, their sweeps and reports to one zip file; `merge` imports it elsewhere.

    SELECTION is as for `compare`. Every file is verified first. Exit status: 1 if a damaged run was
    skipped.
    """
    try:
        chosen = select(outputs, selection)
        if not chosen.runs and not chosen.unreadable:
            raise ValueError(f"{chosen.title}: there are no runs to pack")
        own_data.check_file(to)
        to.parent.mkdir(parents=True, exist_ok=True)
        packed = packs.write(to, outputs, chosen.runs, __version__, of=chosen.plans)
    except ValueError as error:
        refuse(error)
    refused = [*chosen.unreadable, *packed.refused]
    for line in refused:
        print(f"not packed: {line}", file=sys.stderr)
    of = f" of {len(packed.runs) + len(refused)}" if refused else ""
    if packed.runs:
        print(f"{to}: {len(packed.runs)}{of} run(s), {packed.size / 1e6:.1f} MB")
    else:
        print("nothing was packed", file=sys.stderr)
    if refused:
        sys.exit(ExitStatus.FAILED)
