"""Run folders: how they are made, found and closed.

outputs/runs/<run id>/
    config.yaml           the frozen, fully resolved configuration
    journal.jsonl         what happened (see training/journal.py)
    checkpoints/          where training can go on from
    weights/ predictions/ plots/ environment.txt
    delivered.json        how much of the journal the tracking store has
"""

import logging
import os
import secrets
import shutil
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from harness.data.atomic import fsync_folder, write_text
from harness.runfolder import config as configuration
from harness.runfolder import journal
from harness.runfolder.journal import History, Journal, JournalError
from harness.runfolder.schema import Config
from harness.tracking.follower import read_state

CONFIG = "config.yaml"
REPRODUCES = "reproduces"  # the tag that names the run a run reproduces
HOST = socket.gethostname()
CLOCK_S = 2.0  # a process's start time is counted from the boot, whose time a set clock moves


@dataclass(frozen=True)
class Identity:
    """What a run is called and how it belongs to others; all of it ends up as tags.

    dataset: name, sha256, source, sizes of the parts, image shape, classes.
    """

    name: str
    tags: dict[str, str]
    dataset: dict[str, Any]


def new_id() -> str:
    """A run id: six random digits, so that a short prefix names it, then the time for people."""
    return f"{secrets.token_hex(3)}-{time.strftime('%Y%m%d-%H%M%S')}"


def folder_of(outputs: Path) -> Path:
    """Where the run folders lie."""
    return outputs / "runs"


def create(outputs: Path, config: Config, identity: Identity) -> Path:
    """Make a run folder with its frozen config and the first record of its journal, whole or
    not."""
    run_id = new_id()
    folder = folder_of(outputs) / run_id
    unfinished = folder.with_name(f".{run_id}")
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
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    fsync_folder(folder.parent)
    return folder


def find(outputs: Path, prefix: str) -> Path:
    """The one run folder whose id, or MLflow id, begins with `prefix`; `last` is the newest.

    A run that only reproduces another is never the last. Raises `ValueError` for none or several.
    """
    if prefix == "last":
        own = [folder for folder, told in readable(outputs) if REPRODUCES not in told.tags]
        if own:
            return own[-1]
    folders = list(journal.folders(folder_of(outputs)))
    found = [
        folder
        for folder in folders
        if folder.name.startswith(prefix)
        or str(read_state(folder).get("mlflow_id")).startswith(prefix)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(
            f"run {prefix!r} is not among the {len(folders)} runs in {folder_of(outputs)}; "
            "`python -m harness status` lists them"
        )
    names = ", ".join(sorted(folder.name for folder in found)[:5])
    raise ValueError(f"run {prefix!r} could be {names}; type more of it")


def lock(folder: Path, wait_s: float = 5.0) -> FileLock:
    """The lock of a run's one live owner; the operating system frees it with the process.

    wait_s: who looks whether a run is live, or tags it, holds it for a moment only.
    """
    return FileLock(folder / ".lock", timeout=wait_s)


def add_tags(folder: Path, tags: dict[str, str]) -> None:
    """Add tags to a run that nobody is training."""
    with lock(folder), Journal(folder / journal.FILE_NAME) as writer:
        writer.append("tags", tags=tags)


def close_abandoned(folder: Path, status: str, error: str, *, begun: bool = True) -> History:
    """Give a run whose process died without a word its end; leave any other run as it is.

    A live run is recognised by the lock its process holds, and by its process itself. begun: only
    if it had begun; who saw its process die before may say False. Returns what the journal says
    now.
    """
    told = journal.history(folder)
    died = told.status == "CREATED" and not begun
    if told.status == "RUNNING" and told.start is not None:
        died = not _is_running(told.start)
    if died:
        try:
            with lock(folder, 0), Journal(folder / journal.FILE_NAME) as writer:
                writer.append("end", status=status, error=error)
        except Timeout:
            return told
        told = journal.history(folder)
    return told


def is_live(folder: Path) -> bool:
    """Whether a process holds the run's lock."""
    try:
        with lock(folder, 0):
            return False
    except Timeout:
        return True


def _is_running(start: journal.Record) -> bool:
    """Whether the process of a start record runs on this host; another one may have its number."""
    if start["host"] != HOST or "process_started" not in start:
        return False
    try:
        process = psutil.Process(start["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        begun = process.create_time()
    except psutil.NoSuchProcess:
        return False
    return bool(abs(begun - start["process_started"]) < CLOCK_S)


def this_process() -> dict[str, Any]:
    """Who is training: for the journal's start record."""
    return {"host": HOST, "pid": os.getpid(), "process_started": psutil.Process().create_time()}


def is_finished(folder: Path) -> bool:
    """Whether the run ended as FINISHED."""
    return journal.history(folder).status == "FINISHED"


def readable(outputs: Path) -> Iterator[tuple[Path, History]]:
    """Every run with what its journal says, oldest first.

    A journal that not even names its run is passed over with a warning that names it: one rotten
    file must not keep the others from being used.
    """
    for folder in journal.folders(folder_of(outputs)):
        try:
            yield folder, journal.history(folder)
        except JournalError as error:
            logging.getLogger(__name__).warning("%s", error)


def close_dead(outputs: Path) -> list[str]:
    """Close every run of this host whose process died without a word as KILLED; returns their ids.

    Runs of other hosts are left alone: whether they live cannot be known here.
    """
    closed = []
    for folder, told in readable(outputs):
        if told.status != "RUNNING" or told.start is None or told.start["host"] != HOST:
            continue
        if close_abandoned(folder, "KILLED", "its process died without a word").status == "KILLED":
            closed.append(told.run)
    return closed


Key = tuple[str, ...]


def key(run_key: str, params: Mapping[str, object], also: Collection[str]) -> Key:
    """A run key, and the values of the settings `also`, which change no result."""
    return (run_key, *(str(params.get(name)) for name in also))


def by_key(outputs: Path, also: Collection[str] = ()) -> dict[Key, Path]:
    """For every key the run to build on: the newest finished one, else the newest that may go on.

    Runs that somebody trains at this moment count as unfinished ones; their lock refuses a second
    trainer. A run whose journal is damaged is nothing to build on. also: see `key`.
    """
    finished: dict[Key, Path] = {}
    unfinished: dict[Key, Path] = {}
    for folder, told in readable(outputs):
        if told.status == "DAMAGED":
            logging.getLogger(__name__).warning("%s", told.error)
            continue
        kind = finished if told.status == "FINISHED" else unfinished
        kind[key(told.tags["run_key"], told.create["params"], also)] = folder
    return unfinished | finished


def join_sweep(folder: Path, sweep: str, number: str) -> None:
    """Tag a run as a member of one more sweep; nothing changes when it is one already."""
    tags = journal.history(folder).tags
    before = tags.get("sweep", "")
    if sweep not in before.split(","):
        add_tags(folder, {"sweep": f"{before},{sweep}".strip(","), "sweep.job": number})


PRUNED = "pruned"


def mark_pruned(folder: Path, epoch: int) -> None:
    """Say of a run that its search ended it: the tag `pruned`, and why its status is KILLED."""
    error = f"pruned by the search after epoch {epoch}"
    with lock(folder), Journal(folder / journal.FILE_NAME) as writer:
        writer.append("tags", tags={PRUNED: "true"})
        writer.append("end", status="KILLED", error=error)


def unmark_pruned(folder: Path) -> None:
    """Take the mark back from a run that was finished after all."""
    if journal.history(folder).tags.get(PRUNED) == "true":
        add_tags(folder, {PRUNED: "false"})


def is_pruned(told: History) -> bool:
    """Whether a run's last word is that its search ended it."""
    return told.status == "KILLED" and (told.error or "").startswith("pruned by")
