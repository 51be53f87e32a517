"""One journal on its way to the store.

How far a journal has been delivered stands in the run folder's `delivered.json`. It may lag behind
what MLflow has, never run ahead: the run is found by its own id before one is created, and the same
metrics with the same timestamps are written once however often they are sent.
"""

import json
import math
from pathlib import Path
from typing import Any

from harness.files import write_text
from harness.tracking.store import Point, Store, Target
from harness.training import journal

STATE = "delivered.json"
REFUSED = "refused.jsonl"
# Answers to a request that is wrong in itself, however often it is sent.
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")


class Follower:
    """One journal on its way to the store."""

    def __init__(self, folder: Path, target: Target) -> None:
        self.folder = folder
        self.target = target
        self.offset = 0
        self.mlflow_id: str | None = None
        self.experiment_id: str | None = None
        self.error: str | None = None
        self.refused = 0
        state = read_state(folder)
        if state.get("store") == target.key:
            self.offset = state["offset"]
            self.mlflow_id = state["mlflow_id"]
            self.experiment_id = state["experiment_id"]
            self.refused = state["refused"]

    @property
    def outstanding(self) -> bool:
        """Whether the journal has bytes that were not delivered."""
        return (self.folder / journal.FILE_NAME).stat().st_size > self.offset

    def step(self, store: Store) -> bool:
        """Deliver every complete record that is new. Returns whether there was one."""
        records, end, _ = journal.read(self.folder / journal.FILE_NAME, self.offset)
        if not records:
            return False
        pending: list[journal.Record] = []
        for record in records:
            if "metrics" in record:
                pending.append(record)
                continue
            self._send(store, pending)
            self._send(store, [record])
            pending = []
        self._send(store, pending)
        self.offset = end
        self._save()
        return True

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
            if records and "metrics" in records[0]:
                self._log_metrics(store, records)
            elif records:
                self._deliver(store, records[0])
        except MlflowException as error:
            if error.error_code not in REFUSALS or records[0]["kind"] == "create":
                raise
            if len(records) > 1:
                for record in records:
                    self._send(store, [record])
                return
            self.refused += 1
            entry = {"reason": str(error).splitlines()[0], "record": records[0]["n"]}
            with (self.folder / REFUSED).open("a") as file:
                file.write(json.dumps(entry) + "\n")

    def _deliver(self, store: Store, record: journal.Record) -> None:
        if record["kind"] == "create":
            self.experiment_id = store.experiment(record["experiment"])
            self.mlflow_id = store.create_run(self.experiment_id, record)
            store.log(self.mlflow_id, params=record["params"], tags=record["tags"])
            store.log_dataset(self.mlflow_id, record["dataset"])
            return
        assert self.mlflow_id is not None, "a journal begins with its create record"
        match record["kind"]:
            case "start":
                told = {key: str(record[key]) for key in ("host", "threads", "backend")}
                store.log(self.mlflow_id, tags=told)
                store.set_status(self.mlflow_id, "RUNNING")
            case "tags":
                store.log(self.mlflow_id, tags=record["tags"])
            case "artifact":
                if (self.folder / record["path"]).is_file():
                    store.log_artifact(self.mlflow_id, self.folder, record["path"])
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
