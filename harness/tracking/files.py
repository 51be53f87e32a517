"""Compare a run's recorded files with their records and with the store's copies."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.data.atomic import write_atomically
from harness.runfolder.artifacts import Artifact
from harness.runfolder.journal import Record
from harness.runfolder.run import Run
from harness.tracking.errors import StoreError
from harness.tracking.store import Store

REPORTS = "report/"


class Files:
    """Compares the files of one run; a file that is damaged only here is copied back.

    differences: what sending the run again repairs. damage: what cannot be repaired here. restored:
    the paths of files that were copied back. verify: also compare the content of stored copies.
    """

    def __init__(self, store: Store, run: Run, mlflow_id: str, *, verify: bool) -> None:
        self.store, self.run, self.mlflow_id, self.verify = store, run, mlflow_id, verify
        self.differences: list[str] = []
        self.damage: list[str] = []
        self.restored: list[str] = []

    def compare(self, records: list[Record]) -> None:
        """Compare the last record of each path. Raises `StoreError` if files cannot be listed."""
        last = {r["path"]: Artifact.of(r) for r in records if r["kind"] == "artifact"}
        plain = {path: each for path, each in last.items() if self._is_inside(each)}
        sizes = self.store.artifacts(self.mlflow_id, plain)
        for path in sorted(plain):
            try:
                self._compare(plain[path], sizes.get(path))
            except OSError as error:
                self.damage.append(f"{path}: {error.strerror or error}")
            except StoreError as error:
                self.damage.append(f"{path}: {error}")

    def _is_inside(self, artifact: Artifact) -> bool:
        """Whether the path stays in the run folder; nothing else is read or written."""
        try:
            artifact.file(self.run.folder)
        except ValueError as error:
            self.damage.append(str(error))
            return False
        return True

    def _compare(self, artifact: Artifact, size: int | None) -> None:
        """size: the size of the store's copy in bytes; None if it has none."""
        here = artifact.damage(self.run.folder)
        there = "is not in the store" if size is None else self._damage_there(artifact, size)
        if there and size is not None and not here and artifact.path.startswith(REPORTS):
            there = None  # `harness compare` stored a newer report
        # Without a digest, in records of version 0.1, nothing says which of two files is right.
        match here is None, there is None, artifact.sha256 is not None:
            case (True, True, _) | (False, True, False):
                pass
            case (True, False, True):
                self.differences.append(f"{artifact.path}: {there}")
            case (True, False, False) if size is None:
                self.differences.append(f"{artifact.path}: {there}")
            case (True, False, False):
                self.damage.append(f"{artifact.path}: {there}; no digest says which one is right")
            case (False, True, True) if self._restore(artifact):
                self.restored.append(artifact.path)
            case _:
                also = there or "has other content in the store"
                self.damage.append(f"{artifact.path}: {here}, and {also}")

    def _damage_there(self, artifact: Artifact, size: int) -> str | None:
        expected = artifact.size
        if expected is None:  # a record of version 0.1
            file = artifact.file(self.run.folder)
            expected = file.stat().st_size if file.is_file() else size
        if size != expected:
            return f"has {size} bytes in the store instead of {expected}"
        if self.verify and not any(self._copies(artifact)):
            return "has other content in the store"
        return None

    def _restore(self, artifact: Artifact) -> bool:
        """Copy a file back from the store if its digest is right. Returns whether it is."""
        file = artifact.file(self.run.folder)
        for copy in self._copies(artifact):
            file.parent.mkdir(exist_ok=True, parents=True)
            write_atomically(file, lambda target: target.write(copy.read_bytes()))  # noqa: B023
            return True
        return False

    def _copies(self, artifact: Artifact) -> Iterator[Path]:
        """The store's copy in a temporary folder, if it matches its record."""
        with tempfile.TemporaryDirectory() as folder:
            copy = self.store.download(self.mlflow_id, artifact.path, Path(folder))
            measured = Artifact.measure(Path(folder), copy.relative_to(folder).as_posix())
            if artifact.sha256 in (None, measured.sha256):
                yield copy
