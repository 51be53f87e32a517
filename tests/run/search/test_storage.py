"""Where the trials are: which addresses are refused, and the trials of a removed search."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from sqlalchemy import create_engine, text

from harness.run.search import study
from harness.run.search.storage import KEY, Storage
from harness.run.search.workers import DatabaseWorkers
from harness.runfolder.config import ConfigError
from harness.runfolder.folder import Busy
from tests.conftest import RUN, Command, command_in, run_folders, small, start, wait_for
from tests.run.search import test_workers
from tests.run.search.test_workers import another
from tests.tracking.test_faults import PostgreSQL, postgres_is_here


def frozen(folder: Path, **content: object) -> None:
    """The start state of search `s` in `folder`."""
    (folder / "sweeps/s").mkdir(parents=True)
    (folder / "sweeps/s/search.json").write_text(json.dumps(content))


def test_the_storage_of_a_search_is_that_of_its_start(tmp_path: Path) -> None:
    uri = "postgresql://ada@h/studies"
    assert Storage.of(tmp_path, "s") == Storage(tmp_path)
    frozen(tmp_path / "removed", **{KEY: uri})
    assert Storage.of(tmp_path, "s") == Storage(tmp_path, uri)
    frozen(tmp_path, epochs=3)  # of an earlier version
    assert Storage.of(tmp_path, "s") == Storage(tmp_path)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("postgresql://ada:geheim@h/x", "***@h/x: expected an address without a password"),
        ("postgresql://ada@h/x?password=geheim", "expected an address without a password"),
        ("mysql://ada:geheim@h/x", "expected postgresql://USER@HOST/NAME, or null"),
        ("sqlite:///trials.db", "expected postgresql://USER@HOST/NAME, or null"),
        ("studies", "expected postgresql://USER@HOST/NAME, or null"),
        ("postgresql+nonsense://h/x", "SQLAlchemy cannot use it"),
        ("postgresql+psycopg2://ada@127.0.0.1:1/x", "start the database, or correct the address"),
    ],
)
def test_what_cannot_be_a_storage_is_one_line(tmp_path: Path, uri: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        Storage(tmp_path, uri).check()
    line = str(error.value)
    assert line.startswith("hydra.sweeper.storage=")
    assert expected in line
    assert "\n" not in line
    assert "geheim" not in line
    assert list(tmp_path.iterdir()) == []


def test_a_password_is_refused_before_anything_is_created(command: Command, tmp_path: Path) -> None:
    done = command(
        RUN, "-m", "hydra/sweeper=optuna", "lr=interval(0.1,1)",
        "hydra.sweeper.storage=postgresql://ada:geheim@h/x",
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "geheim" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_tables_of_another_version_of_optuna_are_one_line(tmp_path: Path) -> None:
    place = Storage(tmp_path)
    place.open()
    with closing(sqlite3.connect(place.path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'v3.0.0.d'")
    with pytest.raises(ConfigError, match=r"optuna\.db: The runtime optuna .* storage upgrade"):
        place.open()


@pytest.mark.service
@pytest.mark.skipif(not postgres_is_here(), reason="apt-get install postgresql")
def test_what_a_database_refuses_leaves_nothing_behind(tmp_path: Path, idx_folder: Path) -> None:
    """A machine that had another configuration by mistake can join when it has the right one."""
    database = PostgreSQL()
    arguments = (
        RUN, "-m", "hydra/sweeper=optuna", *small(idx_folder, "tracking=none"),
        "lr=interval(0.1,1)", "hydra.sweeper.study=s", "hydra.sweeper.n_trials=2",
        f"hydra.sweeper.storage={database.uri}",
    )  # fmt: skip
    machines = [tmp_path / "one", tmp_path / "other"]
    for machine in machines:
        machine.mkdir()
    one, other = map(command_in, machines)
    try:
        with create_engine(database.uri).begin() as connection:
            connection.execute(text("CREATE ROLE poor LOGIN"))
            connection.execute(text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
        poor = database.uri.replace("mlflow@", "poor@")
        done = one(*arguments, f"hydra.sweeper.storage={poor}")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "permission denied" in done.stderr
        assert "or the user's rights" in done.stderr
        assert list(machines[0].iterdir()) == []
        assert one(*arguments, "epochs=2").returncode == 0
        refused = other(*arguments, "epochs=3")
        assert refused.returncode == 2
        assert "epochs was 2 when it started and is 3 now" in refused.stderr
        joined = other(*arguments, "epochs=2", "hydra.sweeper.n_trials=3")
        assert joined.returncode == 0, joined.stderr
        assert len(run_folders(machines[1] / "outputs")) == 1
    finally:
        database.stop()


@pytest.mark.service
@pytest.mark.skipif(not postgres_is_here(), reason="apt-get install postgresql")
def test_a_database_that_stops_during_the_trials_is_one_line(
    tmp_path: Path, idx_folder: Path
) -> None:
    """Repeated when it is back, the command finishes the search."""
    database = PostgreSQL()
    arguments = (
        "-m", "hydra/sweeper=optuna", "hydra/launcher=joblib",
        *small(idx_folder, "tracking=none"), "lr=interval(0.1,1)", "hydra.sweeper.n_trials=300",
        f"hydra.sweeper.storage={database.uri}", "epochs=2",
    )  # fmt: skip
    outputs = tmp_path / "outputs"
    try:
        search = start(tmp_path, *arguments)
        wait_for(lambda: len(run_folders(outputs)) > 4)
        database.down()
        _, errors = search.communicate(timeout=120)
        assert search.returncode == 1
        (line,) = [line for line in errors.splitlines() if "rror" in line or "warning" in line]
        assert line.startswith("error: ")
        assert line.endswith("repeat the command to continue")
        assert "PendingRollback" not in line
        database.up()
        total = f"hydra.sweeper.n_trials={len(run_folders(outputs)) + 2}"
        again = command_in(tmp_path)(RUN, *arguments, total)
        assert again.returncode == 0, again.stderr
    finally:
        database.stop()


@pytest.mark.service
@pytest.mark.skipif(not postgres_is_here(), reason="apt-get install postgresql")
def test_a_search_in_postgresql_from_its_start_to_gc(
    command: Command, tmp_path: Path, idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = PostgreSQL()
    try:
        _check_workers(database.uri, monkeypatch)
        arguments = (
            "-m", "hydra/sweeper=optuna", *small(idx_folder, "tracking=none", "epochs=2"),
            f"hydra.sweeper.storage={database.uri}", "lr=interval(0.1,1)",
            "hydra.sweeper.study=s", "hydra.sweeper.n_trials=2",
        )  # fmt: skip
        done = command(RUN, *arguments)
        assert done.returncode == 0, done.stderr
        assert len(study.best(tmp_path / "outputs", "s", 9)) == 2
        changed = command(RUN, *arguments, "hydra.sweeper.storage=null")
        assert changed.returncode == 2
        assert "hydra.sweeper.storage was postgresql" in changed.stderr
        assert command("harness", "rm", "s", "--yes").returncode == 0
        assert optuna.get_all_study_names(database.uri) == ["removed-s"]
        assert command("harness", "restore", "s").returncode == 0
        assert optuna.get_all_study_names(database.uri) == ["s"]
        again = command(RUN, *arguments)
        assert again.returncode == 0, again.stderr
        assert len(run_folders(tmp_path / "outputs")) == 2
        assert command("harness", "rm", "s", "--yes").returncode == 0
        assert command("harness", "gc", "--yes").returncode == 0
        assert optuna.get_all_study_names(database.uri) == []
    finally:
        database.stop()


def _check_workers(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Advisory locks are released with their process, as lock files are."""
    of_database = test_workers.OTHER.replace(
        "FolderWorkers(Path(sys.argv[1]))", f"DatabaseWorkers({uri!r}, sys.argv[1])"
    ).replace("import FolderWorkers", "import DatabaseWorkers")
    monkeypatch.setattr(test_workers, "OTHER", of_database)
    monkeypatch.setattr("harness.run.search.workers.TURN_S", 0.5)
    own, foreign = DatabaseWorkers(uri, "s"), DatabaseWorkers(uri, "another search")
    own.enter()
    with another(Path("s")) as first, another(Path("s"), "turn") as second:
        assert own.others() == {first, second}
        assert foreign.others() == set()
        with pytest.raises(Busy, match="the turn of search s in the database: another command"):
            own.turn().__enter__()
    wait_for(lambda: own.others() == set(), 60)  # the server notices that a client is gone
    with own.turn(), own.turn():
        assert own.others() == set()
    own.leave()
    foreign.leave()
