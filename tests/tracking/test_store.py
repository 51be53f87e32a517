"""The MLflow store: created once, whatever competes or is killed; refusals are one line.

Processes race for two fresh stores, and four commands for one; longer by

    HARNESS_RACES=5 python -m pytest tests/tracking/test_store.py -m service

Covers: harness/tracking/errors.py
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from harness.data.atomic import write_bytes
from harness.runfolder import delivered, journal
from harness.runfolder.folder import all_runs
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.errors import Hopeless, StoreError
from harness.tracking.store import LINKED, Store
from harness.tracking.sync import prove
from tests.conftest import command_in
from tests.tracking.conftest import deliver, fresh_store, make_run

pytestmark = [
    pytest.mark.service,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own
]


RACES = int(os.environ.get("HARNESS_RACES", "2"))
COMMANDS = 2 * RACES
SHARED = Path("/dev/shm")


def test_a_long_name_is_cut(tmp_path: Path) -> None:
    """PostgreSQL would refuse more than 250 characters, and with them the run."""
    folder = make_run(tmp_path, "aaa", status=None)
    record = journal.read(folder / journal.FILE_NAME)[0][0]
    store = Store(Target.local(tmp_path))
    made = store.open_run(record | {"name": "lr=0.1," * 100})
    assert store.client.get_run(made.info.run_id).info.run_name == ("lr=0.1," * 100)[:250]


def test_two_processes_log_one_data_set_at_once(tmp_path: Path) -> None:
    """Between MLflow's look for the data set and its insert, another process inserts it."""
    records = [
        journal.read(make_run(tmp_path, name, status=None) / journal.FILE_NAME)[0][0]
        for name in ("aaa", "bbb")
    ]
    target = Target.local(tmp_path)
    store, other = Store(target), Store(target)
    ids = [store.open_run(record).info.run_id for record in records]
    pending = [ids[1]]

    def compete(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO datasets") and pending:
            other.log_dataset(pending.pop(), records[1]["dataset"])

    event.listen(Engine, "before_cursor_execute", compete)
    try:
        store.log_dataset(ids[0], records[0]["dataset"])
    finally:
        event.remove(Engine, "before_cursor_execute", compete)
    assert not pending
    for mlflow_id in ids:
        assert len(store.client.get_run(mlflow_id).inputs.dataset_inputs) == 1


def open_fresh(folder: Path, barrier: Any, number: int) -> list[str]:
    ids = []
    for round_ in range(RACES):
        barrier.wait(300)
        ids.append(Store(Target.local(folder / str(round_))).experiment("mnist"))
    return ids


def test_eight_processes_race_for_a_fresh_store(tmp_path: Path) -> None:
    """Again and again, started by a barrier each time."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(8) as pool:
        race = partial(open_fresh, tmp_path, manager.Barrier(8))
        ids = pool.map(race, range(8), chunksize=1)
    assert [len(set(each)) for each in zip(*ids, strict=True)] == [1] * RACES
    for round_ in range(RACES):
        client = Store(Target.local(tmp_path / str(round_))).client
        assert len(client.search_experiments()) == 2  # and "Default"


def test_commands_race_for_a_fresh_store(tmp_path: Path, idx_folder: Path) -> None:
    own = ("dataset=idx", f"dataset.dir={idx_folder}", "batch=20", "width=8", "epochs=1")
    commands = [
        subprocess.Popen(
            [sys.executable, "-m", "harness.run", *own, f"seed={seed}"],
            cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(COMMANDS)
    ]  # fmt: skip
    for process in commands:
        _, stderr = process.communicate(timeout=900)
        assert (process.returncode, stderr) == (0, "")
    target = Target.local(tmp_path / "outputs")
    proofs = prove(target, all_runs(tmp_path / "outputs"))
    assert [proof.differences for proof in proofs] == [()] * COMMANDS
    store = Store(target)
    assert len(store.runs([store.experiment("idx")])) == COMMANDS


# Ends the creation of a store, MLflow's own way or ours, before its n-th change of the database.
KILLED_CREATION = """
import itertools, os, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
changes = itertools.count(1)
@event.listens_for(Engine, "before_cursor_execute")
def strike(connection, cursor, statement, *rest):
    if statement.split()[0].upper() in ("CREATE", "ALTER", "INSERT", "UPDATE", "DROP"):
        if next(changes) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "ours":
    from harness.tracking.store import Store
    from harness.runfolder.target import Target
    Store(Target.local(Path.cwd())).experiment("mnist")
else:
    from mlflow import MlflowClient
    MlflowClient(tracking_uri="sqlite:///mlflow.db").search_experiments()
"""


def kill_creation(folder: Path, whose: str, change: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_CREATION, whose, str(change)], cwd=folder, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("change", [1, 30, 230, 430])
def test_a_killed_creation_leaves_nothing_behind(tmp_path: Path, change: int) -> None:
    kill_creation(tmp_path, "ours", change)
    assert not (tmp_path / "mlflow.db").exists()
    folder = make_run(tmp_path, "aaa")
    Store(Target.local(tmp_path))
    deliver(tmp_path, folder)
    assert not list(tmp_path.glob("*.unfinished*"))
    (proof,) = prove(Target.local(tmp_path), [Run(folder)])
    assert proof.differences == ()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_half_migrated_database_is_one_line(tmp_path: Path) -> None:
    """As MLflow itself leaves it; what the line says to do helps."""
    make_run(tmp_path, "aaa")
    sync = partial(command_in(tmp_path), "harness", "sync", "--outputs", ".")
    kill_creation(tmp_path, "theirs", 250)
    done = sync()
    assert done.returncode == 3
    reason, left = done.stderr.splitlines()
    assert "not a usable MLflow database, or one whose creation was interrupted" in reason
    assert reason.endswith(
        "move it away and deliver everything again with `python -m harness sync`"
    )
    assert left == "not delivered yet: 1 runs"
    (tmp_path / "mlflow.db").rename(tmp_path / "away.db")
    done = sync()
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 of 1 runs delivered in full" in done.stdout


def test_a_damaged_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="not a usable MLflow database") as caught:
        Store(Target.local(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "is_folder", "problem"),
    [
        ("mlflow.db", True, "expected an SQLite file, found a folder"),
        ("mlflow.db.lock", True, "expected a file, found a folder"),
        ("artifacts", False, "expected a folder, found a file"),
        ("artifacts/mnist", False, "expected a folder, found a file"),
    ],
)
def test_what_is_in_the_way_is_named_at_once(
    tmp_path: Path, path: str, is_folder: bool, problem: str
) -> None:
    """Waiting would not move it away."""
    there = tmp_path / path
    there.parent.mkdir(exist_ok=True)
    there.mkdir() if is_folder else there.write_text("")
    folder = make_run(tmp_path, "aaa")
    (folder / "notes.txt").write_text("an artifact")

    def log() -> None:
        store = Store(Target.local(tmp_path))
        run = store.open_run(journal.read(folder / journal.FILE_NAME)[0][0])
        store.log_artifact(run.info.run_id, folder, "notes.txt")

    with pytest.raises(Hopeless) as caught:
        log()
    assert str(caught.value) == f"{there}: {problem}; move it away"


def test_a_deleted_experiment_is_one_line(tmp_path: Path) -> None:
    store = Store(Target.local(tmp_path))
    store.client.delete_experiment(store.experiment("gone"))
    with pytest.raises(StoreError, match="experiment 'gone' was deleted"):
        Store(Target.local(tmp_path)).experiment("gone")


@pytest.mark.parametrize("folder", ["what?", "100%41", "a#b c"])
def test_any_path_of_outputs_works(tmp_path: Path, folder: str) -> None:
    """Nothing is written outside of it."""
    outputs = tmp_path / folder / "outputs"
    run = make_run(outputs, "aaa")
    done = command_in(tmp_path)("harness", "sync", "--outputs", str(outputs))
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 of 1 runs delivered in full" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [folder]
    (stored,) = outputs.glob("artifacts/mnist/*/artifacts/config.yaml")
    assert stored.read_bytes() == (run / "config.yaml").read_bytes()


@pytest.mark.parametrize("name", ["a/b", "..", "../../up", "x%2Fy", "what?#"])
def test_the_artifacts_of_an_experiment_are_one_folder(tmp_path: Path, name: str) -> None:
    """Whatever its name, it is beside the others."""
    fresh_store(tmp_path)
    store = Store(Target.local(tmp_path))
    run = store.client.create_run(store.experiment(name))
    (tmp_path / "file").write_text("content")
    store.log_artifact(run.info.run_id, tmp_path, "file")
    (stored,) = tmp_path.rglob("artifacts/file")
    assert stored.relative_to(tmp_path / "artifacts").parts[1] == run.info.run_id
    assert store.artifacts(run.info.run_id, ["file"]) == {"file": 7}


def test_another_sqlite_file_has_its_artifacts_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in the working directory, where MLflow would put them."""
    monkeypatch.chdir(tmp_path)
    fresh_store(tmp_path / "other")
    store = Store(Target(f"sqlite:///{tmp_path}/other/mlflow.db"))
    run = store.client.create_run(store.experiment("mnist"))
    assert run.info.artifact_uri.startswith((tmp_path / "other/artifacts/mnist").as_uri())


def test_warnings_that_are_errors_do_not_damage_a_database(tmp_path: Path) -> None:
    """`python -W error`: the warnings of MLflow and its libraries are their own."""
    deliver(tmp_path, make_run(tmp_path, "aaa"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "harness", "compare", "mnist", "--outputs", "."],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert "not a usable MLflow database" not in done.stderr
    assert "nothing to compare" in done.stderr or done.returncode == 0, done.stderr


def with_weights(outputs: Path, name: str, size: int) -> tuple[Path, Path, Path]:
    """A delivered run with a file of so many bytes: its folder, its file, the store's file."""
    folder = make_run(outputs, name)
    weights = folder / "weights/best.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(os.urandom(size))
    Run(folder).add_artifacts(["weights/best.safetensors"])
    deliver(outputs, folder)
    mlflow_id = delivered.read(folder)["mlflow_id"]
    (stored,) = outputs.glob(f"artifacts/*/{mlflow_id}/artifacts/weights/*")
    return folder, weights, stored


@pytest.mark.parametrize(("size", "is_linked"), [(LINKED, True), (LINKED - 1, False)])
def test_a_large_file_is_in_a_local_store_without_a_copy(
    tmp_path: Path, size: int, is_linked: bool
) -> None:
    folder, weights, stored = with_weights(tmp_path, "aaa", size)
    first = weights.read_bytes()
    assert weights.samefile(stored) == is_linked
    assert weights.stat().st_nlink == (2 if is_linked else 1)
    (proof,) = prove(Target.local(tmp_path), [Run(folder)])
    assert (proof.differences, proof.damage) == ((), ())
    store, mlflow_id = Store(Target.local(tmp_path)), delivered.read(folder)["mlflow_id"]
    store.log_artifact(mlflow_id, folder, "weights/best.safetensors")  # sent again
    assert weights.samefile(stored) == is_linked
    write_bytes(weights, bytes(size))
    assert stored.read_bytes() == first, "writing one leaves the other as it is"
    store.log_artifact(mlflow_id, folder, "weights/best.safetensors")
    assert stored.read_bytes() == bytes(size)
    store.client.log_artifact(mlflow_id, str(folder / "config.yaml"), "weights")
    store.delete(mlflow_id)
    store.erase(mlflow_id)
    assert not stored.exists()
    assert weights.read_bytes() == bytes(size)


def test_a_lost_file_comes_back_from_the_file_that_the_store_shares(tmp_path: Path) -> None:
    folder, weights, stored = with_weights(tmp_path, "aaa", LINKED)
    content = weights.read_bytes()
    weights.unlink()
    (proof,) = prove(Target.local(tmp_path), [Run(folder)])
    assert proof.restored == ("weights/best.safetensors",)
    assert weights.read_bytes() == stored.read_bytes() == content
    os.truncate(stored, 5)
    assert weights.read_bytes() == content


def test_what_is_changed_in_place_in_both_is_named(tmp_path: Path) -> None:
    folder, weights, stored = with_weights(tmp_path, "aaa", LINKED)
    with stored.open("r+b") as file:
        file.write(b"changed")
    (proof,) = prove(Target.local(tmp_path), [Run(folder)])
    assert proof.restored == ()
    assert proof.damage == (
        "weights/best.safetensors: does not match its SHA-256, and has other content in the store",
    )
    with pytest.raises(ValueError, match="does not match its SHA-256"):
        Run(folder).verified("weights/best.safetensors")
    assert weights.samefile(stored)


def test_a_store_on_another_file_system_gets_a_copy(tmp_path: Path) -> None:
    if not SHARED.is_dir() or SHARED.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip(f"{SHARED} is no file system of its own here")
    with tempfile.TemporaryDirectory(dir=SHARED) as other:
        (tmp_path / "artifacts").symlink_to(other)
        folder, weights, stored = with_weights(tmp_path, "aaa", LINKED)
        assert weights.stat().st_dev != stored.stat().st_dev
        assert weights.read_bytes() == stored.read_bytes()
        (proof,) = prove(Target.local(tmp_path), [Run(folder)])
        assert proof.is_complete
