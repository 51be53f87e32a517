"""Delivering everything on disk and proving that the store has it."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from harness.runfolder import journal
from harness.runfolder.journal import Journal
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.sync import prove
from tests.conftest import command_in
from tests.tracking.conftest import deliver, make_run

pytestmark = [
    pytest.mark.service,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own
]


def test_local_damage_to_a_delivered_run_affects_no_other(tmp_path: Path) -> None:
    """A damaged record or config affects its own run; a removed artifact is in the store."""
    damaged, unset, removed, well = (make_run(tmp_path, name) for name in "abcd")
    (removed / "note.txt").write_text("a note")
    with Journal(removed / journal.FILE_NAME) as writer:
        writer.append("artifact", path="note.txt")
    deliver(tmp_path, damaged, unset, removed, well)
    content = bytearray((damaged / journal.FILE_NAME).read_bytes())
    content[-9] ^= 1
    (damaged / journal.FILE_NAME).write_bytes(content)
    (unset / "config.yaml").write_text("of: an older schema\n")
    (removed / "note.txt").unlink()
    proofs = prove(
        Target.local(tmp_path),
        [
            Run(each)
            for each in (
                damaged,
                unset,
                removed,
                well,
            )
        ],
    )
    assert "a/journal.jsonl: the record at byte" in proofs[0].differences[0]
    assert "config.yaml: " in proofs[1].differences[0]
    assert [proof.differences for proof in proofs[2:]] == [(), ()]
    done = command_in(tmp_path)("harness", "sync", "--outputs", ".")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "3 of 4 runs complete" in done.stdout
    assert "a: runs/a/journal.jsonl: the record at byte" in done.stderr
    assert command_in(tmp_path)("harness", "clean", "--outputs", ".").returncode == 0


def test_a_new_store_gets_everything_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "aaa", status=None)
    sync = partial(command_in(tmp_path), "harness", "sync", "--outputs", ".")
    sync()
    (tmp_path / "mlflow.db").unlink()
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("end", status="FINISHED", error=None)
    done = sync()
    assert done.returncode == 0, done.stderr
    assert "1 of 1 runs complete, 10 metric rows compared" in done.stdout


def test_what_the_store_lost_is_found_and_sent_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "aaa")
    deliver(tmp_path, folder)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("DELETE FROM metrics WHERE step = 3")
    (proof,) = prove(Target.local(tmp_path), [Run(folder)])
    assert proof.differences == (
        "train/loss: 4 of 5 rows as in the journal", "val/error: 4 of 5 rows as in the journal",
    )  # fmt: skip
    done = command_in(tmp_path)("harness", "sync", "--outputs", ".")
    assert "sending 1 runs again" in done.stdout
    assert done.returncode == 0, done.stderr
    assert prove(Target.local(tmp_path), [Run(folder)])[0].differences == ()
