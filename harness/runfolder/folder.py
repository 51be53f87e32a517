"""Create, list, find and close the runs in `outputs/runs`."""

import hashlib
import logging
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from harness.data.atomic import fsync_folder, write_text
from harness.runfolder import config as configuration
from harness.runfolder import journal, versions
from harness.runfolder.config import ConfigError
from harness.runfolder.frozen_config import frozen_yaml
from harness.runfolder.hint import hint
from harness.runfolder.journal import Journal, JournalError
from harness.runfolder.liveness import HOST, FolderLock
from harness.runfolder.own_code import FOLDER, Source
from harness.runfolder.run import CONFIG, REPRODUCES, Run
from harness.runfolder.schema import Config
from harness.runfolder.status import RunStatus

NAMED = 5  # ids in a message
ALONE_S = 120.0  # a command needs a few ms for each new run
_newest: dict[Path, int] = {}  # outputs -> the `order` of the newest run known to this process


class Busy(ConfigError):
    """Another command has held the lock on the runs for too long."""


class Ambiguous(ValueError):
    """Several ids start with the same prefix; the message names them."""


@dataclass(frozen=True)
class Identity:
    """A run's name and tags.

    dataset: name, sha256, source, and sizes of the parts; image_shape, the shape of an example even
    if it is not an image; dtype of the inputs; classes, 0 for a regression, and class_names. code:
    the source files of the user's modules that the run uses.
    """

    name: str
    tags: dict[str, str]
    dataset: dict[str, Any]
    code: Sequence[Source] = ()


def runs_folder(outputs: Path) -> Path:
    """The folder that holds the run folders."""
    return outputs / "runs"


def check_outputs(outputs: Path) -> None:
    """Raise `ValueError` unless the folder exists."""
    if not outputs.is_dir():
        why = "is a file" if outputs.exists() else f"is missing in {Path.cwd()}"
        why = "is missing" if outputs.is_absolute() and not outputs.exists() else why
        raise ValueError(f"outputs={outputs}: {why}; expected the folder that commands wrote to")


def open_run(outputs: Path, run_id: str, name: str = "") -> Run:
    """The run with exactly this id, whether or not it exists. name: see `Run`."""
    return Run(runs_folder(outputs) / run_id, name)


@contextmanager
def alone(outputs: Path) -> Iterator[None]:
    """Hold the lock under which one command at a time looks up runs and creates new ones.

    Without it, two equal sweeps started at the same time would each create all runs. Raises `Busy`.
    """
    runs_folder(outputs).mkdir(parents=True, exist_ok=True)
    path = runs_folder(outputs) / ".lock"
    lock = FolderLock(path, timeout=ALONE_S)
    try:
        held = lock.acquire()
    except Timeout:
        raise Busy(
            f"{path}: another command has held it for {ALONE_S:.0f} s; end that one, or wait for it"
        ) from None
    with held:
        yield


def new_id() -> str:
    """A run id: six random digits, so that a short prefix is unique, then the time in UTC."""
    return f"{secrets.token_hex(3)}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


def create(outputs: Path, config: Config, identity: Identity, schema: int = versions.SCHEMA) -> Run:
    """Create a run folder with its frozen config and the first record of its journal.

    The folder appears whole or not at all. schema: the schema version, which a reproduction keeps.
    """
    run_id = new_id()
    run = open_run(outputs, run_id)
    unfinished = run.folder.with_name(f".{run_id}")
    unfinished.mkdir(parents=True)
    try:
        frozen = frozen_yaml(config, schema)
        write_text(unfinished / CONFIG, frozen)
        _copy_code(identity.code, unfinished)
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
                **({"code": [asdict(each) for each in identity.code]} if identity.code else {}),
            )
        fsync_folder(unfinished)
        unfinished.rename(run.folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    fsync_folder(run.folder.parent)
    return run


def _copy_code(code: Sequence[Source], folder: Path) -> None:
    """Copy the user's source files into a run folder, for the record."""
    for each in code:
        copy = folder / FOLDER / each.path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(each.file.read_bytes())


def scan(outputs: Path) -> tuple[list[Run], list[tuple[Path, str]]]:
    """Every run with a readable create record, oldest first; the other folders, each with a reason.

    Only the create record of each journal is read. A folder that is being created is hidden: its
    name starts with a dot.
    """
    runs, broken = [], []
    folder = runs_folder(outputs)
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    for run in [Run(path) for path in paths if path.name[0] != "." and path.is_dir()]:
        try:
            runs.append((order(run), run.id, run))
        except JournalError as error:
            broken.append((run.folder, str(error)))
    return [run for *_, run in sorted(runs, key=lambda each: each[:2])], broken


def all_runs(outputs: Path) -> list[Run]:
    """Every run with a readable create record, oldest first; `broken_runs` has the others."""
    return scan(outputs)[0]


def readable_runs(outputs: Path) -> list[Run]:
    """Like `all_runs`; a warning names each of the other folders."""
    runs, broken = scan(outputs)
    for _, problem in broken:
        logging.getLogger(__name__).warning("%s", problem)
    return runs


def broken_runs(outputs: Path) -> list[tuple[Path, str]]:
    """The run folders that no command can use, each with a reason that names the file.

    Their journal or config.yaml is missing, unreadable, or was changed.
    """
    runs, broken = scan(outputs)
    return broken + [(run.folder, problem) for run in runs if (problem := run.problem())]


def order(run: Run) -> int:
    """The sort key of a run: the time of its creation, in ms.

    It is greater than that of every earlier run, even if the clock was set back.
    """
    create = run.create
    return int(create["order"] if "order" in create else create["ms"])


def _next_order(outputs: Path) -> int:
    """The `order` of a run that is created now."""
    if outputs not in _newest:
        _newest[outputs] = max((order(run) for run in all_runs(outputs)), default=0)
    _newest[outputs] = max(time.time_ns() // 1_000_000, _newest[outputs] + 1)
    return _newest[outputs]


def find(outputs: Path, prefix: str) -> Run:
    """The run whose id, or MLflow id, starts with `prefix`; `last` is the newest run.

    `last` skips reproductions and archived runs. Raises `ValueError` for no match, `Ambiguous` for
    several.
    """
    runs = readable_runs(outputs) if prefix == "last" else all_runs(outputs)
    if prefix == "last":
        for run in reversed(runs):
            if REPRODUCES not in run.create["tags"] and not run.is_archived:
                return run
    matches = {run.id: run for run in runs if run.id.startswith(prefix)}
    for run in runs:
        mlflow_id = run.delivered().get("mlflow_id")
        if run.id not in matches and str(mlflow_id or "").startswith(prefix or "?"):
            matches[f"{run.id} (in MLflow {mlflow_id})"] = run
    if len(matches) == 1 and prefix:
        return next(iter(matches.values()))
    if not matches:
        for folder, problem in broken_runs(outputs):
            if folder.name.startswith(prefix):
                raise ValueError(problem)
        raise ValueError(
            f"run {prefix!r} is not among the {len(runs)} runs in {runs_folder(outputs)}; "
            f"`{hint('status', outputs=outputs)}` lists them"
        )
    raise Ambiguous(f"run {prefix!r} could be {named(sorted(matches))}; type more of it")


def named(ids: Sequence[str]) -> str:
    """The first few ids, and how many more there are."""
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return f"{', '.join(ids[:NAMED])}{more}"


def close_dead(outputs: Path) -> list[str]:
    """Close as KILLED every run of this host whose process died without an end record.

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
