"""The folder of all runs, `outputs/runs`: creating, listing, finding and closing them."""

import hashlib
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

_newest: dict[Path, int] = {}  # by outputs: the place of the newest run that this process knows


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
    """A run id: six random digits, so that a short prefix is unique, then the time in UTC."""
    return f"{secrets.token_hex(3)}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


def create(outputs: Path, config: Config, identity: Identity) -> Run:
    """Make a run folder with its frozen config and the first record of its journal.

    The folder appears whole or not at all.
    """
    run_id = new_id()
    run = open_run(outputs, run_id)
    unfinished = run.folder.with_name(f".{run_id}")
    unfinished.mkdir(parents=True)
    try:
        frozen = configuration.to_yaml(config)
        write_text(unfinished / CONFIG, frozen)
        with Journal(unfinished / journal.FILE_NAME) as writer:
            writer.append(
                "create",
                run=run_id,
                name=identity.name,
                order=_next_order(outputs),
                config_sha256=hashlib.sha256(frozen.encode()).hexdigest(),
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
    """Every run whose journal names it, oldest first; see `broken_runs` for the others."""
    return [run for run, problem in _listed(outputs) if problem is None]


def readable_runs(outputs: Path) -> Iterator[Run]:
    """Like `all_runs`; a warning names each of the others."""
    for run, problem in _listed(outputs):
        if problem is None:
            yield run
        else:
            logging.getLogger(__name__).warning("%s", problem)


def broken_runs(outputs: Path) -> list[tuple[Path, str]]:
    """The run folders that no command can use, each with the reason, which names the file.

    Their journal or config.yaml is missing, cannot be read, or was changed.
    """
    problems = ((run.folder, run.problem()) for run, _ in _listed(outputs))
    return [(folder, problem) for folder, problem in problems if problem is not None]


def _listed(outputs: Path) -> list[tuple[Run, str | None]]:
    """Every run folder, oldest first, with the reason why its journal does not name the run.

    A folder that is being created is hidden: its name starts with a dot.
    """
    folder = runs_folder(outputs)
    if not folder.is_dir():
        return []
    found: list[tuple[int, str, Run, str | None]] = []
    for path in folder.iterdir():
        run, order, problem = Run(path), 0, None
        if path.name.startswith(".") or not path.is_dir():
            continue
        try:
            order = _order(run)
        except (JournalError, OSError) as error:
            problem = str(error)
        found.append((order, run.id, run, problem))
    found.sort(key=lambda each: each[:2])
    return [(run, problem) for *_, run, problem in found]


def _order(run: Run) -> int:
    """The place of a run among the others: the time of its creation, in ms.

    It is later than that of the runs that were there before, also when the clock was set back.
    """
    create = run.history().create
    return int(create["order"] if "order" in create else create["ms"])


def _next_order(outputs: Path) -> int:
    """The place of a run that is created now."""
    if outputs not in _newest:
        _newest[outputs] = max((_order(run) for run in all_runs(outputs)), default=0)
    _newest[outputs] = max(time.time_ns() // 1_000_000, _newest[outputs] + 1)
    return _newest[outputs]


def find(outputs: Path, prefix: str) -> Run:
    """The run whose id, or MLflow id, starts with `prefix`; `last` is the newest run.

    `last` skips reproductions. Raises `ValueError` for no match or several.
    """
    runs = list(readable_runs(outputs)) if prefix == "last" else all_runs(outputs)
    if prefix == "last":
        own = [run for run in runs if REPRODUCES not in run.history().tags]
        if own:
            return own[-1]
    matches = [
        run
        for run in runs
        if run.id.startswith(prefix) or str(run.delivered().get("mlflow_id")).startswith(prefix)
    ]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        for folder, problem in broken_runs(outputs):
            if prefix and folder.name.startswith(prefix):
                raise ValueError(problem)
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
