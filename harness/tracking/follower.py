"""Delivers one journal to the store.

The run folder's `delivered.json` holds how much of it has been delivered. It may lag behind MLflow
but is never ahead of it: a run is looked up by its own id before one is created, and MLflow
stores equal metrics with equal timestamps once, however often they are sent.
"""

import json
import math
from collections.abc import Iterator

from filelock import Timeout

from harness.data.atomic import write_text
from harness.runfolder import delivered, journal
from harness.runfolder.liveness import FolderLock
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from harness.runfolder.target import Target
from harness.tracking.store import Point, Store, StoreError

REFUSED = "refused.jsonl"
# Error codes of an invalid request; sending it again does not help.
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")
RECORDS_PER_CALL = 200


class Follower:
    """Delivers the journal of one run to one store.

    error: why it cannot continue, such as a damaged record; trouble: why the last attempt failed;
    failures: how many attempts in a row failed.
    """

    def __init__(self, run: Run, target: Target) -> None:
        self.run = run
        self.target = target
        self.error: str | None = None
        self.trouble: str | None = None
        self.failures = 0
        self._load()

    def _load(self) -> None:
        state = self.run.delivered()
        if state.get("store") != self.target.key:
            state = {}
        self.offset: int = state.get("offset", 0)
        self.mlflow_id: str | None = state.get("mlflow_id")
        self.experiment_id: str | None = state.get("experiment_id")
        self.refused: dict[str, str] = state.get("refused", {})

    @property
    def outstanding(self) -> bool:
        """Whether the journal has complete records that were not delivered."""
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
                self._load()
                self._deliver_new(store)
        except Timeout:
            self._load()
        except FileNotFoundError:
            if self.run.folder.is_dir():
                raise
            # The run was removed: nothing of it is outstanding.

    def _deliver_new(self, store: Store) -> None:
        from mlflow.exceptions import MlflowException

        try:
            for records, end in self._groups():
                self._send(store, records)
                self.offset = end
                self._save()
        except journal.JournalError as error:
            self.error = str(error)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST" or self.offset == 0:
                raise
            self.forget()  # the store was created again: send everything

    def _groups(self) -> Iterator[tuple[list[journal.Record], int]]:
        """The new records in groups, one for each call, with the offset after each group."""
        pending: list[journal.Record] = []
        end, damage = self.offset, None
        try:
            for record, behind in journal.scan(self.run.journal, self.offset):
                if pending and ("metrics" not in record or len(pending) == RECORDS_PER_CALL):
                    yield pending, end
                    pending = []
                pending, end = [*pending, record], behind
                if "metrics" not in record:
                    yield pending, end
                    pending = []
        except journal.JournalError as error:
            damage = error  # the records before it are good
        if pending:
            yield pending, end
        if damage is not None:
            raise damage

    def forget(self) -> None:
        """Send everything again from the first record; the store ignores duplicates."""
        self.offset, self.mlflow_id, self.experiment_id, self.refused = 0, None, None, {}
        self._save()

    def _save(self) -> None:
        state = {
            "store": self.target.key,
            "experiment_id": self.experiment_id,
            "mlflow_id": self.mlflow_id,
            "offset": self.offset,
            "refused": self.refused,
        }
        write_text(self.run.folder / delivered.FILE_NAME, json.dumps(state))

    def _send(self, store: Store, records: list[journal.Record]) -> None:
        """Deliver records. Those that the server rejects as invalid are set aside one at a time.

        When the store does not answer, this raises, and all records are retried later. A rejected
        record would be rejected forever, so it goes to `refused.jsonl` with the reason, and the
        others are delivered.
        """
        from mlflow.exceptions import MlflowException

        try:
            if "metrics" in records[0]:
                self._log_metrics(store, records)
            else:
                self._deliver(store, records[0])
        except MlflowException as error:
            if error.error_code not in REFUSALS or self.mlflow_id is None:
                raise
            if store.deleted(self.mlflow_id):
                raise StoreError(
                    f"the run was deleted in the store; `mlflow runs restore --run-id "
                    f"{self.mlflow_id}` brings it back, or remove {self.run.folder}"
                ) from error
            if len(records) > 1:
                for record in records:
                    self._send(store, [record])
                return
            self._set_aside(store, records[0], str(error).splitlines()[0])

    def _set_aside(self, store: Store, record: journal.Record, reason: str) -> None:
        from mlflow.exceptions import MlflowException

        self.refused[str(record["n"])] = reason
        entries = [{"record": int(n), "reason": why} for n, why in self.refused.items()]
        write_text(self.run.folder / REFUSED, "".join(json.dumps(each) + "\n" for each in entries))
        try:
            store.log(str(self.mlflow_id), tags={"refused": f"{len(entries)} records: {reason}"})
        except MlflowException as error:
            if error.error_code not in REFUSALS:
                raise

    def _deliver(self, store: Store, record: journal.Record) -> None:
        if record["kind"] == "create":
            self.experiment_id = store.experiment(record["experiment"])
            self.mlflow_id = store.create_run(self.experiment_id, record)
            store.log(self.mlflow_id, params=record["params"], tags=record["tags"])
            store.log_dataset(self.mlflow_id, record["dataset"])
            store.set_status(self.mlflow_id, RunStatus.CREATED)
            return
        assert self.mlflow_id is not None, "a journal starts with its create record"
        match record["kind"]:
            case "start":
                tags = {key: str(record[key]) for key in ("host", "threads", "backend")}
                if record["n"] > 1:
                    tags["error"] = ""  # clear that of an earlier attempt
                store.log(self.mlflow_id, tags=tags)
                store.set_status(self.mlflow_id, RunStatus.RUNNING)
            case "tags":
                store.log(self.mlflow_id, tags=record["tags"])
            case "artifact" if (self.run.folder / record["path"]).is_file():
                store.log_artifact(self.mlflow_id, self.run.folder, record["path"])
            case "artifact":
                self._set_aside(store, record, f"{record['path']} is no longer in the run folder")
            case "end":
                if record["error"]:
                    store.log(self.mlflow_id, tags={"error": record["error"]})
                store.set_status(self.mlflow_id, RunStatus(record["status"]), record["ms"])
                store.delete_others(str(self.experiment_id), self.run.id, self.mlflow_id)

    def _log_metrics(self, store: Store, records: list[journal.Record]) -> None:
        assert self.mlflow_id is not None, "a journal starts with its create record"
        for record in records:
            for key, value in record["metrics"].items():
                if not math.isfinite(value):
                    # MLflow would store infinity as 1.797e308: a tag holds it instead.
                    note = f"{key} = {value} at step {record['epoch']}"
                    store.log(self.mlflow_id, tags={"nonfinite": note})
        store.log(self.mlflow_id, points_of(records))


def points_of(records: list[journal.Record]) -> list[Point]:
    """The metrics of records as the store holds them: values that are not finite are NaN."""
    return [
        (key, value if math.isfinite(value) else math.nan, record["ms"], record["epoch"])
        for record in records
        for key, value in record.get("metrics", {}).items()
    ]
