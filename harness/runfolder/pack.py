"""A pack: runs in one zip file, with which another machine has all that is known of them.

    pack.json    runs/<run id>/    sweeps/<id>.json    reports/<id>/

`pack.json` names every file with its SHA-256. A pack is laid out as outputs are, so `merge` takes
it in. Checkpoints that finished runs do not need, locks and the state of deliveries stay behind.
"""

import hashlib
import json
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


def write(path: Path, outputs: Path, runs: Sequence[Run], harness_version: str) -> int:
    """Write a pack of these runs and of the sweeps that have any of them; returns its bytes.

    Raises `ValueError` if one of them is being trained or damaged.
    """
    ids = {run.id for run in runs}
    for run in runs:
        if run.is_live():
            raise ValueError(f"{run.id} is being trained at this moment; pack it when it is done")
        if problem := run.problem():
            raise ValueError(problem)
    plans = [plan for plan in all_plans(outputs) if ids & {job.run for job in plan.jobs}]
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
    return path.stat().st_size


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The content of a pack as a folder, until the block ends.

    Raises `ValueError` for what is no pack, and for one that is damaged or that names files outside
    of it.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            with zipfile.ZipFile(path) as archive:
                about = json.loads(archive.read(CONTENTS))
                if (about["format"], about["version"]) != (FORMAT, VERSION):
                    raise ValueError(f"expected {FORMAT} {VERSION}, found {about['version']}")
                for name, digest in about["files"].items():
                    _extract(archive, name, digest, folder)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: not a whole pack of `harness pack` ({error})") from error
        yield folder


def _extract(archive: zipfile.ZipFile, name: str, digest: str, folder: Path) -> None:
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name:
        raise ValueError(f"{name!r} is not a file in it")
    content = archive.read(name)
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
