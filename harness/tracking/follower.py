"""Deliver one journal to the store.

The run folder's `delivered.json` holds how much of it has been delivered. It can lag behind MLflow
but is never ahead of it. Lagging is harmless: a run is looked up by its own id before one is
created, and MLflow stores equal metrics with equal timestamps once, however often they are sent.
"""

import json
import math
from collections.abc import Iterator
from contextlib import suppress

from filelock import Timeout

from harness.data.atomic import revalidate, write_text
from harness.runfolder import delivered, journal
from harness.runfolder.about import NOTE
from harness.runfolder.artifacts import Artifact
from harness.runfolder.history import ARCHIVED, OF_ATTEMPT, USER, tags_of
from harness.runfolder.liveness import FolderLock
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from harness.runfolder.target import Target
from harness.tracking.errors import MISSING, RunDeleted, StoreError, first_line
from harness.tracking.store import Point, Store, is_deleted

REFUSED = "refused.jsonl"
# Error codes of an invalid request; sending it again does not help.
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")
RECORDS_PER_CALL = 200
DELETED = (
    "was deleted in the store and stays deleted; `mlflow runs restore` brings it back, or `mlflow "
    "experiments restore` if it was its experiment"
)
REMOVED = "was removed from the store for good; without its delivered.json, `sync` sends it again"
LOST = (
    "is no longer in the store: it was removed there for good, or the store was restored from an "
    "earlier backup; `python -m harness sync --resend` sends it again"
)


class Follower:
    """Delivers the journal of one run to one store.

    error: why it cannot continue, such as a damaged record. trouble: why the last attempt failed.
    is_hopeless: whether waiting does not help. failures: how many attempts in a row failed.
    deleted: why nothing is sent to a run that somebody deleted in the store. was_deleted: whether
    the run was seen among the deleted ones there, which can be restored. damaged: path -> how a
    file that was not sent differs from its record. keeps_note: how many of the first records do not
    overwrite the store's note, because somebody else wrote it. renamed: the name of the run's
    experiment in the store, if somebody renamed it or moved the run.
    """

    def __init__(self, run: Run, target: Target) -> None:
        self.run = run
        self.target = target
        self.error: str | None = None
        self.trouble: str | None = None
        self.failures = 0
        self.is_hopeless = False
        self.deleted: str | None = None
        self._load()

    def _load(self) -> None:
        """Read how far the delivery is. The MLflow id is kept: another store may know it too."""
        state = self.run.delivered()
        self.mlflow_id: str | None = state.get("mlflow_id")
        if state.get("store") != self.target.key:
            state = {}
        self.offset: int = state.get("offset", 0)
        self.experiment_id: str | None = state.get("experiment_id")
        self.identity: int | None = state.get("identity")
        self.refused: dict[str, str] = state.get("refused", {})
        self.damaged: dict[str, str] = state.get("damaged", {})
        self.was_deleted: bool = state.get("was_deleted", False)
        self.keeps_note: int = state.get("keeps_note", 0)
        self.renamed: str = state.get(delivered.RENAMED, "")

    @property
    def outstanding(self) -> bool:
        """Whether the journal has complete records that can still be delivered."""
        if self.deleted is not None:
            return False
        try:
            with self.run.journal.open("rb") as file:
                file.seek(self.offset)
                return b"\n" in file.read()
        except FileNotFoundError:
            return False  # the run was removed

    def step(self, store: Store) -> None:
        """Deliver every new complete record, unless another process is doing so."""
        try:
            with FolderLock(self.run.folder / ".delivery.lock", timeout=0):
                revalidate(self.run.folder / delivered.FILE_NAME)
                self._load()
                self._deliver_new(store)
        except Timeout:
            self._load()
        except FileNotFoundError:
            if self.run.folder.is_dir():
                raise
            # The run was removed, so nothing is outstanding.

    def _deliver_new(self, store: Store) -> None:
        try:
            for records, end in self._groups():
                self._send(store, records)
                self.offset = end
                self.save()
        except journal.JournalError as error:
            self.error = str(error)
        except RunDeleted as error:
            self.deleted, self.was_deleted = str(error), True
            self.save()
        except StoreError as error:
            if error.code != MISSING or self.offset == 0:
                raise
            if store.lookup(self.mlflow_id) is not None:
                raise
            if not self.is_gone(store):
                self.forget()  # the store was created anew: send everything
            elif self.was_deleted:
                self.deleted = REMOVED
            else:
                self.error = LOST

    def is_gone(self, store: Store) -> bool:
        """Whether a run that cannot be found was deleted: this very store once had it."""
        was_there = self.was_deleted or self.offset > 0
        return was_there and self.identity is not None and self.identity == store.identity()

    def _groups(self) -> Iterator[tuple[list[journal.Record], int]]:
        """The new records in groups, one for each call, with the offset after each group."""
        pending: list[journal.Record] = []
        end, damage = self.offset, None
        try:
            for record, behind in journal.scan(self.run.journal, self.offset):
                if pending and (self._is_alone(record) or len(pending) == RECORDS_PER_CALL):
                    yield pending, end
                    pending = []
                pending, end = [*pending, record], behind
                if self._is_alone(record):
                    yield pending, end
                    pending = []
        except journal.JournalError as error:
            damage = error  # the records before it are good
        if pending:
            yield pending, end
        if damage is not None:
            raise damage

    def _is_alone(self, record: journal.Record) -> bool:
        """Whether a record is its own group: a long upload must count as progress on its own."""
        is_upload = record["kind"] == "artifact" and self.target.database is None
        return record["kind"] == "create" or is_upload

    def forget(self) -> None:
        """Send everything again from the first record; the store ignores duplicates.

        The MLflow id is kept, because the store can still have that run.
        """
        self.offset, self.refused, self.damaged = 0, {}, {}
        self.save()

    def save(self) -> None:
        """Write `delivered.json`."""
        state = {
            "store": self.target.key,
            "identity": self.identity,
            "experiment_id": self.experiment_id,
            "mlflow_id": self.mlflow_id,
            "offset": self.offset,
            "refused": self.refused,
            "damaged": self.damaged,
            "was_deleted": self.was_deleted,
            "keeps_note": self.keeps_note,
            **({delivered.RENAMED: self.renamed} if self.renamed else {}),
        }
        write_text(self.run.folder / delivered.FILE_NAME, json.dumps(state))

    def _send(self, store: Store, records: list[journal.Record]) -> None:
        """Deliver records. Set aside, one at a time, those that the server rejects as invalid.

        If the store does not answer, this raises, and all records are retried later. A rejected
        record would be rejected forever, so it goes to `refused.jsonl` with the reason, and the
        others are delivered.
        """
        try:
            if records[0]["kind"] == "create":
                self._create(store, records[0])
            else:
                self._deliver(store, records)
        except StoreError as error:
            if error.code not in REFUSALS or self.mlflow_id is None:
                raise
            stored = store.lookup(self.mlflow_id)
            if stored is not None and is_deleted(stored):
                raise RunDeleted(DELETED) from error
            if len(records) > 1:
                for record in records:
                    self._send(store, [record])
                return
            self._set_aside(store, records[0], first_line(error.__cause__ or error))

    def _set_aside(self, store: Store, record: journal.Record, reason: str) -> None:
        self.refused[str(record["n"])] = reason
        entries = [{"record": int(n), "reason": why} for n, why in self.refused.items()]
        write_text(self.run.folder / REFUSED, "".join(json.dumps(each) + "\n" for each in entries))
        try:
            store.log(str(self.mlflow_id), tags={"refused": f"{len(entries)} records: {reason}"})
        except StoreError as error:
            if error.code not in REFUSALS:
                raise

    def _create(self, store: Store, record: journal.Record) -> None:
        if self.is_gone(store) and store.lookup(self.mlflow_id) is None:
            raise RunDeleted(REMOVED)
        self.identity = store.identity()
        known, self.mlflow_id = self.mlflow_id, None  # so no record is set aside, whatever fails
        stored = store.open_run(record, known)
        info = stored.info
        self.experiment_id, self.mlflow_id = str(info.experiment_id), str(info.run_id)
        if is_deleted(stored):
            raise RunDeleted(DELETED)
        self.was_deleted = False
        there = stored.data.tags
        self.keeps_note = self._records_before(there[NOTE]) if NOTE in there else 0
        tags = {key: value for key, value in record["tags"].items() if there.get(key) != value}
        if self.keeps_note:
            tags.pop(NOTE, None)
        store.log(self.mlflow_id, params=record["params"], tags=tags)
        store.log_dataset(self.mlflow_id, record["dataset"])
        store.set_status(self.mlflow_id, RunStatus.CREATED)

    def _deliver(self, store: Store, records: list[journal.Record]) -> None:
        """Deliver records after the first: metrics and tags, then files, then the status."""
        assert self.mlflow_id is not None, "a journal starts with its create record"
        tags: dict[str, str] = {}
        is_again = False
        for record in records:
            its = tags_of(record)
            if record["n"] < self.keeps_note:
                its.pop(NOTE, None)
            tags |= its
            if record["kind"] == "start" and record["n"] > 1:
                tags = {key: value for key, value in tags.items() if key not in OF_ATTEMPT}
                is_again = True
        points = points_of(records)
        if tags or points:
            store.log(self.mlflow_id, points, tags=tags)
        for key in OF_ATTEMPT if is_again else ():
            if key not in tags:
                store.remove_tag(self.mlflow_id, key)
        if tags.get(ARCHIVED) == "false":  # MLflow finds listed runs by `tags.archived IS NULL`
            store.remove_tag(self.mlflow_id, ARCHIVED)
        of_user = [key for record in records if record.get("by") == USER for key in record["tags"]]
        for key in {key for key in of_user if not tags[key]}:
            store.remove_tag(self.mlflow_id, key)
        for record in records:
            if record["kind"] == "artifact":
                self._deliver_artifact(store, Artifact.of(record))
        for record in records:
            if record["kind"] == "end":
                store.set_status(self.mlflow_id, RunStatus(record["status"]), record["ms"])
                store.delete_others(str(self.experiment_id), self.run.id, self.mlflow_id)
        last = next((r for r in reversed(records) if r["kind"] in ("start", "end")), None)
        if last is not None and last["kind"] == "start":
            store.set_status(self.mlflow_id, RunStatus.RUNNING)

    def _records_before(self, note: str) -> int:
        """How many records the journal has if somebody else wrote the note; 0 if the run did."""
        count = 0
        with suppress(journal.JournalError):  # sending the damaged record names it
            for record, _ in journal.scan(self.run.journal):
                if record.get("tags", {}).get(NOTE) == note:
                    return 0
                count += 1
        return count

    def _deliver_artifact(self, store: Store, artifact: Artifact) -> None:
        """Upload a file only if it matches its record: the store may have the good copy.

        If a later record describes the file differently, leave the upload to that record.
        """
        assert self.mlflow_id is not None, "a journal starts with its create record"
        if self.run.history().artifacts.get(artifact.path, artifact) != artifact:
            return
        damage = artifact.damage(self.run.folder)
        if damage is not None:
            self.damaged[artifact.path] = damage
            return
        self.damaged.pop(artifact.path, None)
        # A record of version 0.1: nothing says that the file is still the one that was sent.
        is_unsure = artifact.sha256 is None
        if is_unsure and artifact.path in store.artifacts(self.mlflow_id, [artifact.path]):
            return
        store.log_artifact(self.mlflow_id, self.run.folder, artifact.path)


def points_of(records: list[journal.Record]) -> dict[str, list[Point]]:
    """The metrics of records in the store's form: values that are not finite become NaN."""
    points: dict[str, list[Point]] = {}
    for record in records:
        for key, value in record.get("metrics", {}).items():
            stored = value if math.isfinite(value) else math.nan
            points.setdefault(key, []).append((record["epoch"], stored, record["ms"]))
    return points
