"""One journal on its way to the store.

How far a journal has been delivered stands in the run folder's `delivered.json`. It may lag behind
what MLflow has, never run ahead: the run is found by its own id before one is created, and the same
metrics with the same timestamps are written once however often they are sent.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.data.atomic import write_text
from harness.runfolder import journal
from harness.tracking.store import Point, Store, StoreError
from harness.tracking.target import Target

STATE = "delivered.json"
REFUSED = "refused.jsonl"
# Answers to a request that is wrong in itself, however often it is sent.
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")
RECORDS_PER_CALL = 200


class Follower:
    """One journal on its way to the store.

    error: why it can never go on, such as a damaged record; trouble: why it could not the last
    time; failures: how often in a row.
    """

    def __init__(self, folder: Path, target: Target) -> None:
        self.folder = folder
        self.target = target
        self.error: str | None = None
        self.trouble: str | None = None
        self.failures = 0
        self._load()

    def _load(self) -> None:
        state = read_state(self.folder)
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
            with (self.folder / journal.FILE_NAME).open("rb") as file:
                file.seek(self.offset)
                return b"\n" in file.read()
        except FileNotFoundError:
            return False  # somebody removed the run

    def step(self, store: Store) -> None:
        """Deliver every complete record that is new, unless another process does so just now."""
        try:
            with FileLock(self.folder / ".delivery.lock", timeout=0):
                self._load()
                self._deliver_new(store)
        except Timeout:
            self._load()

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
            self.forget()  # the store was made anew: everything is sent again

    def _groups(self) -> Iterator[tuple[list[journal.Record], int]]:
        """What is new, in parts to be sent at once, with the offsets behind them."""
        pending: list[journal.Record] = []
        end, damage = self.offset, None
        try:
            for record, behind in journal.scan(self.folder / journal.FILE_NAME, self.offset):
                if pending and ("metrics" not in record or len(pending) == RECORDS_PER_CALL):
                    yield pending, end
                    pending = []
                pending, end = [*pending, record], behind
                if "metrics" not in record:
                    yield pending, end
                    pending = []
        except journal.JournalError as error:
            damage = error  # what stands before it is good
        if pending:
            yield pending, end
        if damage is not None:
            raise damage

    def forget(self) -> None:
        """Send everything again from the first record on, which is harmless."""
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
        write_text(self.folder / STATE, json.dumps(state))

    def _send(self, store: Store, records: list[journal.Record]) -> None:
        """Deliver some records; what the store refuses for what it is, is put aside one by one.

        A store that is away raises, and everything is sent again later. A refusal would be repeated
        for ever: the record goes to `refused.jsonl` with the reason and the others are delivered.
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
                    f"{self.mlflow_id}` brings it back, or remove {self.folder}"
                ) from error
            if len(records) > 1:
                for record in records:
                    self._send(store, [record])
                return
            self._put_aside(store, records[0], str(error).splitlines()[0])

    def _put_aside(self, store: Store, record: journal.Record, reason: str) -> None:
        from mlflow.exceptions import MlflowException

        self.refused[str(record["n"])] = reason
        entries = [{"record": int(n), "reason": why} for n, why in self.refused.items()]
        write_text(self.folder / REFUSED, "".join(json.dumps(each) + "\n" for each in entries))
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
            store.set_status(self.mlflow_id, "SCHEDULED")  # it waits for its turn
            return
        assert self.mlflow_id is not None, "a journal begins with its create record"
        match record["kind"]:
            case "start":
                told = {key: str(record[key]) for key in ("host", "threads", "backend")}
                if record["n"] > 1:
                    told["error"] = ""  # of an earlier attempt
                store.log(self.mlflow_id, tags=told)
                store.set_status(self.mlflow_id, "RUNNING")
            case "tags":
                store.log(self.mlflow_id, tags=record["tags"])
            case "artifact" if (self.folder / record["path"]).is_file():
                store.log_artifact(self.mlflow_id, self.folder, record["path"])
            case "artifact":
                self._put_aside(store, record, f"{record['path']} is no longer in the run folder")
            case "end":
                if record["error"]:
                    store.log(self.mlflow_id, tags={"error": record["error"]})
                store.set_status(self.mlflow_id, record["status"], record["ms"])
                store.delete_others(str(self.experiment_id), self.folder.name, self.mlflow_id)

    def _log_metrics(self, store: Store, records: list[journal.Record]) -> None:
        assert self.mlflow_id is not None, "a journal begins with its create record"
        for record in records:
            for key, value in record["metrics"].items():
                if not math.isfinite(value):
                    # MLflow would store infinity as 1.797e308: say it in a tag instead.
                    note = f"{key} = {value} at step {record['epoch']}"
                    store.log(self.mlflow_id, tags={"nonfinite": note})
        store.log(self.mlflow_id, points_of(records))


def points_of(records: list[journal.Record]) -> list[Point]:
    """The metrics of epoch and final records as the store holds them: what is not finite is NaN."""
    return [
        (key, value if math.isfinite(value) else math.nan, record["ms"], record["epoch"])
        for record in records
        for key, value in record.get("metrics", {}).items()
    ]


def read_state(folder: Path) -> dict[str, Any]:
    """What `delivered.json` says, or nothing when there is none or it cannot be read."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return state
