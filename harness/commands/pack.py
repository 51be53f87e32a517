"""`python -m harness pack`: runs in one zip file."""

from pathlib import Path

import click

from harness import __version__
from harness.commands.options import OUTPUTS, refuse
from harness.data import own_data
from harness.runfolder import pack as packs
from harness.runfolder.selection import select


@click.command()
@click.argument("selection", nargs=-1, required=True)
@click.option("--to", type=click.Path(path_type=Path), default=Path("pack.zip"), show_default=True)
@OUTPUTS
def pack(selection: tuple[str, ...], to: Path, outputs: Path) -> None:
    """Write runs, their sweeps and reports to one zip file, which `merge` opens elsewhere.

    SELECTION is as for `compare`.
    """
    try:
        chosen = select(outputs, selection)
        if not chosen.runs:
            raise ValueError(f"{chosen.title}: there are no runs to pack")
        if chosen.unreadable:
            raise ValueError(chosen.unreadable[0])
        own_data.check_folder(to.parent)
        to.parent.mkdir(parents=True, exist_ok=True)
        size = packs.write(to, outputs, chosen.runs, __version__)
    except ValueError as error:
        refuse(error)
    print(f"{to}: {len(chosen.runs)} run(s), {size / 1e6:.1f} MB")
