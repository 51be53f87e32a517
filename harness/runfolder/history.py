"""The state of a run, read from its journal: the last record of each kind counts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.nn import metrics
from harness.runfolder import versions
from harness.runfolder.artifacts import Artifact
from harness.runfolder.journal import JournalError, Record, read_create, scan
from harness.runfolder.status import RunStatus

ARCHIVED = "archived"  # the tag of a run that is not listed
USER = "user"  # the author of a record of tags, if not the harness
PAUSED = "paused by the search"  # the end reason of a job that a search can continue
PAUSED_AFTER = "paused_after"  # the tag of a paused run: the epochs after which it paused
PRUNED = "pruned"  # the tag of a run that its search ended early
OF_ATTEMPT = ("error", PRUNED)  # tags that say how a training ended; the next start removes them


@dataclass(frozen=True)
class History:
    """The state of a run according to its journal.

    `status` is CREATED before the first start, RUNNING while the last start has no end after it,
    else FINISHED, FAILED or KILLED; DAMAGED if a record cannot be read, which `error` names.
    `epochs` holds one record per epoch in order; `final` the metrics of the last record of that
    kind; `artifacts` the last record of each file by its path; `start` the last start record.
    `user_tags`: the `tags` that `harness tag` set.
    `tags`: the tags that records set or that describe the last attempt, see `tags_of`.
    `ended_ms`: the time of the end record, if the run has ended.
    `store`: the address of another store that the run was moved to later (`local`: the one in
    outputs). `unfinished`: the last end record with the machine use of a session.
    `unknown`: what a newer version wrote and this one does not know.
    """

    create: Record
    start: Record | None = None
    epochs: list[Record] = field(default_factory=list)
    final: dict[str, float] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    user_tags: dict[str, str] = field(default_factory=dict)
    status: RunStatus = RunStatus.CREATED
    error: str | None = None
    store: str | None = None
    ended_ms: int | None = None
    unfinished: Record | None = None
    unknown: tuple[str, ...] = ()

    @property
    def is_archived(self) -> bool:
        """Whether `harness archive` put the run aside."""
        return self.tags.get(ARCHIVED) == "true"

    @property
    def created_ms(self) -> int:
        """When the run folder was made, in ms since 1970."""
        return int(self.create["ms"])

    @property
    def run(self) -> str:
        """The run id."""
        return str(self.create["run"])

    @property
    def name(self) -> str:
        """The run's name, such as `batch=16,seed=1`."""
        return str(self.create["name"])

    @property
    def data_set(self) -> str:
        """The name of the run's data set; runs with different ones are not ranked together."""
        return str(self.create["dataset"]["name"])

    @cached_property
    def params(self) -> dict[str, Any]:
        """Every setting by its dotted key; settings added since then match what the run did."""
        return versions.completed(self.create["params"])

    @property
    def is_pruned(self) -> bool:
        """Whether the run is over because its search ended it early."""
        return bool(self.how_pruned)

    @property
    def how_pruned(self) -> str:
        """See the function `how_pruned`."""
        return how_pruned(self.status, self.error, self.tags)

    @property
    def code(self) -> list[dict[str, str]]:
        """The source files of the user's modules that the run uses: root, path and syntax."""
        return list(self.create.get("code", []))

    def curve(self, key: str) -> list[float]:
        """The recorded values of one metric, epoch by epoch."""
        return [e["metrics"][key] for e in self.epochs if key in e["metrics"]]

    @property
    def seconds(self) -> float:
        """Training time: the sum of `time/epoch_s`."""
        return sum(self.curve(metrics.EPOCH_S))

    @property
    def machine(self) -> dict[str, float] | None:
        """The total machine use of its training sessions, from the newest record that has it.

        None: there is no such record. Empty: unknown, because an earlier version wrote the record.
        """
        telling = [*self.epochs[-1:], *([self.unfinished] if self.unfinished else [])]
        if not telling:
            return None
        return dict(max(telling, key=lambda record: int(record["n"])).get("machine", {}))

    def then(self, record: Record) -> "History":
        """The history after one more record."""
        match record["kind"]:
            case "start":
                kept = {key: value for key, value in self.tags.items() if key not in OF_ATTEMPT}
                return replace(
                    self, start=record, status=RunStatus.RUNNING, error=None,
                    tags=kept | tags_of(record), ended_ms=None,
                )  # fmt: skip
            case "epoch":
                earlier = [e for e in self.epochs if e["epoch"] < record["epoch"]]
                tags = self.tags | tags_of(record)
                return replace(self, epochs=[*earlier, record], tags=tags)
            case "final":
                tags = self.tags | tags_of(record)
                return replace(self, final=record["metrics"], tags=tags)
            case "tags":
                tags = record["tags"]
                if record.get("by") == USER:
                    its = {key: value for key, value in (self.user_tags | tags).items() if value}
                    kept = {key: value for key, value in self.tags.items() if key not in tags}
                    return replace(self, tags=kept | its, user_tags=its)
                return replace(self, tags=self.tags | tags)
            case "artifact":
                artifact = Artifact.of(record)
                return replace(self, artifacts=self.artifacts | {artifact.path: artifact})
            case "store":
                return replace(self, store=record["uri"])
            case "end":
                status = RunStatus(record["status"])
                unfinished = record if "machine" in record else self.unfinished
                return replace(
                    self, status=status, error=record["error"], ended_ms=record["ms"],
                    tags=self.tags | tags_of(record), unfinished=unfinished,
                )  # fmt: skip
        return self


def tags_of(record: Record) -> dict[str, str]:
    """The tags that a record sets: its own, or those that describe an attempt to train."""
    match record["kind"]:
        case "start":
            facts = {key: record[key] for key in ("host", "threads", "backend")}
            # Only the built-in trainer has a backend.
            return {key: str(value) for key, value in facts.items() if value is not None}
        case "tags":
            return dict(record["tags"])
        case "end":
            return {"error": record["error"]} if record["error"] else {}
    # MLflow would store infinity as 1.797e308: a tag holds it instead.
    notes = [
        f"{key} = {value} at step {record['epoch']}"
        for key, value in record.get("metrics", {}).items()
        if not math.isfinite(value)
    ]
    return {"nonfinite": notes[-1]} if notes else {}


def how_pruned(status: RunStatus, error: str | None, tags: Mapping[str, str]) -> str:
    """`paused` or `pruned` if the search of a run ended it so, else empty. A paused run can go on.

    error: the text in its end record.
    """
    if status is not RunStatus.KILLED or tags.get(PRUNED) != "true":
        return ""
    return "paused" if (error or "").startswith(PAUSED) else "pruned"


def begin(create: Record) -> History:
    """The history of a run that has only its create record."""
    return History(create=create, tags=dict(create["tags"]))


def read_history(path: Path) -> History:
    """Read a whole journal. A warning names content that this version does not know.

    Raises `JournalError` if its create record cannot be read; damage after it gives DAMAGED.
    """
    history = begin(read_create(path))
    unknown: dict[str, None] = {}
    try:
        for record, _ in scan(path):
            if record["kind"] == "epoch" and _follows(history.epochs, record):
                history.epochs.append(record)  # most records; the list and tags are not shared
                history.tags.update(tags_of(record))
            else:
                history = history.then(record)
            unknown |= dict.fromkeys(versions.unknown_of(record))
    except JournalError as error:
        history = replace(history, status=RunStatus.DAMAGED, error=str(error))
    versions.warn(path, tuple(unknown))
    return replace(history, unknown=tuple(unknown)) if unknown else history


def _follows(epochs: list[Record], record: Record) -> bool:
    return not epochs or bool(epochs[-1]["epoch"] < record["epoch"])
