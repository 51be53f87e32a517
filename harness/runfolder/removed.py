"""Removed runs and sweeps, which stay in `outputs/removed` until `harness gc`.

    outputs/removed/runs/<run id>/    sweeps/<id>.json    reports/<id>/    gone.jsonl

Each is moved there and back in one rename, so nothing is ever half removed. `gone.jsonl` names the
runs that `gc` removed for good; `sync` sends none of these, and `merge` takes none of them in.
"""

import json
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from harness.data.atomic import fsync_folder
from harness.runfolder.folder import open_run, runs_folder
from harness.runfolder.plan import Plan, sweeps_folder
from harness.runfolder.run import Run

REPORTS = "reports"
GONE = "gone.jsonl"
HALF_GONE = ".gone-"  # prefix of the folder of a run that `gc` is removing


def place(outputs: Path) -> Path:
    """The folder of removed runs and sweeps; it is laid out like `outputs`."""
    return outputs / "removed"


def named(outputs: Path, prefix: str) -> str | None:
    """The removed run or sweep with this id prefix, such as `run 3f2a91-...`, or None."""
    removed = place(outputs)
    for kind, parent in (("run", runs_folder(removed)), ("sweep", sweeps_folder(removed))):
        names = sorted(path.name.removesuffix(".json") for path in parent.glob("*"))
        for name in names:
            if name.startswith(prefix):
                return f"{kind} {name}"
    return None


def check_vacant(target: Path, runs: Iterable[Run], plans: Iterable[Plan]) -> None:
    """Raise `ValueError` if `target` already has one of the runs or sweeps.

    If its command makes a removed sweep again, both have the same id, and neither may replace the
    other.
    """
    if sweeps := [p.id for p in plans if (sweeps_folder(target) / f"{p.id}.json").exists()]:
        raise ValueError(
            f"sweep {sweeps[0]} is in {target} as well: it was removed, and made again since; "
            "`python -m harness gc` removes the earlier one for good, and its runs can be restored "
            "by their ids"
        )
    if known := [run.id for run in runs if open_run(target, run.id).folder.exists()]:
        raise ValueError(f"run {known[0]} is in {target} as well; move one of the two away")


def remove(outputs: Path, runs: Iterable[Run], plans: Iterable[Plan]) -> None:
    """Move runs, and sweeps with their reports, to `outputs/removed`; no run may be live."""
    for run in runs:
        _move(run.folder, runs_folder(place(outputs)))
    for plan in plans:
        _move_sweep(outputs, place(outputs), plan.id)


def restore(outputs: Path, runs: Iterable[Run], plans: Iterable[Plan]) -> None:
    """Move removed runs and sweeps back.

    Here and in `remove`, a sweep moves after its runs: repeating a command that was killed in
    between finishes it, because the sweep still names its runs.
    """
    for run in runs:
        _move(run.folder, runs_folder(outputs))
    for plan in plans:
        _move_sweep(place(outputs), outputs, plan.id)


def erase(outputs: Path, run: Run) -> None:
    """Delete a removed run for good, and note that it is gone."""
    _note_gone(outputs, run)
    half = run.folder.with_name(f"{HALF_GONE}{run.id}")
    run.folder.rename(half)
    shutil.rmtree(half)


def erase_rest(outputs: Path) -> None:
    """Delete the plans and reports of removed sweeps, and what a killed `gc` left."""
    for half in runs_folder(place(outputs)).glob(f"{HALF_GONE}*"):
        shutil.rmtree(half)
    for folder in (sweeps_folder(place(outputs)), place(outputs) / REPORTS):
        if folder.is_dir():
            shutil.rmtree(folder)


def gone(outputs: Path) -> set[str]:
    """The ids of the runs that were removed for good."""
    path = place(outputs) / GONE
    lines = path.read_text().splitlines() if path.is_file() else []
    return {str(json.loads(line)["run"]) for line in lines if line.endswith("}")}


def removed_run(outputs: Path, run_id: str) -> Run:
    """The removed run with exactly this id, whether or not it exists."""
    return open_run(place(outputs), run_id)


def _note_gone(outputs: Path, run: Run) -> None:
    record = {"run": run.id, "name": run.name, "ms": time.time_ns() // 1_000_000}
    path = place(outputs) / GONE
    is_torn = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")  # by a full disk
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if is_torn else "") + json.dumps(record) + "\n")


def _move_sweep(source: Path, target: Path, sweep: str) -> None:
    """Move the plan, the frozen state of a search, and the report, as far as they exist."""
    pairs = [
        (source / REPORTS / sweep, target / REPORTS),
        (sweeps_folder(source) / sweep, sweeps_folder(target)),
        (sweeps_folder(source) / f"{sweep}.json", sweeps_folder(target)),
    ]
    for path, folder in pairs:
        if path.exists():
            _move(path, folder)


def _move(path: Path, folder: Path) -> None:
    """Move a file or folder into a folder, replacing a report there that has no sweep."""
    folder.mkdir(parents=True, exist_ok=True)
    there = folder / path.name
    if folder.name == REPORTS and there.is_dir():
        shutil.rmtree(there)
    path.rename(there)
    fsync_folder(folder)
    fsync_folder(path.parent)
