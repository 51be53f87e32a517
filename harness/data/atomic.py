"""Atomic file writing: a reader finds the old content or the new content, never a part."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def fsync_folder(folder: Path) -> None:
    """Make a rename inside `folder` durable. A no-op on Windows, which cannot open folders."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` with a temporary file in the same folder, fsync it, and rename it to `path`.

    Creates the folder if it is missing. When `write` raises, `path` is unchanged and the temporary
    file is removed; an `OSError` without a file name is raised again with that of `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            Path(temporary).chmod(0o666 & ~_umask())
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        raise named(error, path) from None
    fsync_folder(path.parent)


def named(error: BaseException, path: Path) -> BaseException:
    """The error itself; an `OSError` that names no file, as those of a write, with `path` added."""
    if isinstance(error, OSError) and error.filename is None:
        return OSError(error.errno, error.strerror, str(path))
    return error


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
