"""The folder of all runs, `outputs/runs`: creating, listing, finding and closing them."""

import logging
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.atomic import fsync_folder, write_text
from harness.runfolder import config as configuration
from harness.runfolder import journal
from harness.runfolder.journal import Journal, JournalError
from harness.runfolder.liveness import HOST
from harness.runfolder.run import CONFIG, REPRODUCES, Run
from harness.runfolder.schema import Config
from harness.runfolder.status import RunStatus


@dataclass(frozen=True)
class Identity:
    """A run's name and tags.

    dataset: name, sha256, source, sizes of the parts, image shape, classes.
    """

    name: str
    tags: dict[str, str]
    dataset: dict[str, Any]


def runs_folder(outputs: Path) -> Path:
    """The folder that holds the run folders."""
    return outputs / "runs"


def open_run(outputs: Path, run_id: str) -> Run:
    """The run with exactly this id, whether or not it exists."""
    return Run(runs_folder(outputs) / run_id)


def new_id() -> str:
    """A run id: six random digits, so that a short prefix is unique, then the time."""
    return f"{secrets.token_hex(3)}-{time.strftime('%Y%m%d-%H%M%S')}"


def create(outputs: Path, config: Config, identity: Identity) -> Run:
    """Make a run folder with its frozen config and the first record of its journal.

    The folder appears whole or not at all.
    """
    run_id = new_id()
    run = open_run(outputs, run_id)
    unfinished = run.folder.with_name(f".{run_id}")
    unfinished.mkdir(parents=True)
    try:
        write_text(unfinished / CONFIG, configuration.to_yaml(config))
        with Journal(unfinished / journal.FILE_NAME) as writer:
            writer.append(
                "create",
                run=run_id,
                name=identity.name,
                params=configuration.leaves(config),
                tags={"run.id": run_id, **identity.tags},
                experiment=config.tracking.experiment,
                dataset=identity.dataset,
            )
        fsync_folder(unfinished)
        unfinished.rename(run.folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    fsync_folder(run.folder.parent)
    return run


def all_runs(outputs: Path) -> list[Run]:
    """Every run, oldest first; none when the folder does not exist.

    A folder that is being created is hidden: its name starts with a dot.
    """
    folder = runs_folder(outputs)
    if not folder.is_dir():
        return []
    runs = [Run(path) for path in folder.iterdir() if not path.name.startswith(".")]
    whole = [run for run in runs if run.journal.is_file() and (run.folder / CONFIG).is_file()]
    return sorted(whole, key=_age)


def _age(run: Run) -> tuple[str, int]:
    """The time in the run's id, which survives copying the folder; then that of its config."""
    return run.id.partition("-")[2], (run.folder / CONFIG).stat().st_mtime_ns


def readable_runs(outputs: Path) -> Iterator[Run]:
    """Every run whose journal names it, oldest first; a warning names each of the others."""
    for run in all_runs(outputs):
        try:
            run.history()
        except JournalError as error:
            logging.getLogger(__name__).warning("%s", error)
        else:
            yield run


def find(outputs: Path, prefix: str) -> Run:
    """The run whose id, or MLflow id, starts with `prefix`; `last` is the newest run.

    `last` skips reproductions. Raises `ValueError` for no match or several.
    """
    if prefix == "last":
        own = [run for run in readable_runs(outputs) if REPRODUCES not in run.history().tags]
        if own:
            return own[-1]
    runs = all_runs(outputs)
    matches = [
        run
        for run in runs
        if run.id.startswith(prefix) or str(run.delivered().get("mlflow_id")).startswith(prefix)
    ]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise ValueError(
            f"run {prefix!r} is not among the {len(runs)} runs in {runs_folder(outputs)}; "
            "`python -m harness status` lists them"
        )
    names = ", ".join(sorted(run.id for run in matches)[:5])
    raise ValueError(f"run {prefix!r} could be {names}; type more of it")


def close_dead(outputs: Path) -> list[str]:
    """Close every run of this host whose process died without an end record, as KILLED.

    Returns their ids. Runs of other hosts are left alone: their processes cannot be seen from here.
    """
    closed = []
    for run in readable_runs(outputs):
        history = run.history()
        if history.status is not RunStatus.RUNNING or history.start is None:
            continue
        if history.start["host"] != HOST:
            continue
        error = "its process died without an end record"
        if run.close_abandoned(RunStatus.KILLED, error).status is RunStatus.KILLED:
            closed.append(run.id)
    return closed
