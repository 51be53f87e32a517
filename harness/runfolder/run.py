"""`Run`: the object for a run folder. It reads the folder and writes its journal.

outputs/runs/<run id>/
    config.yaml           the frozen, fully resolved configuration
    journal.jsonl         what happened (see journal.py)
    checkpoints/          the states from which training can resume
    weights/ predictions/ plots/ environment.txt
    delivered.json        how much of the journal the tracking store has
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from harness.data.atomic import allows, revalidate, write_text
from harness.runfolder import delivered, liveness, versions
from harness.runfolder import journal as journals
from harness.runfolder.artifacts import Artifact
from harness.runfolder.config import ConfigError, leaves
from harness.runfolder.frozen_config import read_frozen, read_schema, read_yaml
from harness.runfolder.hint import hint
from harness.runfolder.history import (
    ARCHIVED,
    PAUSED,
    PAUSED_AFTER,
    PRUNED,
    History,
    begin,
    read_history,
)
from harness.runfolder.journal import Journal, JournalError, Record, read_create
from harness.runfolder.schema import Config
from harness.runfolder.status import RunStatus
from harness.runfolder.target import Target
from harness.training.options import Ties

if TYPE_CHECKING:
    import pandas as pd

    from harness.data.dataset import Dataset

CONFIG = "config.yaml"
WEIGHTS = "weights/best.safetensors"
LEARNING_CURVES = "plots/learning_curves.png"
PREDICTIONS = "predictions/test.npz"
SOURCE = "source.sha256"  # the tag of the digest of the built-in trainer's source
# Tags with the ids of a run's sweeps that accepted it although other source trained it,
# that are searches, and that add seeds by results.
ACCEPTED, SEARCHES, RACES = "sweep.other_source", "sweep.searches", "sweep.races"
STOP = "stop"  # the file that asks the process that trains the run to stop
WRITING_S, POLL_S = 2.0, 0.05  # most time that a command takes to add a tag; the wait for it
REPRODUCES = "reproduces"  # the tag with the id of the run that a run reproduces


class Run:
    """One run folder, `outputs/runs/<run id>`. Two objects of the same folder are equal.

    name: its name in the sweep it is opened from; an earlier command may have named it otherwise.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        self.folder, self._name = folder, name
        self._history: tuple[tuple[int, int], History] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.folder == other.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def id(self) -> str:
        """The run id."""
        return self.folder.name

    @property
    def name(self) -> str:
        """The run's name, such as `batch=16,seed=1`; its id if its journal cannot be read."""
        if self._name:
            return self._name
        return str(self.create["name"]) if self.is_readable() else self.id

    @property
    def outputs(self) -> Path:
        """The folder of everything generated."""
        return self.folder.parents[1]

    @property
    def cache(self) -> Path:
        """The folder of extracted data sets."""
        return self.outputs / "cache"

    @property
    def journal(self) -> Path:
        """The journal file."""
        return self.folder / journals.FILE_NAME

    @property
    def weights(self) -> Path:
        """The weights that the key `weights` chooses; they exist once the run is finished."""
        return self.folder / WEIGHTS

    @cached_property
    def config(self) -> Config:
        """The frozen configuration, compared with the journal.

        Raises `ConfigError` naming the file if it is missing or was changed since, and
        `JournalError` like `history`.
        """
        return self._read_config(to_train=False)

    def _read_config(self, *, to_train: bool) -> Config:
        path, create = self.folder / CONFIG, self.create
        config = read_yaml(path, create.get("config_sha256"), to_train=to_train)
        if "config_sha256" not in create:  # version 0.1 recorded only the settings
            params = versions.completed(create["params"])
            for key, value in leaves(config).items():
                if (then := params.get(key, value)) != value:
                    raise ConfigError(f"{path}: {key} is {value} and was {then} when it was frozen")
        return config

    @property
    def ties(self) -> Ties:
        """Which of several epochs with the best value counts as the best one."""
        return versions.ties(read_schema(self.folder / CONFIG))

    def check_trainable(self) -> None:
        """Raise `ConfigError` if the run cannot be trained here.

        This user cannot write to its folder, its config.yaml is missing or was changed, or a newer
        version wrote something that this one does not know.
        """
        if not allows(self.folder):
            raise ConfigError(f"{self.folder}: cannot be written to; its owner can train it")
        if unknown := self.history().unknown:
            what = versions.describe(self.journal, unknown)
            raise ConfigError(f"{what}; train it with the newer one")
        self.config = self._read_config(to_train=True)

    @cached_property
    def create(self) -> Record:
        """The journal's create record, read alone. Raises `JournalError` like `history`."""
        try:
            return read_create(self.journal)
        except OSError as error:
            raise JournalError(f"{self.journal}: {error.strerror}") from error

    def history(self) -> History:
        """The current state in the journal, which is parsed again only if the file has changed.

        A run that was removed since its create record was read, or whose journal lost delivered
        records, is DAMAGED. Raises `JournalError` if there is no journal or its create record
        cannot be read.
        """
        try:
            stat = self.journal.stat()
            state = (stat.st_size, stat.st_mtime_ns)
            if self._history is None or self._history[0] != state:
                self._history = (state, self._read_history(stat.st_size))
        except OSError as error:
            known = begin(self.create) if self._history is None else self._history[1]
            is_gone = isinstance(error, FileNotFoundError)
            why = f"{self.journal}{' was removed' if is_gone else f': {error.strerror}'}"
            return replace(known, status=RunStatus.DAMAGED, error=why)
        return self._history[1]

    def _read_history(self, size: int) -> History:
        """The history in a journal of `size` bytes; DAMAGED if more bytes were delivered."""
        history, had = read_history(self.journal), self.delivered().get("offset", 0)
        if size < had:  # a network file system may show the journal as it was before the delivery
            revalidate(self.journal)
            history, size = read_history(self.journal), self.journal.stat().st_size
        if size >= had or history.status is RunStatus.DAMAGED:
            return history
        why = (
            f"{self.journal} lost records: expected at least {had} bytes, which were delivered, "
            f"found {size}; restore it from a backup, or remove the run folder and train it again "
            "(the tracking store keeps what was delivered)"
        )
        return replace(history, status=RunStatus.DAMAGED, error=why)

    def is_readable(self) -> bool:
        """Whether the run exists and its create record can be read."""
        with suppress(JournalError):
            return bool(self.create)
        return False

    def problem(self) -> str | None:
        """Why no command can use the run, naming the file; None if commands can."""
        try:
            if sha256 := self.create.get("config_sha256"):
                read_frozen(self.folder / CONFIG, sha256)
            else:
                _ = self.config
        except (ValueError, OSError) as error:
            return str(error)
        return None

    def damage(self) -> str | None:
        """How the run's files differ from what its journal records; None if they do not.

        Every record and every recorded file is read. The text names files within the run folder.
        """
        if problem := self.problem():
            return within(self.folder, problem)
        history = self.history()
        if history.status is RunStatus.DAMAGED:
            return within(self.folder, str(history.error))
        for artifact in history.artifacts.values():
            if (damage := self._damage_of(artifact)) is not None:
                return f"{artifact.path} {damage}"
        return None

    def _damage_of(self, artifact: Artifact) -> str | None:
        """How a recorded file differs from its record, or why it cannot be read."""
        try:
            return artifact.damage(self.folder)
        except OSError as error:
            return f"cannot be read ({error.strerror})"

    def verified(self, path: str) -> Path:
        """The file of an artifact, after comparing it with its last record in the journal.

        path: relative to the run folder, with slashes. If the journal does not have it, only its
        existence is checked; if the record has its size and SHA-256, these are checked too. Raises
        `ValueError` naming the file and what to do.
        """
        artifact = self.history().artifacts.get(path, Artifact(path))
        if (damage := self._damage_of(artifact)) is not None:
            raise ValueError(
                f"{self.folder / path} {damage}; `{hint('sync', outputs=self.outputs)}` restores "
                "it if the tracking store has it, else remove the run folder and train the run "
                "again"
            )
        return self.folder / path

    @property
    def status(self) -> RunStatus:
        """The status in the journal."""
        return self.history().status

    @property
    def is_finished(self) -> bool:
        """Whether the run ended as FINISHED."""
        return self.status is RunStatus.FINISHED

    @property
    def is_archived(self) -> bool:
        """Whether `harness archive` archived it; a journal without the tag's name is not parsed."""
        try:
            is_named = ARCHIVED.encode() in self.journal.read_bytes()
        except FileNotFoundError:  # it was removed
            return False
        return is_named and self.history().is_archived

    @property
    def required_threads(self) -> int:
        """The BLAS threads that the run must have: those of its start, else those configured.

        The last bits of products depend on the number of threads, so a resumed run keeps it.
        """
        start = self.history().start
        return self.config.required_threads if start is None else int(start["threads"])

    @property
    def metrics(self) -> dict[str, float]:
        """The final metrics: test metrics, `best/epoch` (whose weights count), and its value.

        The metrics of each epoch are in `frame`.
        """
        return self.history().final

    def frame(self) -> "pd.DataFrame":
        """One row per epoch: its number and every metric."""
        import pandas as pd

        epochs = self.history().epochs
        return pd.DataFrame([{"epoch": each["epoch"], **each["metrics"]} for each in epochs])

    def dataset(self) -> "Dataset":
        """Open the run's data set with its own train/validation split.

        It is extracted again if the cache has lost it. Raises `ValueError` if that fails.
        """
        from harness.data import integrity
        from harness.runfolder import own_code, own_dataset

        settings = self.config.dataset
        digest = self.history().create["dataset"]["sha256"]
        if settings.is_own and integrity.check(self.cache / digest) is not None:
            own_code.use(self.history().code, [settings.name])
        return own_dataset.load(settings, self.cache, digest)

    def target(self) -> Target | None:
        """The store that the run's results go to; None for `tracking=none`."""
        history = self.history()
        if history.store is not None:
            return Target.named(history.store, self.outputs)
        params = history.params
        return Target.of(params["tracking.name"], params["tracking.uri"], self.outputs)

    def delivered(self) -> dict[str, Any]:
        """How much of the journal the store has; see `delivered.read`."""
        return delivered.read(self.folder)

    def lock(self, wait_s: float = 5.0) -> FileLock:
        """The lock of the process that trains the run."""
        return liveness.lock(self.folder, wait_s)

    def is_live(self) -> bool:
        """Whether a process holds the run's lock."""
        return liveness.is_locked(self.folder)

    def is_training(self) -> bool:
        """Whether a process trains the run.

        Commands that add a tag hold the lock too, but only for a moment; this waits for them.
        """
        end = time.monotonic() + WRITING_S
        while self.is_live():
            if self.status is RunStatus.RUNNING or time.monotonic() > end:
                return True
            time.sleep(POLL_S)
        return False

    def request_stop(self) -> None:
        """Ask the process that trains the run, on any machine, to stop after the current epoch."""
        write_text(self.folder / STOP, "")

    def take_stop_request(self) -> bool:
        """Remove a request to stop the run; return whether there was one.

        One that cannot be removed would stop each later training too, so it does not count.
        """
        try:
            (self.folder / STOP).unlink()
        except OSError:
            return False
        return True

    @contextmanager
    def writing(self, wait_s: float = 5.0) -> Iterator[Journal]:
        """The journal, open for appending, under the run's lock. Raises `filelock.Timeout`."""
        with self.lock(wait_s), Journal(self.journal) as journal:
            yield journal

    def add_tags(self, tags: dict[str, str], *, by: str | None = None) -> None:
        """Add tags; no process may be training the run. by: `USER` for the user's own."""
        with self.writing() as journal:
            journal.append("tags", tags=tags, **({"by": by} if by else {}))

    def add_artifacts(self, paths: list[str]) -> None:
        """Record finished files, relative to the folder; no process may be training the run."""
        with self.writing() as journal:
            for path in paths:
                journal.append("artifact", **Artifact.measure(self.folder, path).record())

    def bind(self, target: Target) -> None:
        """Deliver the run to another store from now on; no process may be training it."""
        with self.writing() as journal:
            journal.append("store", uri=target.key)

    def join_sweep(
        self, sweep: str, number: str, about: Mapping[str, str] | None = None, kind: str = ""
    ) -> None:
        """Tag the run as a member of one more sweep; do nothing if it is one already.

        about: the tags of the sweep's name and note. kind: `SEARCHES`, `RACES`, or empty. An
        archived run is listed again.
        """
        tags = self.history().tags
        added = dict(about or {}) | _one_more(tags, "sweep", sweep)
        if "sweep" in added:
            added["sweep.job"] = number
        if kind:
            added |= _one_more(tags, kind, sweep)
        if tags.get(ARCHIVED) == "true":
            added[ARCHIVED] = "false"
        if added.items() - tags.items():
            self.add_tags(added)

    def leave_sweep(self, sweep: str) -> None:
        """Remove the tags of a sweep in which another run takes this one's place."""
        tags = self.history().tags
        kept = {
            key: ",".join(each for each in tags[key].split(",") if each != sweep)
            for key in ("sweep", ACCEPTED, SEARCHES, RACES)
            if sweep in tags.get(key, "").split(",")
        }
        if kept:
            self.add_tags(kept)

    def accept_in(self, sweep: str) -> None:
        """Tag the run as trained with other source and accepted by this sweep."""
        if added := _one_more(self.history().tags, ACCEPTED, sweep):
            self.add_tags(added)

    def mark_pruned(self, epoch: int, *, is_paused: bool = False) -> None:
        """Record that the search ended the run: the tag `pruned` and the reason.

        is_paused: the search can continue it; the tag `paused_after` has the epochs of all pauses.
        """
        tags, reason = {PRUNED: "true"}, f"pruned by the search after epoch {epoch}"
        if is_paused:
            before = self.history().tags.get(PAUSED_AFTER)
            tags[PAUSED_AFTER] = ",".join(filter(None, (before, str(epoch))))
            reason = f"{PAUSED} after epoch {epoch}"
        with self.writing() as journal:
            journal.append("tags", tags=tags)
            journal.append("end", status=RunStatus.KILLED, error=reason)

    def close_abandoned(self, status: RunStatus, error: str, *, started: bool = True) -> History:
        """Write the end record of a run whose process died without one; leave others alone.

        A live run is recognized by its lock and its process. started: if False, also close a run
        whose process died before its start record. Returns the history afterwards.
        """
        history = self.history()
        if _died(history, started=started):
            try:
                # A process that checks whether the run is alive holds the lock for a moment.
                with self.writing() as journal:
                    if _died(self.history(), started=started):  # not ended meanwhile
                        journal.append("end", status=status, error=error)
            except Timeout:
                return history
        return self.history()


def within(folder: Path, problem: str) -> str:
    """A problem with file names relative to the run folder, which can be temporary."""
    return problem.replace(f"{folder}/", "")


def _died(history: History, *, started: bool) -> bool:
    """Whether no process trains a run that has no end record; see `Run.close_abandoned`."""
    if history.status is RunStatus.RUNNING and history.start is not None:
        return not liveness.is_running(history.start)
    return history.status is RunStatus.CREATED and not started


def _one_more(tags: Mapping[str, str], key: str, sweep: str) -> dict[str, str]:
    """The tag with one more sweep; empty if it has the sweep already."""
    before = tags.get(key, "")
    return {} if sweep in before.split(",") else {key: f"{before},{sweep}".strip(",")}
