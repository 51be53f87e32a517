"""The files that a run has recorded in its journal, with their sizes and digests."""

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any


def sha256(file: Path) -> str:
    """The SHA-256 of a file's content, 64 hexadecimal digits. Raises `OSError`."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@dataclass(frozen=True)
class Artifact:
    """One recorded file.

    path: relative to the run folder, with slashes. size: in bytes. sha256: 64 hexadecimal digits.
    Both are None in records of version 0.1, which had only the path.
    """

    path: str
    size: int | None = None
    sha256: str | None = None

    @classmethod
    def measure(cls, folder: Path, path: str) -> "Artifact":
        """Measure a file as it is now. Raises `OSError`, or `ValueError` like `file`."""
        file = cls(path).file(folder)
        return cls(path, file.stat().st_size, sha256(file))

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Artifact":
        """The artifact that a journal record describes."""
        return cls(record["path"], record.get("bytes"), record.get("sha256"))

    def record(self) -> dict[str, Any]:
        """The content of its journal record."""
        return {"path": self.path, "bytes": self.size, "sha256": self.sha256}

    def file(self, folder: Path) -> Path:
        """The file in this run folder, whether or not it exists.

        Raises `ValueError` if the path can leave the folder: it is absolute, has `..` or a
        backslash, or a part of it is a symbolic link.
        """
        parts = PurePosixPath(self.path).parts
        file = folder / self.path
        inside = bool(parts) and not file.is_symlink() and ".." not in parts
        if not inside or PurePosixPath(self.path).is_absolute() or "\\" in self.path:
            raise ValueError(f"artifact {self.path!r}: expected a plain file inside the run folder")
        for parent in list(file.parents)[: len(parts) - 1]:
            if parent.is_symlink():
                raise ValueError(f"artifact {self.path!r}: {parent} is a symbolic link")
        return file

    def damage(self, folder: Path) -> str | None:
        """How the file differs from its record, such as `is missing`; None if it does not.

        Raises `OSError` if it cannot be read.
        """
        try:
            file = self.file(folder)
        except ValueError:
            return "is not a plain file inside the run folder"
        if not file.is_file():
            return "is missing"
        if self.size is not None and file.stat().st_size != self.size:
            return f"has {file.stat().st_size} bytes instead of {self.size}"
        if self.sha256 is not None and sha256(file) != self.sha256:
            return "does not match its SHA-256"
        return None
