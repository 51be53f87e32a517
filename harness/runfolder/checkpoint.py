"""Arrays and their description in one safetensors file, written atomically and checksummed.

The description is JSON in the file's metadata, together with the SHA-256 of the arrays, so a
flipped bit is detected when the file is read. Nothing is pickled.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.atomic import write_atomically

Arrays = dict[str, NDArray[Any]]


def save(path: Path, arrays: Arrays, description: dict[str, Any]) -> None:
    """Write named arrays and a JSON-able description to `path`, whole or not at all.

    Creates the folder of `path` if it is missing, but not the folder around it, which is the run's.
    """
    from safetensors.numpy import save as to_bytes

    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    # One key: safetensors writes several in random order, and equal runs must give equal files.
    text = json.dumps({"description": description, "sha256": _digest(arrays)})
    content = to_bytes(arrays, metadata={"harness": text})
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lambda file: file.write(content))


def load(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Read what `save` wrote. Raises `ValueError` naming the file when it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads(file.metadata()["harness"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        description: dict[str, Any] = metadata["description"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a file written by this harness, found {error}"
        ) from error
    if metadata["sha256"] != _digest(arrays):
        raise ValueError(f"{path}: the arrays do not match their SHA-256; the file is damaged")
    return arrays, description


class Checkpoints:
    """The checkpoints of one run, `epoch-000012.safetensors` and so on.

    every: write one after this many epochs (0: never). Kept are the newest `keep`, so that a
    damaged one can be skipped (0: all), that of the best epoch, and those of every epoch divisible
    by `milestones` (0: none).
    """

    def __init__(self, folder: Path, *, every: int, keep: int, milestones: int = 0) -> None:
        self.folder = folder
        self._every = every
        self._keep = keep
        self._milestones = milestones
        for path in folder.glob(".epoch-*"):  # half-written by a process that was killed
            path.unlink()

    def save(self, epoch: int, best: int, arrays: Arrays, description: dict[str, Any]) -> None:
        """Write the checkpoint of an epoch if it is due, then remove those that are not kept.

        best: the best epoch so far.
        """
        if not self._every or epoch % self._every:
            return
        save(_path(self.folder, epoch), arrays, description)
        if self._keep:
            kept = milestones(self.folder, self._milestones) | {_path(self.folder, best)}
            for path in self.paths()[: -self._keep]:
                if path not in kept:
                    path.unlink()

    def paths(self) -> list[Path]:
        """The existing checkpoints, oldest first."""
        return sorted(self.folder.glob("epoch-*.safetensors"))

    def newest(self) -> tuple[Arrays, dict[str, Any]] | None:
        """The newest undamaged checkpoint; a warning names each damaged one."""
        for path in reversed(self.paths()):
            try:
                return load(path)
            except ValueError as error:
                logging.getLogger(__name__).warning("%s; taking an older checkpoint", error)
        return None


def milestones(folder: Path, every: int) -> set[Path]:
    """The checkpoints of every epoch divisible by `every`; none for 0."""
    paths = folder.glob("epoch-*.safetensors") if every else ()
    return {path for path in paths if int(path.stem.removeprefix("epoch-")) % every == 0}


def _path(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:06d}.safetensors"


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
