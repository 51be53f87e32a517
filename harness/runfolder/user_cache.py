"""The user's cache folder, for files that can be made again at any time."""

import os
from contextlib import suppress
from pathlib import Path


def folder(name: str = "") -> Path | None:
    """This package's folder `name` there, created and writable; None if that is impossible."""
    with suppress(RuntimeError, OSError):  # no home directory, or a read-only one
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        path = home / "scratch-harness" / name
        if home.is_absolute():
            path.mkdir(parents=True, exist_ok=True)
            return path if can_write(path) else None
    return None


def can_write(folder: Path) -> bool:
    """Whether files can be created in the folder."""
    return os.access(folder, os.W_OK | os.X_OK)
