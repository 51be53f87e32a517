"""Delivering everything on disk and proving that the store has it, with a real local store.

Covers: tracking/files.py
"""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from harness.commands.sync import sync
from harness.runfolder import delivered, journal
from harness.runfolder.about import NOTE
from harness.runfolder.artifacts import Artifact
from harness.runfolder.journal import Journal
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.delivery import Delivery
from harness.tracking.files import Files
from harness.tracking.store import Store
from harness.tracking.sync import Proof, prove
from tests.conftest import command_in
from tests.tracking.conftest import deliver, expected_points, fresh_store, make_run

pytestmark = [
    pytest.mark.service,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own
]


def synced(outputs: Path, *options: str) -> Result:
    """The result of the command, in this process."""
    fresh_store(outputs)
    result = CliRunner().invoke(sync, ["--outputs", str(outputs), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def proof_of(folder: Path) -> Proof:
    (proof,) = prove(Target.local(folder.parents[1]), [Run(folder)])
    return proof


def stored_file(folder: Path, path: str = "config.yaml") -> Path:
    """The store's copy of a run's file."""
    mlflow_id = delivered.read(folder)["mlflow_id"]
    (file,) = folder.parents[1].glob(f"artifacts/*/{mlflow_id}/artifacts/{path}")
    return file


def rot(file: Path) -> None:
    """Change one byte; the size stays."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_local_damage_to_a_delivered_run_affects_no_other(tmp_path: Path) -> None:
    """A damaged journal is named; other damaged or removed files come back from the store."""
    damaged, unset, removed, well = (make_run(tmp_path, name) for name in "abcd")
    (removed / "note.txt").write_text("a note")
    Run(removed).add_artifacts(["note.txt"])
    deliver(tmp_path, damaged, unset, removed, well)
    rot(damaged / journal.FILE_NAME)
    (unset / "config.yaml").write_text("of: an older schema\n")
    (removed / "note.txt").unlink()
    done = command_in(tmp_path)("harness", "sync", "--outputs", ".")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "3 of 4 runs delivered in full" in done.stdout
    assert "b: config.yaml was damaged; restored from the store\n" in done.stdout
    assert (removed / "note.txt").read_text() == "a note"
    assert (unset / "config.yaml").read_text() == (well / "config.yaml").read_text()
    assert "a: runs/a/journal.jsonl: the record at byte" in done.stderr
    assert command_in(tmp_path)("harness", "clean", "--outputs", ".").returncode == 0


@pytest.mark.parametrize("records", [1, 3])
def test_a_journal_that_lost_delivered_records_is_never_complete(
    tmp_path: Path, records: int
) -> None:
    """The store has more than a journal that was cut; that copy is not replaced by less."""
    cut, well = make_run(tmp_path, "aaa"), make_run(tmp_path, "bbb")
    deliver(tmp_path, cut, well)
    lines = (cut / journal.FILE_NAME).read_bytes().splitlines(keepends=True)
    (cut / journal.FILE_NAME).write_bytes(b"".join(lines[:records]))
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        before = connection.execute("SELECT * FROM metrics ORDER BY 1, 2, 3, 4, 5").fetchall()
        for _ in range(2):
            done = synced(tmp_path)
            assert done.exit_code == 3
            assert "1 of 2 runs delivered in full" in done.stdout
            assert "aaa/journal.jsonl lost records: expected at least" in done.stderr
        after = connection.execute("SELECT * FROM metrics ORDER BY 1, 2, 3, 4, 5").fetchall()
    assert before == after
    assert Run(cut).history().status == "DAMAGED"


@pytest.mark.parametrize("damage", [b"", b"x" * 700, None])
def test_a_damaged_file_is_restored_and_never_sent(tmp_path: Path, damage: bytes | None) -> None:
    """The store's copy stays as it was, also when the journal is sent again from the start."""
    folder = make_run(tmp_path, "aaa")
    deliver(tmp_path, folder)
    file = folder / "config.yaml"
    good = file.read_bytes()
    if damage is None:
        rot(file)
    else:
        file.write_bytes(damage)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("DELETE FROM metrics WHERE step = 3")  # the run is sent again as well
    done = synced(tmp_path)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "aaa: config.yaml was damaged; restored from the store" in done.stdout
    assert file.read_bytes() == stored_file(folder).read_bytes() == good


def test_a_file_damaged_on_both_sides_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "aaa")
    deliver(tmp_path, folder)
    rot(folder / "config.yaml")
    rot(stored_file(folder))
    done = synced(tmp_path)
    assert done.exit_code == 3
    assert done.stderr == (
        "aaa: config.yaml: does not match its SHA-256, and has other content in the store\n"
    )
    assert "0 of 1 runs delivered in full" in done.stdout


def test_a_file_that_the_store_lost_or_damaged_is_sent_again(tmp_path: Path) -> None:
    """Content of the same size is compared in a local store, and on a server with --verify."""
    lost, cut, rotten = (make_run(tmp_path, name) for name in "abc")
    deliver(tmp_path, lost, cut, rotten)
    stored_file(lost).unlink()
    stored_file(cut).write_bytes(b"")
    copy = stored_file(rotten)
    rot(copy)
    assert proof_of(rotten).differences == ("config.yaml: has other content in the store",)
    run = Run(rotten)
    as_on_a_server = Files(
        Store(Target.local(tmp_path)), run, str(run.delivered()["mlflow_id"]), verify=False
    )
    as_on_a_server.compare(journal.read(run.journal)[0])
    assert as_on_a_server.differences == []
    done = synced(tmp_path)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "sending 3 runs again" in done.stdout
    for folder in (lost, cut, rotten):
        assert stored_file(folder).read_bytes() == (folder / "config.yaml").read_bytes()


def test_without_a_digest_nothing_is_overwritten(tmp_path: Path) -> None:
    """Version 0.1 recorded paths only: which side is right is not known."""
    folder = make_run(tmp_path, "aaa")
    (folder / "old.bin").write_bytes(b"twelve bytes")
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("artifact", path="old.bin")
    deliver(tmp_path, folder)
    (folder / "old.bin").write_bytes(b"")
    done = synced(tmp_path)
    assert done.exit_code == 3
    assert "old.bin: has 12 bytes in the store instead of 0; no digest says which" in done.stderr
    Run(folder).delivered()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("DELETE FROM metrics WHERE step = 3")
    assert synced(tmp_path).exit_code == 3
    assert stored_file(folder, "old.bin").read_bytes() == b"twelve bytes"
    assert (folder / "old.bin").read_bytes() == b""
    (folder / "old.bin").unlink()
    assert synced(tmp_path).exit_code == 0, "removed here: the store has it"


@pytest.mark.parametrize("path", ["../secret", "/etc/hostname", "link", "folder/secret"])
def test_a_file_outside_the_run_folder_is_never_sent(tmp_path: Path, path: str) -> None:
    folder = make_run(tmp_path, "aaa")
    (tmp_path / "runs/secret").write_text("secret")
    (folder / "link").symlink_to("../secret")
    (folder / "folder").symlink_to("..")
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("artifact", **Artifact(path, 6, "ab" * 32).record())
    done = synced(tmp_path)
    assert done.exit_code == 3
    assert f"aaa: artifact '{path}': " in done.stderr
    assert "0 of 1 runs delivered in full" in done.stdout
    assert [each.name for each in tmp_path.glob("artifacts/*/*/artifacts/*")] == ["config.yaml"]


def test_a_new_store_gets_everything_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "aaa", status=None)
    sync = partial(command_in(tmp_path), "harness", "sync", "--outputs", ".")
    sync()
    (tmp_path / "mlflow.db").unlink()
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("end", status="FINISHED", error=None)
    done = sync()
    assert done.returncode == 0, done.stderr
    assert "1 of 1 runs delivered in full, 10 metric rows compared" in done.stdout


def test_what_the_store_lost_is_found_and_sent_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "aaa")
    deliver(tmp_path, folder)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("DELETE FROM metrics WHERE step = 3")
    assert proof_of(folder).differences == (
        "train/loss: 4 of 5 rows as in the journal", "val/error: 4 of 5 rows as in the journal",
    )  # fmt: skip
    done = synced(tmp_path)
    assert "sending 1 runs again" in done.stdout
    assert done.exit_code == 0, done.stderr
    assert proof_of(folder).is_complete


def test_what_people_do_in_the_store_is_theirs(tmp_path: Path) -> None:
    """A renamed experiment, a deleted run, own metrics, params and tags: all stay as they are."""
    kept, gone = (make_run(tmp_path, name) for name in "ab")
    deliver(tmp_path, kept, gone)
    client = Store(Target.local(tmp_path)).client
    experiment_id = delivered.read(kept)["experiment_id"]
    mlflow_id = delivered.read(kept)["mlflow_id"]
    client.rename_experiment(experiment_id, "paper")
    client.delete_run(delivered.read(gone)["mlflow_id"])
    client.log_metric(mlflow_id, "my/score", 1.0)
    client.log_param(mlflow_id, "my.note", "good")
    client.set_tag(mlflow_id, "mine", "yes")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("DELETE FROM metrics WHERE step = 3")  # and the store lost some rows
    for _ in range(2):
        (kept / delivered.FILE_NAME).touch()
        done = synced(tmp_path)
        assert (done.exit_code, done.stderr) == (0, "")
        assert "1 of 2 runs delivered in full" in done.stdout
        assert "1 deleted in the store" in done.stdout
        assert "b: was deleted in the store and stays deleted" in done.stdout
    assert [each.name for each in client.search_experiments()] == ["paper", "Default"]
    assert [run.info.run_id for run in client.search_runs([experiment_id])] == [mlflow_id]
    assert client.get_run(mlflow_id).data.metrics["my/score"] == 1.0
    client.restore_run(delivered.read(gone)["mlflow_id"])
    assert "2 of 2 runs delivered in full" in synced(tmp_path).stdout


def test_a_row_that_somebody_added_to_our_metric_has_a_way_out(tmp_path: Path) -> None:
    """MLflow cannot remove one. `--resend` makes the run anew; the old one can be restored."""
    other, folder = (make_run(tmp_path, name) for name in "ab")
    deliver(tmp_path, other, folder)
    store = Store(Target.local(tmp_path))
    old = delivered.read(folder)["mlflow_id"]
    store.client.log_metric(old, "val/error", 0.25, step=9)
    store.client.log_metric(old, "val/error", 0.5, step=9)
    store.client.update_run(old, name="my favorite")
    store.client.set_tag(old, NOTE, "look at this")
    store.client.rename_experiment(delivered.read(folder)["experiment_id"], "paper")
    before = store.points(old)
    for _ in range(2):
        done = synced(tmp_path)
        assert done.exit_code == 3
        assert done.stderr.splitlines() == [
            "b: val/error: rows in the store that are not in the journal: 2, the first is 0.25 at "
            "step 9",
            "b: somebody added rows to it, and MLflow cannot remove rows; `python -m harness sync "
            "--resend` moves it to MLflow's deleted runs and sends it again",
        ]
        assert "sending" not in done.stdout, "nothing is lacking"
        assert "1 of 2 runs delivered in full" in done.stdout
    done = synced(tmp_path, "--resend")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "2 of 2 runs delivered in full" in done.stdout
    new = delivered.read(folder)["mlflow_id"]
    assert new != old
    assert "2 of 2 runs delivered in full" in synced(tmp_path, "--resend").stdout
    assert delivered.read(folder)["mlflow_id"] == new, "only once"
    experiment = store.experiment("paper")
    sent = store.client.get_run(new)
    said = (sent.info.run_name, sent.data.tags[NOTE], sent.info.experiment_id)
    assert said == ("my favorite", "look at this", experiment)
    assert {run.info.run_id for run in store.runs([experiment])} == {
        new, delivered.read(other)["mlflow_id"],
    }  # fmt: skip
    assert dict(store.points(new)) == expected_points(folder)
    (folder / delivered.FILE_NAME).unlink()  # and it is found by its own id
    assert synced(tmp_path).exit_code == 0
    assert delivered.read(folder)["mlflow_id"] == new
    store.client.restore_run(old)
    assert store.points(old) == before
    assert synced(tmp_path).exit_code == 0, "the restored one is deleted again"
    assert old not in {run.info.run_id for run in store.runs([experiment])}


@pytest.mark.parametrize("kill_at", ["set_tag", "delete_run", "create_run"])
def test_a_killed_resend_is_finished_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: str
) -> None:
    """Whichever call was the last one that the store carried out."""
    folder = make_run(tmp_path, "a")
    deliver(tmp_path, folder)
    store = Store(Target.local(tmp_path))
    store.client.log_metric(delivered.read(folder)["mlflow_id"], "val/error", 0.25, step=9)
    call = getattr(MlflowClient, kill_at)

    class Killed(BaseException):
        pass

    def call_and_die(*arguments: object, **named: object) -> object:
        call(*arguments, **named)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, kill_at, call_and_die)
        with pytest.raises(Killed):
            CliRunner().invoke(sync, ["--outputs", str(tmp_path), "--resend"])
    done = synced(tmp_path, "--resend")
    assert (done.exit_code, done.stderr) == (0, "")
    (run,) = store.runs([store.experiment("mnist")])
    assert dict(store.points(run.info.run_id)) == expected_points(folder)


def test_a_row_of_ours_that_was_changed_is_sent_again_and_the_other_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "a")
    deliver(tmp_path, folder)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE metrics SET value = 0.5 WHERE step = 3 AND key = 'val/error'")
    done = synced(tmp_path)
    assert done.exit_code == 3
    assert "a: val/error: rows in the store that are not in the journal: 1, " in done.stderr
    assert "of 5 rows as in the journal" not in done.stderr, "it was sent again"
    assert synced(tmp_path, "--resend").exit_code == 0
    assert proof_of(folder).is_complete


def test_a_lost_state_finds_the_run_in_a_renamed_experiment(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "aaa")
    deliver(tmp_path, folder)
    client = Store(Target.local(tmp_path)).client
    client.rename_experiment(delivered.read(folder)["experiment_id"], "paper")
    (folder / delivered.FILE_NAME).unlink()
    assert synced(tmp_path).exit_code == 0
    assert [each.name for each in client.search_experiments()] == ["paper", "Default"]


def test_a_deleted_experiment_does_not_hide_the_others(tmp_path: Path) -> None:
    gone, kept = (make_run(tmp_path, name) for name in "ab")
    deliver(tmp_path, gone)
    store = Store(Target.local(tmp_path))
    store.client.delete_experiment(delivered.read(gone)["experiment_id"])
    done = synced(tmp_path)
    assert done.exit_code == 3, "the other run is bound for the deleted experiment as well"
    restore = f"`MLFLOW_TRACKING_URI={Target.local(tmp_path).uri} mlflow experiments restore"
    line = f"not delivered yet: b: experiment 'mnist' was deleted in MLflow; {restore} "
    assert line in done.stderr
    assert done.stderr.count("experiment 'mnist'") == 1, "not also while it was tried"
    assert "a: was deleted in the store" in done.stdout
    store.client.restore_experiment(delivered.read(gone)["experiment_id"])
    assert synced(tmp_path).exit_code == 0
    assert proof_of(kept).is_complete


def remove_for_good(folder: Path) -> Store:
    """Remove a run as `mlflow gc` does it."""
    store = Store(Target.local(folder.parents[1]))
    mlflow_id = delivered.read(folder)["mlflow_id"]
    store.client.delete_run(mlflow_id)
    store.client._tracking_client.store._hard_delete_run(mlflow_id)
    return store


@pytest.mark.parametrize("seen_by", ["sync", "delivery"])
def test_a_run_removed_for_good_stays_removed(tmp_path: Path, seen_by: str) -> None:
    """If it was seen in the trash. A new store gets it again, see above."""
    folder = make_run(tmp_path, "aaa")
    deliver(tmp_path, folder)
    Store(Target.local(tmp_path)).client.delete_run(delivered.read(folder)["mlflow_id"])
    if seen_by == "sync":
        assert "aaa: was deleted in the store" in synced(tmp_path).stdout
    else:
        (folder / delivered.FILE_NAME).unlink()
        assert "aaa" in deliver(tmp_path, folder).report().deleted
    store = remove_for_good(folder)
    Run(folder).add_tags({"later": "1"})
    for options in ((), (), ("--resend",)):
        done = synced(tmp_path, *options)
        assert (done.exit_code, done.stderr) == (0, "")
        assert "aaa: was removed from the store for good" in done.stdout
    assert store.runs([store.experiment("mnist")], deleted=True) == []


@pytest.mark.parametrize("is_more_to_send", [False, True])
def test_a_run_that_the_store_no_longer_has_is_named(tmp_path: Path, is_more_to_send: bool) -> None:
    """An earlier backup of the database looks as if newer runs were removed."""
    older, newer = make_run(tmp_path, "a"), tmp_path / "runs/b"
    deliver(tmp_path, older)
    backup = (tmp_path / "mlflow.db").read_bytes()
    make_run(tmp_path, "b")
    deliver(tmp_path, newer)
    (tmp_path / "mlflow.db").write_bytes(backup)
    if is_more_to_send:
        Run(newer).add_tags({"later": "1"})
    for _ in range(2):
        done = synced(tmp_path)
        assert done.exit_code == 3
        assert "b: is no longer in the store: it was removed there for good, or " in done.stderr
        assert "sync --resend" in done.stderr
        assert "1 of 2 runs delivered in full" in done.stdout
    done = synced(tmp_path, "--resend")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "2 of 2 runs delivered in full" in synced(tmp_path).stdout


def test_a_file_found_damaged_when_it_was_sent_is_not_forgotten(tmp_path: Path) -> None:
    """Until it is whole on one side; the first sync copies it back if the store has it."""
    folder = make_run(tmp_path, "aaa")
    config = folder / "config.yaml"
    good = config.read_bytes()
    config.write_bytes(b"")
    fresh_store(tmp_path)
    for _ in range(2):
        delivery = Delivery(Target.local(tmp_path))
        delivery.follow(Run(folder))
        assert "config.yaml has 0 bytes" in delivery.drain().undelivered["aaa"]
    assert "config.yaml: has 0 bytes" in synced(tmp_path).stderr
    config.write_bytes(good)
    done = synced(tmp_path)
    assert (done.exit_code, done.stderr) == (0, "")
    config.write_bytes(b"")
    (folder / delivered.FILE_NAME).unlink()
    done = synced(tmp_path)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "restored from the store" in done.stdout
    deliver(tmp_path, folder)


def test_a_file_that_cannot_be_downloaded_affects_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other runs are compared, and their files are copied back."""
    folders = [make_run(tmp_path, name) for name in "abc"]
    deliver(tmp_path, *folders)
    for folder in folders:
        rot(folder / "config.yaml")
    download, fails = MlflowClient.download_artifacts, delivered.read(folders[1])["mlflow_id"]

    def fail(client: MlflowClient, run_id: str, *rest: str) -> str:
        if run_id == fails:
            raise MlflowException("the answer was cut off")
        return str(download(client, run_id, *rest))

    monkeypatch.setattr(MlflowClient, "download_artifacts", fail)
    done = synced(tmp_path)
    assert done.exit_code == 3
    assert "2 of 3 runs delivered in full" in done.stdout
    for name in "ac":
        assert f"{name}: config.yaml was damaged; restored from the store" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("b: config.yaml: sqlite:///")
    assert line.endswith("the answer was cut off")


def test_from_needs_to(tmp_path: Path) -> None:
    done = synced(tmp_path, "--from", "http://me:secret@host:5000")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: --from http://me:***@host:5000: expected --to as well")


def test_runs_are_delivered_to_another_store_from_now_on(tmp_path: Path) -> None:
    """The address never answered, or the server moved."""
    folder = make_run(tmp_path, "aaa")
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("store", uri="localhost:5999")
    done = synced(tmp_path)
    assert done.exit_code == 3
    assert "localhost:5999: the scheme is missing; type http://localhost:5999" in done.stderr
    assert "python -m harness sync --to URI" in done.stderr
    (tmp_path / "moved").mkdir()
    new = f"sqlite:///{tmp_path}/moved/x.db"
    done = synced(tmp_path, "--to", new)
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"1 runs are delivered to {new} from now on" in done.stdout
    assert f"{new}: 1 of 1 runs delivered in full" in synced(tmp_path).stdout
    done = synced(tmp_path, "--to", "local", "--from", new)
    assert f"{Target.local(tmp_path)}: 1 of 1 runs delivered in full" in done.stdout
    assert done.exit_code == 0


def test_a_new_address_is_checked_before_anything_changes(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "aaa")
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append("store", uri="http://127.0.0.1:9")
    before = (folder / journal.FILE_NAME).read_bytes()
    done = synced(tmp_path, "--to", "localhost:5000")
    assert done.exit_code == 2
    assert done.stderr == (
        "error: --to localhost:5000: the scheme is missing; type http://localhost:5000\n"
    )
    done = synced(tmp_path, "--to", "http://me:secret@host:5000")
    assert done.exit_code == 2
    assert "secret" not in done.output
    done = synced(tmp_path, "--to", "http://127.0.0.1:9")
    assert done.exit_code == 3
    assert "nothing was changed" in done.stderr
    assert (folder / journal.FILE_NAME).read_bytes() == before


def test_a_run_that_no_command_can_use_is_counted(tmp_path: Path) -> None:
    """Its journal or config is missing or rotten, so nobody knows which store it was bound for."""
    make_run(tmp_path, "well")
    lost, rotten, changed = (make_run(tmp_path, name, status="KILLED") for name in "abc")
    deliver(tmp_path, changed)
    (lost / journal.FILE_NAME).unlink()
    with (rotten / journal.FILE_NAME).open("r+b") as file:
        file.write(b"00000000")
    (changed / "config.yaml").write_text((changed / "config.yaml").read_text() + "\n")
    done = synced(tmp_path)
    assert done.exit_code == 3
    assert "2 of 4 runs delivered in full" in done.stdout, "a changed config is copied back"
    for folder in (lost, rotten):
        assert f"{folder}: cannot be used: " in done.stderr
    config = changed / "config.yaml"
    assert "c: config.yaml was damaged; restored from the store" in done.stdout
    unfinished = make_run(tmp_path, "d", status=None)
    (unfinished / "config.yaml").write_text(config.read_text() + "\n")
    done = synced(tmp_path)
    assert done.exit_code == 3
    assert "2 of 5 runs delivered in full" in done.stdout
    assert f"d: {unfinished / 'config.yaml'}: was changed after the run was frozen" in done.stderr


def test_a_damaged_plan_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    deliver(tmp_path, make_run(tmp_path, "a"))
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "abc.json").write_text('{"runs": 5}')
    assert "1 of 1 runs delivered in full" in synced(tmp_path).stdout
    assert "abc.json: not the plan of a sweep" in caplog.text


def test_a_run_removed_while_it_is_synced_is_left_out(tmp_path: Path) -> None:
    kept, gone = (Run(make_run(tmp_path, name)) for name in "ab")
    deliver(tmp_path, kept.folder, gone.folder)
    gone.history()
    gone.folder.rename(tmp_path / "away")
    proofs = prove(Target.local(tmp_path), [kept, gone])
    assert [proof.run for proof in proofs] == ["a"]
    delivery = Delivery(Target.local(tmp_path))
    delivery.follow(gone)
    assert delivery.drain().undelivered == {}
