"""A pack: one zip file with everything that is known about some runs, for another machine.

    pack.json    runs/<run id>/    sweeps/<id>.json    reports/<id>/

`pack.json` names every file with its SHA-256. A pack is laid out like an outputs folder, so `merge`
can read it. It leaves out locks, delivery states, and checkpoints that finished runs do not need.
"""

import hashlib
import json
import tempfile
import time
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from harness.data.atomic import write_atomically
from harness.runfolder import delivered
from harness.runfolder.checkpoints import spare
from harness.runfolder.plan import Plan, all_plans, sweeps_folder
from harness.runfolder.removed import REPORTS
from harness.runfolder.run import Run

CONTENTS = "pack.json"
FORMAT, VERSION = "harness pack", 1


@dataclass(frozen=True)
class Packed:
    """The result. size: in bytes; refused: why other runs were not packed, one line each."""

    runs: list[Run]
    size: int
    refused: list[str]


def write(
    path: Path, outputs: Path, runs: Sequence[Run], harness_version: str, *, of: Sequence[Plan] = ()
) -> Packed:
    """Write a pack of the undamaged ones among these runs, and of the sweeps that contain them.

    of: the sweeps whose runs these are; if given, other sweeps are packed only if all their runs
    are here, because they would be incomplete after a merge. Every record and every recorded file
    of a run is verified first. If no run is undamaged, nothing is written. Raises `ValueError` if a
    run is being trained.
    """
    if live := [run.id for run in runs if run.is_training()]:
        raise ValueError(f"{live[0]} is being trained now; pack it when it is done")
    damages = {run: run.damage() for run in runs}
    refused = [f"{run.id}: {damage}" for run, damage in damages.items() if damage is not None]
    whole = [run for run, damage in damages.items() if damage is None]
    if whole:
        _write(path, outputs, whole, harness_version, {plan.id for plan in of})
    return Packed(whole, path.stat().st_size if whole else 0, refused)


def _write(
    path: Path, outputs: Path, runs: Sequence[Run], harness_version: str, of: Collection[str]
) -> None:
    ids = {run.id for run in runs}
    its = [(plan, {job.run for job in plan.jobs}) for plan in all_plans(outputs)]
    plans = [plan for plan, jobs in its if ids & jobs and (not of or plan.id in of or jobs <= ids)]
    files = [*_run_files(runs), *_sweep_files(outputs, plans)]

    def fill(file: Any) -> None:
        digests = {}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for each in files:
                name, content = each.relative_to(outputs).as_posix(), each.read_bytes()
                digests[name] = hashlib.sha256(content).hexdigest()
                archive.writestr(name, content)
            about = {
                "format": FORMAT, "version": VERSION, "harness": harness_version,
                "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "runs": len(runs), "sweeps": len(plans), "files": digests,
            }  # fmt: skip
            archive.writestr(CONTENTS, json.dumps(about, indent=1))

    write_atomically(path, fill)


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Extract a pack into a temporary folder, which exists until the block ends.

    Raises `ValueError` for a file that is not a pack, is damaged, or names files outside of it.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            with zipfile.ZipFile(path) as archive:
                for name, digest in _contents(archive).items():
                    _extract(archive, name, digest, folder)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: not a whole pack of `harness pack` ({error})") from error
        yield folder


def _contents(archive: zipfile.ZipFile) -> dict[str, str]:
    """The SHA-256 of each file of a pack by its name. Raises `ValueError`."""
    about = json.loads(_read(archive, CONTENTS))
    files = about.get("files") if isinstance(about, dict) else None
    if not isinstance(files, dict) or about.get("format") != FORMAT:
        raise ValueError(f"its {CONTENTS} is not that of a pack: it lacks format or files")
    if about.get("version") != VERSION:
        raise ValueError(f"expected {FORMAT} {VERSION}, found {about.get('version')}")
    return files


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except KeyError:
        raise ValueError(f"{name} is missing") from None


def _extract(archive: zipfile.ZipFile, name: str, digest: str, folder: Path) -> None:
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name:
        raise ValueError(f"{name!r} is not a file in it")
    content = _read(archive, name)
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{name} is damaged")
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def _run_files(runs: Sequence[Run]) -> Iterator[Path]:
    for run in runs:
        left_out = {run.folder / delivered.FILE_NAME, *(spare(run) if run.is_finished else ())}
        for path in sorted(run.folder.rglob("*")):
            inside = path.relative_to(run.folder).parts
            is_hidden = any(part.startswith(".") or part.endswith(".lock") for part in inside)
            if path.is_file() and not is_hidden and left_out.isdisjoint((path, *path.parents)):
                yield path


def _sweep_files(outputs: Path, plans: Sequence[Plan]) -> Iterator[Path]:
    for plan in plans:
        yield sweeps_folder(outputs) / f"{plan.id}.json"
        report = outputs / REPORTS / plan.id
        yield from sorted(path for path in report.rglob("*") if path.is_file())
