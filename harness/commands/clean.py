"""`python -m harness clean`: remove files that no run needs."""

import shutil
import time
from contextlib import nullcontext
from pathlib import Path

import click

from harness.commands.options import PRESENT_OUTPUTS
from harness.data.atomic import size_of
from harness.runfolder.checkpoints import FOLDER, spare
from harness.runfolder.folder import alone, readable_runs, runs_folder
from harness.runfolder.merging import put_back

WRITING_S = 60.0  # another process may still be writing a file younger than this


@click.command()
@PRESENT_OUTPUTS
@click.option("--dry-run", is_flag=True, help="Only print what would be freed.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also remove milestones, and checkpoints that hold the only copy of a model.",
)
def clean(outputs: Path, dry_run: bool, everything: bool) -> None:
    """Remove checkpoints of finished runs, and files that killed processes left half-written."""
    with nullcontext() if dry_run else alone(outputs):  # files that `merge` copies have old times
        if not dry_run:
            put_back(outputs)
        paths = unneeded(outputs, everything=everything)
        freed = sum(size_of(path) for path in paths)
        for path in () if dry_run else paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)  # its folder may be removed already
    click.echo(f"{'would free' if dry_run else 'freed'} {freed / 1e6:.1f} MB of checkpoints")


def unneeded(outputs: Path, *, everything: bool) -> list[Path]:
    """The files and folders that no run needs.

    These are the checkpoints of finished runs that `spare` names (all of them with `everything`),
    and files that killed processes left half-written.
    """
    places = (runs_folder(outputs).glob(".*-*"), (outputs / "cache").glob(".extracting-*"))
    paths = [path for place in places for path in place if _is_old(path)]
    for run in readable_runs(outputs):
        if run.is_live():
            continue
        hidden = (path for path in run.folder.rglob(".*") if not path.name.endswith(".lock"))
        paths += [path for path in hidden if _is_old(path)]
        if run.is_finished:
            every = (run.folder / FOLDER).glob("epoch-*")
            paths += every if everything else spare(run)
    return paths


def _is_old(path: Path) -> bool:
    """Whether a file or folder has not changed for `WRITING_S` seconds."""
    try:
        newest = max(each.lstat().st_mtime for each in (path, *path.rglob("*")))
    except FileNotFoundError:  # its writer has finished
        return False
    return time.time() - newest > WRITING_S
