"""The journal: torn tails are cut, damage is named, what was written is what is read."""

import math
from pathlib import Path

import pytest

from harness.training import journal
from harness.training.journal import Journal, JournalError


def written(path: Path, epochs: int = 3) -> Path:
    with Journal(path) as writer:
        writer.append("create", run="abc", name="n", params={"batch": 16}, tags={"a": "b"})
        writer.append("start", host="h", pid=1, threads=1, backend="numpy")
        for epoch in range(1, epochs + 1):
            writer.append("epoch", epoch=epoch, metrics={"train/loss": 0.1 * epoch})
    return path


def test_round_trip_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / journal.FILE_NAME
    values = {"a": 0.1 + 0.2, "b": 1e-320, "c": math.inf, "d": -math.inf, "e": math.nan}
    with Journal(path) as writer:
        record = writer.append("epoch", epoch=1, metrics=values)
    (read,), end, torn = journal.read(path)
    assert (end, torn) == (path.stat().st_size, False)
    assert read["ms"] == record["ms"]
    assert {k: v for k, v in read["metrics"].items() if k != "e"} == {
        k: v for k, v in values.items() if k != "e"
    }
    assert math.isnan(read["metrics"]["e"])


def test_a_tail_torn_anywhere_is_cut(tmp_path: Path) -> None:
    path = written(tmp_path / journal.FILE_NAME)
    content = path.read_bytes()
    last = content.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(content)):
        path.write_bytes(content[:end])
        records, offset, torn = journal.read(path)
        assert len(records) == 4
        assert (offset, torn) == (last, end > last)
        with Journal(path) as writer:
            assert writer.append("epoch", epoch=3, metrics={})["n"] == 4
        assert [r["n"] for r in journal.read(path)[0]] == [0, 1, 2, 3, 4]


def test_any_flipped_bit_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / journal.FILE_NAME, epochs=1)
    content = path.read_bytes()
    for position in range(len(content) - 1):
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(JournalError, match="record at byte"):
            journal.read(path)


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = written(tmp_path / journal.FILE_NAME)
    _, offset, _ = journal.read(path)
    assert journal.read(path, offset) == ([], offset, False)
    with Journal(path) as writer:
        writer.append("end", status="FINISHED", error=None)
    (record,), _, _ = journal.read(path, offset)
    assert record["kind"] == "end"


def test_history(tmp_path: Path) -> None:
    path = written(tmp_path / journal.FILE_NAME)
    assert journal.history(tmp_path).status == "RUNNING"
    with Journal(path) as writer:
        writer.append("end", status="KILLED", error="interrupted")
        writer.append("start", host="h", pid=2, threads=1, backend="numpy")
        writer.append("epoch", epoch=3, metrics={"train/loss": 9.0})
        writer.append("final", epoch=3, metrics={"test/error": 0.5})
        writer.append("end", status="FINISHED", error=None)
        writer.append("tags", tags={"sweep": "s"})
        writer.append("artifact", path="x.png")
    told = journal.history(tmp_path)
    assert (told.status, told.error, told.run) == ("FINISHED", None, "abc")
    assert told.curve("train/loss") == [0.1, 0.2, 9.0], "a repeated epoch replaces the first"
    assert told.tags == {"a": "b", "sweep": "s"}
    assert told.artifacts == ["x.png"]
    assert told.final == {"test/error": 0.5}


def test_not_a_journal(tmp_path: Path) -> None:
    (tmp_path / journal.FILE_NAME).write_bytes(b"")
    with pytest.raises(JournalError, match="begins with its create record"):
        journal.history(tmp_path)
