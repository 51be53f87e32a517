"""Atomic file writing: a reader sees the old content or the new content, never a part of it.

Nothing here creates a folder: a run folder that was removed must not reappear with one file in it.
"""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
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


def allows(path: Path, mode: int = os.W_OK | os.X_OK) -> bool:
    """Whether this process has access to a path; by default, to create files in a folder."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def revalidate(path: Path) -> None:
    """See what another machine has written to a file; call it under a lock, before reading.

    A client of a network file system may show what it knew a second ago, such as GlusterFS with its
    default caches. Listing the folder asks the server about its files.
    """
    with suppress(OSError):
        list(path.parent.iterdir())


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` with a temporary file in the same folder, fsync it, and rename it to `path`.

    The folder must exist. When `write` raises, `path` is unchanged and the temporary file is
    removed; an `OSError` without a file name is raised again with that of `path`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            error = OSError(error.errno, error.strerror)  # a rename names both files
        raise named(error, path) from None
    fsync_folder(path.parent)


def named(error: BaseException, path: Path) -> BaseException:
    """The error itself, or with `path` added if it is a system error that names no file."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        return OSError(error.errno, error.strerror, str(path))
    return error


def explained(error: BaseException) -> str:
    """The text of an error; for a file's, such as `outputs/runs: Permission denied`."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, atomically."""
    write_atomically(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    write_bytes(path, text.encode())


def link(first: Path, path: Path) -> bool:
    """Make `path` a hard link to the file `first`, atomically. Returns whether that worked.

    It fails on another file system, for example. Writing one name atomically does not change the
    other.
    """
    temporary = path.with_name(f".{path.name}.link")
    temporary.unlink(missing_ok=True)  # left by a process that was killed
    try:
        temporary.hardlink_to(first)
        temporary.replace(path)
    except (OSError, NotImplementedError):
        return False
    finally:  # POSIX: renaming one name of a file to another does nothing
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)
    return True


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file())
