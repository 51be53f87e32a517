"""Check an extracted data set against its digest.

A data set's folder is named by its digest, so its arrays can be checked at any time. That reads all
of them, so a stamp file beside them records a successful check. It is valid until the machine
reboots or one of the files changes. Machines that share a cache have one stamp each.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from harness.data import arrays, idx
from harness.data.atomic import write_text
from harness.data.sources import FILES, SOURCES

META = "meta.json"
STAMP_DAYS = 30
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux


def check(folder: Path) -> str | None:
    """How an extracted data set differs from its digest; None when it does not.

    Takes a fraction of a millisecond unless something has changed since the last time.
    """
    if not (folder / META).is_file():
        return f"{folder / META} is missing"
    state, stamp = _state(folder), stamp_of(folder)
    with suppress(OSError, ValueError):  # no stamp, or a damaged one
        if json.loads(stamp.read_text()) == state:
            return None
    problem = damage(folder)
    if problem is None:
        with suppress(OSError):  # if it cannot be written, the next check reads all files again
            write_text(stamp, json.dumps(state))
            for other in folder.glob(".verified-*"):
                if other.stat().st_mtime < time.time() - STAMP_DAYS * 86_400:
                    other.unlink()
    return problem


def stamp_of(folder: Path) -> Path:
    """The path of the stamp for the current boot of this machine."""
    boot = BOOT_ID.read_text().strip() if BOOT_ID.is_file() else ""
    return folder / f".verified-{boot}.json"


def damage(folder: Path) -> str | None:
    """Like `check`, but always reads all files."""
    try:
        meta = json.loads((folder / META).read_text())
        name, names = meta["name"], meta.get("class_names")
        found = _content_digest(folder, meta)
        if found != folder.name:
            return f"the arrays in {folder} do not match its SHA-256"
        expected = {"name": name, **describe(folder, name, meta["classes"], names)}
        if name not in SOURCES or expected != {key: meta[key] for key in expected}:
            return f"{folder / META} does not describe the arrays beside it"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{folder} cannot be read ({error})"
    return None


def digest_of(contents: Mapping[str, str]) -> str:
    """The digest of a data set from the SHA-256 of its four uncompressed IDX files."""
    return hashlib.sha256("".join(contents[file] for file in FILES).encode()).hexdigest()


def describe(
    folder: Path, name: str, classes: int = 0, names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Sizes, example shape and number of classes of the arrays extracted in `folder`.

    name: of the data set. classes: the number of classes; for IDX files, the labels determine it.
    names: of the classes; None leaves them out of the description.
    """
    found = open_parts(folder, name)
    train, test = found["x_train"], found["x_test"]
    if name == "arrays":
        more: dict[str, Any] = {"classes": classes, "val": len(found.get("x_val", ()))}
    else:
        more = {"classes": int(found["y_train"].max()) + 1}
    if names is not None:
        more |= {"class_names": list(names), "class_names_sha256": _names_digest(names)}
    return more | {"image_shape": list(train.shape[1:]), "train": len(train), "test": len(test)}


def open_parts(folder: Path, name: str) -> dict[str, arrays.Array]:
    """The arrays of the data set `name` in a folder, memory-mapped, like `arrays.open_all`."""
    if name == "arrays":
        return arrays.open_all(folder)
    files = zip(arrays.REQUIRED, FILES, strict=True)
    return {x: np.load(folder / f"{file}.npy", mmap_mode="r") for x, file in files}


def _names_digest(names: Sequence[str]) -> str:
    """The SHA-256 of the class names, which are not part of a data set's digest."""
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()


def _content_digest(folder: Path, meta: Mapping[str, Any]) -> str:
    """The digest of the arrays in a folder. Raises `ValueError` for a file that cannot be read."""
    if meta["name"] == "arrays":
        return arrays.digest(arrays.open_all(folder), meta["classes"])
    return digest_of({file: _idx_digest(folder / f"{file}.npy") for file in FILES})


def _idx_digest(path: Path) -> str:
    """The SHA-256 of the IDX file that an array was extracted from. Raises `ValueError`."""
    with path.open("rb") as file:
        digest = hashlib.sha256(idx.Header(np.dtype(">u1"), _shape(path, file)).raw)
        while chunk := file.read(idx.CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _shape(path: Path, file: BinaryIO) -> tuple[int, ...]:
    """The shape in the header of a .npy file of bytes; leaves `file` at the first array byte."""
    try:
        if np.lib.format.read_magic(file) == (1, 0):
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
            if dtype == np.uint8 and not is_fortran and max(shape) < 1 << 32:
                return tuple(shape)
    except Exception as error:  # NumPy evaluates the header, so damage can raise any exception
        raise ValueError(f"{path}: {type(error).__name__} in its header") from error
    raise ValueError(f"{path}: expected an array of uint8")


def _state(folder: Path) -> list[Any]:
    """The content of a stamp: size, times and inode of each file."""
    state: list[Any] = []
    for name in (META, *(f"{file}.npy" for file in (*FILES, *arrays.NAMES))):
        with suppress(OSError):
            stat = (folder / name).stat()
            state.append([name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino])
    return state
