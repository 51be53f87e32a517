"""The history of a run: every kind of record, and what the last one of each kind means."""

import math
from pathlib import Path
from typing import Any

import pytest

from harness.nn import metrics
from harness.runfolder import versions
from harness.runfolder.history import History, read_history
from harness.runfolder.journal import FILE_NAME, Journal, JournalError
from harness.runfolder.status import RunStatus

CREATE = {
    "run": "abc", "name": "batch=16", "params": {"batch": 16, "lr": 0.2}, "tags": {"a": "1"},
    "experiment": "mnist", "dataset": {"name": "mnist"},
}  # fmt: skip
START = {"host": "h", "pid": 1, "threads": 2, "backend": "numpy"}
INTERRUPTED = {"status": "KILLED", "error": "interrupted"}


def read(folder: Path, *records: tuple[str, dict[str, Any]]) -> History:
    """The history of a journal with these records after its create record."""
    with Journal(folder / FILE_NAME) as journal:
        journal.append("create", **CREATE)
        for kind, content in records:
            journal.append(kind, **content)
    return read_history(folder / FILE_NAME)


def epoch(number: int, **values: float) -> tuple[str, dict[str, Any]]:
    return "epoch", {"epoch": number, "metrics": values}


def test_create(tmp_path: Path) -> None:
    history = read(tmp_path)
    assert (history.run, history.name) == ("abc", "batch=16")
    assert history.params == versions.before() | CREATE["params"], "as before"
    assert history.tags == {"a": "1"}
    assert (history.status, history.error) == (RunStatus.CREATED, None)
    assert (history.start, history.epochs, history.final, history.artifacts) == (None, [], {}, {})
    assert not history.is_pruned


def test_start(tmp_path: Path) -> None:
    end = ("end", {"status": "FAILED", "error": "why"})
    history = read(tmp_path, ("start", START), end, ("start", START | {"pid": 2}))
    assert (history.status, history.error) == (RunStatus.RUNNING, None), "the error is the last's"
    assert history.start is not None
    assert history.start["pid"] == 2


def test_epochs(tmp_path: Path) -> None:
    history = read(
        tmp_path,
        epoch(1, a=0.5, b=1.0),
        epoch(2, a=0.25),
        epoch(3, a=0.75),
        epoch(2, a=0.125),  # resumed from the checkpoint of epoch 1
    )
    assert [record["epoch"] for record in history.epochs] == [1, 2]
    assert history.curve("a") == [0.5, 0.125]
    assert history.curve("b") == [1.0]
    assert history.curve("c") == []


def test_seconds_are_those_of_the_epochs(tmp_path: Path) -> None:
    history = read(tmp_path, *(epoch(n, **{metrics.EPOCH_S: n / 4}) for n in (1, 2, 3)))
    assert history.seconds == 1.5
    assert read_history(tmp_path / FILE_NAME) == history


def test_final_and_artifacts(tmp_path: Path) -> None:
    history = read(
        tmp_path,
        ("final", {"epoch": 3, "metrics": {"test/error": 0.5}}),
        ("artifact", {"path": "weights/best.safetensors"}),
        ("artifact", {"path": "plots/x.png"}),
    )
    assert history.final == {"test/error": 0.5}
    assert list(history.artifacts) == ["weights/best.safetensors", "plots/x.png"]


def test_tags_are_joined(tmp_path: Path) -> None:
    history = read(tmp_path, ("tags", {"tags": {"a": "2", "b": "3"}}), ("tags", {"tags": {}}))
    assert history.tags == {"a": "2", "b": "3"}


def test_tags_are_also_what_the_last_attempt_was(tmp_path: Path) -> None:
    failed = [("start", START), ("end", {"status": "FAILED", "error": "why"})]
    history = read(tmp_path, *failed)
    assert (history.tags["host"], history.tags["error"]) == (START["host"], "why")
    assert history.user_tags == {}
    history = read(tmp_path, *failed, ("start", START | {"host": "b", "threads": 2}))
    assert (history.tags["host"], history.tags["threads"]) == ("b", "2")
    assert "error" not in history.tags


def test_a_value_that_is_not_finite_is_a_tag(tmp_path: Path) -> None:
    history = read(tmp_path, epoch(1, a=1.0), epoch(2, a=math.inf, b=0.5), epoch(3, a=1.0))
    assert history.tags["nonfinite"] == "a = inf at step 2"


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_end(tmp_path: Path, status: str) -> None:
    history = read(tmp_path, ("start", START), ("end", {"status": status, "error": "why"}))
    assert (history.status, history.error) == (RunStatus(status), "why")


def test_an_unknown_kind_of_record_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a newer version may write."""
    news, start = ("news", {"content": 1}), ("start", START | {"moon": "full"})
    history = read(tmp_path, start, news, news)
    assert history.status is RunStatus.RUNNING
    assert history.unknown == ("start.moon", "kind=news")
    (warning,) = caplog.messages
    assert f"{tmp_path / FILE_NAME}: a newer version" in warning
    assert (
        "wrote start.moon, kind=news, which this version does not know; they are ignored" in warning
    )


@pytest.mark.parametrize("error", ["pruned by the search after epoch 3", "worded otherwise", None])
def test_a_run_is_pruned_by_its_tag_whatever_the_error_says(
    tmp_path: Path, error: str | None
) -> None:
    tag = ("tags", {"tags": {"pruned": "true"}})
    end = ("end", {"status": "KILLED", "error": error})
    assert read(tmp_path, ("start", START), tag, end).is_pruned


def test_the_words_of_an_error_do_not_make_a_run_pruned(tmp_path: Path) -> None:
    end = ("end", {"status": "KILLED", "error": "pruned by the search after epoch 3"})
    assert not read(tmp_path, ("start", START), end).is_pruned


def test_a_pruned_run_that_was_killed_first_is_pruned(tmp_path: Path) -> None:
    """The job writes its own end record before the search writes the tag."""
    tag = ("tags", {"tags": {"pruned": "true"}})
    assert read(tmp_path, ("start", START), ("end", INTERRUPTED), tag).is_pruned


def test_a_pruned_run_that_is_started_again_is_not_pruned(tmp_path: Path) -> None:
    records = [("start", START), ("tags", {"tags": {"pruned": "true"}}), ("end", INTERRUPTED)]
    assert read(tmp_path, *records).is_pruned
    (tmp_path / FILE_NAME).unlink()
    running = read(tmp_path, *records, ("start", START))
    assert (running.status, running.is_pruned) == (RunStatus.RUNNING, False)
    (tmp_path / FILE_NAME).unlink()
    killed = read(tmp_path, *records, ("start", START), ("end", INTERRUPTED))
    assert (killed.status, killed.is_pruned) == (RunStatus.KILLED, False)
    assert "pruned" not in killed.tags, "so that a filter does not find it"


def test_other_tags_do_not_change_whether_a_run_is_pruned(tmp_path: Path) -> None:
    tag, other = ("tags", {"tags": {"pruned": "true"}}), ("tags", {"tags": {"sweep": "s"}})
    assert read(tmp_path, ("start", START), tag, ("end", INTERRUPTED), other).is_pruned
    (tmp_path / FILE_NAME).unlink()
    removed = ("tags", {"tags": {"pruned": "false"}})
    assert not read(tmp_path, ("start", START), tag, ("end", INTERRUPTED), removed).is_pruned


def test_a_finished_run_is_never_pruned(tmp_path: Path) -> None:
    tag, end = ("tags", {"tags": {"pruned": "true"}}), ("end", {"status": "FINISHED", "error": ""})
    assert not read(tmp_path, ("start", START), tag, end).is_pruned


def test_damage_after_the_first_record_is_a_status(tmp_path: Path) -> None:
    read(tmp_path, ("start", START), epoch(1, a=0.5), ("end", INTERRUPTED))
    path = tmp_path / FILE_NAME
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    history = read_history(path)
    assert history.status is RunStatus.DAMAGED
    assert str(path) in str(history.error)
    assert len(history.epochs) == 1


def test_damage_of_the_first_record_is_an_error(tmp_path: Path) -> None:
    read(tmp_path, ("start", START))
    path = tmp_path / FILE_NAME
    content = bytearray(path.read_bytes())
    content[12] ^= 1
    path.write_bytes(content)
    with pytest.raises(JournalError, match="record at byte 0"):
        read_history(path)


def test_a_journal_begins_with_its_create_record(tmp_path: Path) -> None:
    with Journal(tmp_path / FILE_NAME) as journal:
        journal.append("start", **START)
    with pytest.raises(JournalError, match="create record"):
        read_history(tmp_path / FILE_NAME)


def test_what_the_trainings_took_is_that_of_the_newest_record_that_tells(tmp_path: Path) -> None:
    def told(cpu_s: float) -> dict[str, Any]:
        return {"machine": {"cpu_s": cpu_s}}

    def more(*records: tuple[str, dict[str, Any]]) -> dict[str, float] | None:
        with Journal(tmp_path / FILE_NAME) as journal:
            for kind, content in records:
                journal.append(kind, **content)
        return read_history(tmp_path / FILE_NAME).machine

    assert read(tmp_path, ("start", START)).machine is None
    first = epoch(1, a=0.5)[1]
    assert more(("epoch", first | told(1.5))) == {"cpu_s": 1.5}
    assert more(("end", INTERRUPTED | told(2.5))) == {"cpu_s": 2.5}
    assert more(("start", START), ("end", INTERRUPTED)) == {"cpu_s": 2.5}, "as of a killed one"
    assert more(("epoch", epoch(2, a=0.5)[1] | told(3.5))) == {"cpu_s": 3.5}
    assert read_history(tmp_path / FILE_NAME).unknown == ()


def test_what_trainings_of_an_earlier_version_took_is_not_known(tmp_path: Path) -> None:
    history = read(tmp_path, ("start", START), epoch(1, a=0.5), ("end", INTERRUPTED))
    assert history.machine == {}
