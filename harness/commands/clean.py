"""Freeing the disk of what no run needs any more."""

import shutil
import time
from pathlib import Path

from harness.runfolder import folder as runs
from harness.runfolder.checkpoint import milestones

WRITING_S = 60.0  # a half-written file that is younger may still be written


def clean(outputs: Path, *, dry_run: bool, everything: bool) -> int:
    """Remove what no run needs any more; returns the bytes that are (or would be) freed.

    That is: of finished runs the checkpoints that their policy does not keep for ever (with
    `everything` all of them), and what killed writers left half-written.
    """
    waste = [path for path in runs.folder_of(outputs).glob(".*-*") if _is_old(path)]
    for folder, told in runs.readable(outputs):
        if runs.is_live(folder):
            continue
        place = folder / "checkpoints"
        hidden = (path for path in folder.rglob(".*") if not path.name.endswith(".lock"))
        waste += [path for path in hidden if _is_old(path)]
        if told.status == "FINISHED":
            kept = told.create["params"]["checkpoint.milestones"]
            lasting = set() if everything else milestones(place, kept)
            waste += [path for path in place.glob("epoch-*") if path not in lasting]
    freed = sum(_size(path) for path in waste)
    for path in () if dry_run else waste:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return freed


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > WRITING_S


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
