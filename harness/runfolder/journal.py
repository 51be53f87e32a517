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

from harness.data.atomic import named

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
    Raises `JournalError` naming the file, the byte and the cause when a complete line is not the
    next record.
    """
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read()
    records, end = [], offset
    for record, end in _split(content, path, offset):  # noqa: B007
        records.append(record)
    return records, end, end < offset + len(content)


def scan(path: Path, offset: int = 0) -> Iterator[tuple[Record, int]]:
    """What `read` reads, one by one, each with the offset behind it: also what precedes damage."""
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read()
    yield from _split(content, path, offset)


def _split(content: bytes, path: Path, offset: int) -> Iterator[tuple[Record, int]]:
    expected = 0 if offset == 0 else None
    for line in content.split(b"\n")[:-1]:
        try:
            record = _decode(line, expected)
        except ValueError as error:
            raise JournalError(
                f"{path}: the record at byte {offset} {error}; restore the file from a copy"
            ) from None
        expected = int(record["n"]) + 1
        offset += len(line) + 1
        yield record, offset


class Journal:
    """The one writer of a run's journal; use it as a context manager.

    Opening an existing journal verifies it and cuts off a torn tail. Each record is flushed and
    fsynced before `append` returns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._next, self._end = 0, 0
        if path.exists():
            read(path)  # damage is named before anything is opened for writing
        self._file = path.open("ab", buffering=0)
        self._settle()

    def append(self, kind: str, **content: Any) -> Record:
        """Write one record durably and return it.

        Raises `OSError` when the disk refuses; what it took of the record is cut off again.
        """
        self._settle()
        record = {"n": self._next, "kind": kind, "ms": time.time_ns() // 1_000_000, **content}
        line = encode(record)
        try:
            rest = memoryview(line)
            while rest:  # a disk that fills up takes a part without complaint
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(self._end)
            raise named(error, self.path) from None
        self._next, self._end = record["n"] + 1, self._end + len(line)
        return record

    def _settle(self) -> None:
        """Count what an append that a signal interrupted wrote whole; cut off what it did not."""
        if os.fstat(self._file.fileno()).st_size == self._end:
            return
        records, end, torn = read(self.path, self._end)
        if torn:
            self._file.truncate(end)
        if records:
            self._next, self._end = records[-1]["n"] + 1, end

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
    else FINISHED, FAILED or KILLED; DAMAGED when a record cannot be read, which `error` names.
    `epochs` holds one record per epoch in order.
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
    """Read a run folder's journal as a whole.

    Raises `JournalError` where not even its create record can be read.
    """
    path = folder / FILE_NAME
    told, damage = None, None
    try:
        for record, _ in scan(path):
            if told is not None:
                told = _tell(told, record)
            elif record["kind"] == "create":
                told = History(create=record, tags=dict(record["tags"]))
            else:
                break
    except JournalError as error:
        damage = error
    if told is None:
        raise damage or JournalError(
            f"{path}: expected a journal that begins with its create record"
        )
    return told if damage is None else _with(told, status="DAMAGED", error=str(damage))


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


def _decode(line: bytes, number: int | None) -> Record:
    if len(line) < 10 or line[8:9] != b" " or line[:8] != b"%08x" % zlib.crc32(line[9:]):
        raise ValueError("does not match its checksum")
    try:
        record: Record = json.loads(line[9:])
    except ValueError as error:
        raise ValueError(f"is not JSON ({error})") from error
    if number is not None and record["n"] != number:
        raise ValueError(f"is number {record['n']} instead of {number}")
    if "metrics" in record:
        record["metrics"] = {k: float(v) for k, v in record["metrics"].items()}
    return record


def _spell(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def folders(runs: Path) -> Iterator[Path]:
    """The run folders under `outputs/runs`, oldest first; none when the folder does not exist.

    A folder that is still being made is hidden: its name begins with a dot.
    """
    if runs.is_dir():
        whole = (path for path in runs.iterdir() if not path.name.startswith("."))
        needed = (FILE_NAME, "config.yaml")
        found = [path for path in whole if all((path / name).is_file() for name in needed)]
        yield from sorted(found, key=_age)


def _age(folder: Path) -> tuple[str, int]:
    """The time in the run's id, which a copy of the folder keeps; then that of its config."""
    return folder.name.partition("-")[2], (folder / "config.yaml").stat().st_mtime_ns
