"""The checkpoints from which a run resumes: one folder each, such as `epoch-000012`.

A folder holds the trainer's files and `checkpoint.json`: the epoch, its metrics, and the SHA-256 of
each file, which reveals damage. A folder appears whole or not at all.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.data.atomic import fsync_folder, write_text
from harness.nn.metrics import BEST_EPOCH
from harness.runfolder.artifacts import sha256
from harness.runfolder.run import WEIGHTS, Run

FOLDER = "checkpoints"
INDEX = "checkpoint.json"
STATE = "state.safetensors"  # the built-in trainer's file
EARLIER = ".safetensors"  # up to version 0.1, a checkpoint was one such file

Write = Callable[[Path], object]


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint. metrics: those of its epoch. folder: holds the trainer's files."""

    epoch: int
    metrics: dict[str, float]
    folder: Path


class Checkpoints:
    """The checkpoints of one run.

    every: write one every this many epochs (0: never). keep: how many of the newest to keep, in
    case one is damaged (0: all). milestones: also keep each epoch divisible by this (0: none). The
    best epoch's checkpoint is always kept.
    """

    def __init__(self, folder: Path, *, every: int, keep: int, milestones: int = 0) -> None:
        self.folder = folder
        self._every = every
        self._keep = keep
        self._milestones = milestones
        for path in folder.glob(".epoch-*"):  # half-written by a process that was killed
            remove(path)

    def save(
        self,
        epoch: int,
        best: int,
        metrics: dict[str, float],
        write: Write,
        *,
        is_due: bool = False,
    ) -> None:
        """Write the checkpoint of an epoch if it is due, then remove those not to be kept.

        best: the best epoch so far. write: called with the folder to write the state into.
        is_due: write it whatever `every` says.
        """
        if not is_due and (not self._every or epoch % self._every):
            return
        path = _path(self.folder, epoch)
        unfinished = path.with_name(f".{path.name}")
        path.parent.mkdir(exist_ok=True)
        unfinished.mkdir()
        try:
            write(unfinished)
            _finish(unfinished, epoch, metrics)
            if path.exists():  # damaged, or the run resumed from an older checkpoint
                remove(path)
            unfinished.rename(path)
        except BaseException:
            remove(unfinished)
            raise
        fsync_folder(path.parent)
        if self._keep:
            kept = milestones(self.folder, self._milestones) | {_path(self.folder, best)}
            for old in self.paths()[: -self._keep]:
                if old not in kept:
                    remove(old)

    def paths(self) -> list[Path]:
        """The existing checkpoints, oldest first."""
        return sorted(self.folder.glob("epoch-*"))

    def of(self, epoch: int) -> Path | None:
        """The folder of an epoch's checkpoint; None if it is missing or damaged."""
        path = _path(self.folder, epoch)
        try:
            return _read(path).folder if path.exists() else None
        except (ValueError, OSError) as error:
            logging.getLogger(__name__).warning("%s", error)
            return None

    def newest(self) -> Checkpoint | None:
        """The newest undamaged checkpoint; a warning names each damaged one."""
        for path in reversed(self.paths()):
            try:
                return _read(_adopted(path))
            except (ValueError, OSError) as error:
                logging.getLogger(__name__).warning("%s; taking an older checkpoint", error)
        return None


def newest_epoch(run: Run) -> int:
    """The epoch of a run's newest checkpoint, without reading it; 0 if there is none."""
    return max(map(_epoch, (run.folder / FOLDER).glob("epoch-*")), default=0)


def milestones(folder: Path, every: int) -> set[Path]:
    """The checkpoints of every epoch divisible by `every`; none for 0."""
    if not every:
        return set()
    return {path for path in folder.glob("epoch-*") if _epoch(path) % every == 0}


def spare(run: Run) -> list[Path]:
    """The checkpoints that a finished run does not need: all but the milestones.

    If the user's training function saved no weights, the best epoch's checkpoint is needed too, or
    the newest if that one was not kept: it may hold the only copy of the model.
    """
    history, folder = run.history(), run.folder / FOLDER
    paths = sorted(folder.glob("epoch-*"))
    kept = milestones(folder, history.params["checkpoint.milestones"])
    if WEIGHTS not in history.artifacts and paths:
        best = _path(folder, int(history.final.get(BEST_EPOCH, 0)))
        kept.add(best if best in paths else paths[-1])
    return [path for path in paths if path not in kept]


def remove(path: Path) -> None:
    """Remove a checkpoint, whole or half-written, if it is there."""
    if path.is_dir():
        hidden = path.with_name(f".{path.name.lstrip('.')}.removed")
        path.rename(hidden)  # a kill while its files are removed leaves no damaged checkpoint
        shutil.rmtree(hidden)
    else:
        path.unlink(missing_ok=True)


def _path(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:06d}"


def _epoch(path: Path) -> int:
    return int(path.name.removesuffix(EARLIER).removeprefix("epoch-"))


def _finish(folder: Path, epoch: int, metrics: dict[str, float]) -> None:
    """Make the files durable and write the index."""
    digests = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        digests[path.relative_to(folder).as_posix()] = sha256(path)
    index = {"epoch": epoch, "metrics": metrics, "files": digests}
    write_text(folder / INDEX, json.dumps(index))


def _read(folder: Path) -> Checkpoint:
    """Read a checkpoint and compare its files with their digests. Raises `ValueError`."""
    try:
        index = json.loads((folder / INDEX).read_text())
        checkpoint = Checkpoint(int(index["epoch"]), dict(index["metrics"]), folder)
        digests = dict(index["files"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{folder}: expected a checkpoint, found {error}") from error
    for name, expected in digests.items():
        try:
            found = sha256(folder / name)
        except OSError as error:
            raise ValueError(f"{folder / name}: {error.strerror}") from error
        if found != expected:
            raise ValueError(f"{folder / name}: does not match its SHA-256")
    return checkpoint


def _adopted(path: Path) -> Path:
    """The folder of a checkpoint; converts a file of version 0.1 into such a folder."""
    if not path.name.endswith(EARLIER):
        return path
    from harness.runfolder.checkpoint import load

    _, description = load(path)
    folder = path.with_name(path.name.removesuffix(EARLIER))
    unfinished = path.with_name(f".{folder.name}")
    unfinished.mkdir()
    shutil.copy2(path, unfinished / STATE)
    _finish(unfinished, description["epoch"], description["metrics"])
    unfinished.rename(folder)
    path.unlink()
    return folder
