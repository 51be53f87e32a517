r"""The journal of a run: an append-only file of checksummed records, the authoritative record.

One line is one record: the CRC-32 of the JSON text as eight hexadecimal digits, a space, the JSON
text, a newline. Every record holds `n` (its number, from 0), `kind` and `ms` (Unix time in
milliseconds). A record counts only if its line is complete: the next writer cuts off a tail torn by
a crash and keeps the records before it. Kinds, in the order in which they appear:

    create    run id, name, params, tags, experiment, data set        (written with the folder)
    start     host, pid and threads of the process that trains it     (again when resumed)
    epoch     epoch number, its metrics, and the machine use of the run so far
    final     the metrics with one value per run, at step = epochs
    artifact  a finished file: its path in the run folder, bytes and SHA-256
    tags      tags added later
    store     the address of another tracking store that gets the run from now on
    end       FINISHED, FAILED or KILLED, and the error               (the last one counts);
              if training did not finish, also its machine use
"""

import errno
import json
import math
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from harness.data.atomic import named, revalidate

FILE_NAME = "journal.jsonl"
Record = dict[str, Any]
RECORDS = {  # the kinds, each with its fields
    kind: frozenset({"n", "kind", "ms", *fields})
    for kind, fields in {
        "create": (
            *("run", "name", "order", "config_sha256", "params", "tags", "experiment", "dataset"),
            "code",
        ),
        "start": ("host", "pid", "process_started", "threads", "backend"),
        "epoch": ("epoch", "metrics", "machine"),
        "final": ("epoch", "metrics"),
        "artifact": ("path", "bytes", "sha256"),
        "tags": ("tags", "by"),
        "store": ("uri",),
        "end": ("status", "error", "machine"),
    }.items()
}


class JournalError(ValueError):
    """A complete record has a wrong checksum, number or JSON: the file was changed or damaged."""


def encode(record: Record) -> bytes:
    """One record as its line. Non-finite metric values become "nan", "inf", "-inf"."""
    if "metrics" in record:
        record = record | {"metrics": {k: _spell(v) for k, v in record["metrics"].items()}}
    text = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read(path: Path, offset: int = 0) -> tuple[list[Record], int, bool]:
    """Read the complete records from byte `offset` on.

    Returns the records, the offset after the last one, and whether an incomplete tail follows.
    Raises `JournalError` naming the file, the byte and the cause if a complete line is not the next
    record.
    """
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read()
    records, end = [], offset
    for record, end in _split(content, path, offset):  # noqa: B007
        records.append(record)
    return records, end, end < offset + len(content)


def scan(path: Path, offset: int = 0) -> Iterator[tuple[Record, int]]:
    """Like `read`, but yields each record with its end offset, including those before damage."""
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read()
    yield from _split(content, path, offset)


def read_create(path: Path) -> Record:
    """Read only the create record. Raises `JournalError` if the first record is not one."""
    with path.open("rb") as file:
        line = file.readline()
    for record, _ in _split(line, path, 0):
        if record["kind"] == "create":
            return record
    raise JournalError(f"{path}: expected a journal that starts with its create record")


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
    """The only writer of a run's journal; use it as a context manager.

    Opening an existing journal verifies it and cuts off a torn tail. Each record is flushed and
    fsynced before `append` returns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process = os.getpid()
        self._next, self._end = 0, 0
        if path.exists():
            revalidate(path)
            read(path)  # raise on damage before opening anything for writing
        self._file = path.open("ab", buffering=0)
        self._settle()

    def append(self, kind: str, **content: Any) -> Record:
        """Write one record durably and return it.

        Raises `JournalError` in a process that was forked from the writer.
        Raises `OSError` if the disk refuses, after cutting off what it took of the record, and if
        the file was removed, which ends the run.
        """
        if os.getpid() != self._process:
            raise JournalError(f"{self.path}: a forked process must not write into it")
        self.check_present()
        self._settle()
        record = {"n": self._next, "kind": kind, "ms": time.time_ns() // 1_000_000, **content}
        line = encode(record)
        try:
            rest = memoryview(line)
            while rest:  # a nearly full disk can do a short write without an error
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(self._end)
            raise named(error, self.path) from None
        self._next, self._end = record["n"] + 1, self._end + len(line)
        return record

    def check_present(self) -> None:
        """Raise `FileNotFoundError` if the file was removed while it was open."""
        with suppress(FileNotFoundError, NotADirectoryError):
            if os.path.samestat(self.path.stat(), os.fstat(self._file.fileno())):
                return
        raise FileNotFoundError(errno.ENOENT, "was removed", str(self.path))

    def _settle(self) -> None:
        """After an interrupted append: count complete records, cut off an incomplete one."""
        if os.fstat(self._file.fileno()).st_size == self._end:
            return
        records, end, torn = read(self.path, self._end)
        if torn:
            self._file.truncate(end)
        if records:
            self._next, self._end = records[-1]["n"] + 1, end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


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
