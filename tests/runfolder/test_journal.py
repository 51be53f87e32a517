"""The journal: torn tails are cut off, damage is reported, records are read as written."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.runfolder import journal
from harness.runfolder.history import read_history
from harness.runfolder.journal import Journal, JournalError

quick = settings(deadline=None, max_examples=50, database=None)


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


def test_a_writer_sees_what_another_machine_wrote_just_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records appear when the network file system is asked; it stands for GlusterFS."""
    path = written(tmp_path / journal.FILE_NAME)
    newest = path.read_bytes()
    path.write_bytes(newest[: newest.index(b"\n") + 1])
    monkeypatch.setattr(journal, "revalidate", lambda asked: asked.write_bytes(newest))
    with Journal(path) as writer:
        assert writer.append("end", status="FINISHED", error=None)["n"] == 5
    assert len(journal.read(path)[0]) == 6


def test_a_torn_tail_is_cut_off(tmp_path: Path) -> None:
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


def test_any_flipped_bit_is_reported(tmp_path: Path) -> None:
    path = written(tmp_path / journal.FILE_NAME, epochs=1)
    content = path.read_bytes()
    for position in range(len(content) - 1):
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(JournalError, match="record at byte"):
            journal.read(path)


def test_reading_continues_where_it_stopped(tmp_path: Path) -> None:
    path = written(tmp_path / journal.FILE_NAME)
    _, offset, _ = journal.read(path)
    assert journal.read(path, offset) == ([], offset, False)
    with Journal(path) as writer:
        writer.append("end", status="FINISHED", error=None)
    (record,), _, _ = journal.read(path, offset)
    assert record["kind"] == "end"


def test_not_a_journal(tmp_path: Path) -> None:
    (tmp_path / journal.FILE_NAME).write_bytes(b"")
    with pytest.raises(JournalError, match="create record"):
        read_history(tmp_path / journal.FILE_NAME)


def test_a_truncated_journal_keeps_its_complete_records(tmp_path: Path) -> None:
    path = written(tmp_path / journal.FILE_NAME)
    content = path.read_bytes()
    records = journal.read(path)[0]
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        left, _, torn = journal.read(path)
        assert left == records[: content[:end].count(b"\n")]
        assert torn == (content[:end][-1:] not in (b"", b"\n"))


@quick
@given(st.data())
def test_flipped_bits_never_give_a_wrong_record(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    path = written(folder / journal.FILE_NAME)
    records = journal.read(path)[0]
    content = bytearray(path.read_bytes())
    for bit in data.draw(st.sets(st.integers(0, 8 * len(content) - 1), min_size=1, max_size=6)):
        content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    read = []
    try:
        for record, _ in journal.scan(path):
            read.append(record)
    except JournalError:
        assert len(read) < len(records)
    assert read == records[: len(read)]


@quick
@given(st.permutations(range(5)))
def test_reordered_lines_are_detected(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    path = written(tmp_path_factory.mktemp("moved") / journal.FILE_NAME)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[index] for index in order))
    if order == sorted(order):
        assert len(journal.read(path)[0]) == 5
    else:
        with pytest.raises(JournalError, match="is number"):
            journal.read(path)


def test_damage_is_a_status_and_the_records_before_it_are_kept(tmp_path: Path) -> None:
    path = written(tmp_path / journal.FILE_NAME)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    history = read_history(tmp_path / journal.FILE_NAME)
    assert history.status == "DAMAGED"
    assert "does not match its checksum" in (history.error or "")
    assert len(history.epochs) == 2
    with pytest.raises(JournalError):
        Journal(path)


@pytest.mark.parametrize("written_bytes", [0, 7, 10_000])
def test_a_signal_inside_an_append_leaves_no_half_record(
    tmp_path: Path, written_bytes: int
) -> None:
    """The next append finds a record that was written but not counted, or a part of one."""
    path = tmp_path / journal.FILE_NAME
    with Journal(path) as writer:
        writer.append("create", run="abc", name="n", params={}, tags={})
        line = journal.encode({"n": 1, "kind": "epoch", "ms": 1, "epoch": 1, "metrics": {}})
        with path.open("ab") as other:
            other.write(line[:written_bytes])
        writer.append("end", status="KILLED", error="interrupted")
    kinds = ["create", "epoch", "end"] if written_bytes > len(line) else ["create", "end"]
    records = journal.read(path)[0]
    assert [record["kind"] for record in records] == kinds
    assert [record["n"] for record in records] == list(range(len(kinds)))


def test_a_journal_that_was_removed_is_noticed_though_the_system_keeps_the_file(
    tmp_path: Path,
) -> None:
    """As NFS does, under another name, while it is open."""
    with Journal(tmp_path / "j") as writer:
        writer.append("create")
        (tmp_path / ".nfs0001").hardlink_to(tmp_path / "j")
        (tmp_path / "j").unlink()
        with pytest.raises(FileNotFoundError, match="was removed"):
            writer.append("start")
