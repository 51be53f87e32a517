r"""The journal of a run: an append-only file of checksummed records, the truth about the run.

One line is one record: the CRC-32 of the JSON text as eight hexadecimal digits, a space, the JSON
text, a newline. Every record holds `n` (its number, from 0), `kind` and `ms` (Unix time in
milliseconds). A record counts only when its line is complete: a tail torn by a crash is cut off by
the next writer, and everything before it stands. Kinds, in the order in which they appear:

    create    run id, name, params, tags, experiment, data set        (written with the folder)
    start     who trains it: host, pid, threads                       (again when resumed)
    epoch     epoch number and its metrics
    final     the metrics known once, at step = epochs
    artifact  a finished file, relative to the run folder
    tags      tags added later
    end       FINISHED, FAILED or KILLED, and the error               (the last one counts)
"""

import json
import math
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FILE_NAME = "journal.jsonl"
Record = dict[str, Any]


class JournalError(ValueError):
    """A complete record whose checksum, number or JSON is wrong: the file was changed or rotted."""


def encode(record: Record) -> bytes:
    """One record as its line. Non-finite metric values become "nan", "inf", "-inf"."""
    if "metrics" in record:
        record = record | {"metrics": {k: _spell(v) for k, v in record["metrics"].items()}}
    text = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read(path: Path, offset: int = 0) -> tuple[list[Record], int, bool]:
    """Read the complete records from byte `offset` on.

    Returns the records, the offset behind the last of them, and whether an incomplete tail follows.
    Raises `JournalError` naming the file, the byte and the cause when a complete line is not a
    record.
    """
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read()
    records = []
    lines = content.split(b"\n")
    for line in lines[:-1]:
        records.append(_decode(line, path, offset))
        offset += len(line) + 1
    return records, offset, bool(lines[-1])


class Journal:
    """The one writer of a run's journal; use it as a context manager.

    Opening an existing journal verifies it and cuts off a torn tail. Each record is flushed and
    fsynced before `append` returns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab")
        records, end, torn = read(path)
        if torn:
            self._file.truncate(end)
        self._next = len(records)

    def append(self, kind: str, **content: Any) -> Record:
        """Write one record durably and return it. Raises `OSError` when the disk refuses."""
        record = {"n": self._next, "kind": kind, "ms": time.time_ns() // 1_000_000, **content}
        self._file.write(encode(record))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._next += 1
        return record

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


@dataclass(frozen=True)
class History:
    """What a journal says about its run, the last word of each kind.

    `status` is CREATED before the first start, RUNNING while the last start has no end after it,
    else FINISHED, FAILED or KILLED. `epochs` holds one record per epoch in order.
    """

    create: Record
    start: Record | None = None
    epochs: list[Record] = field(default_factory=list)
    final: dict[str, float] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    status: str = "CREATED"
    error: str | None = None

    @property
    def run(self) -> str:
        """The run id."""
        return str(self.create["run"])

    def curve(self, key: str) -> list[float]:
        """The values of one metric, epoch by epoch; empty where it was not recorded."""
        return [e["metrics"][key] for e in self.epochs if key in e["metrics"]]

    @property
    def seconds(self) -> float:
        """Training time: the sum of `time/epoch_s`."""
        return sum(self.curve("time/epoch_s"))


def history(folder: Path) -> History:
    """Read a run folder's journal as a whole. Raises `JournalError` where it is not one."""
    path = folder / FILE_NAME
    records, _, _ = read(path)
    if not records or records[0]["kind"] != "create":
        raise JournalError(f"{path}: expected a journal that begins with its create record")
    told = History(create=records[0], tags=dict(records[0]["tags"]))
    for record in records[1:]:
        told = _tell(told, record)
    return told


def _tell(told: History, record: Record) -> History:
    match record["kind"]:
        case "start":
            return _with(told, start=record, status="RUNNING", error=None)
        case "epoch":
            earlier = [e for e in told.epochs if e["epoch"] < record["epoch"]]
            return _with(told, epochs=[*earlier, record])
        case "final":
            return _with(told, final=record["metrics"])
        case "tags":
            return _with(told, tags=told.tags | record["tags"])
        case "artifact":
            return _with(told, artifacts=[*told.artifacts, record["path"]])
        case "end":
            return _with(told, status=record["status"], error=record["error"])
    return told


def _with(told: History, **changes: Any) -> History:
    return History(**{**told.__dict__, **changes})


def _decode(line: bytes, path: Path, offset: int) -> Record:
    where = f"{path}: the record at byte {offset}"
    if len(line) < 10 or line[8:9] != b" " or line[:8] != b"%08x" % zlib.crc32(line[9:]):
        raise JournalError(f"{where} does not match its checksum; restore the file from a copy")
    try:
        record: Record = json.loads(line[9:])
    except ValueError as error:
        raise JournalError(f"{where} is not JSON: {error}") from error
    if "metrics" in record:
        record["metrics"] = {k: float(v) for k, v in record["metrics"].items()}
    return record


def _spell(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def folders(runs: Path) -> Iterator[Path]:
    """The run folders under `outputs/runs`, oldest first; none when the folder does not exist."""
    if runs.is_dir():
        found = [path for path in runs.iterdir() if (path / FILE_NAME).is_file()]
        yield from sorted(found, key=lambda path: (path / "config.yaml").stat().st_mtime_ns)
