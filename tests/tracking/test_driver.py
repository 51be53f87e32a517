"""Drivers of databases: installed, missing, broken, and none at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.runfolder import journal
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking import driver
from harness.tracking.errors import Hopeless
from harness.tracking.store import Store
from tests.conftest import RUN, Command, command_in, python_path, run_folders, small


def hide(module: str, folder: Path, text: str | None = None) -> dict[str, str]:
    """The environment of a command in which importing a module fails, as if it were missing."""
    error = f'ModuleNotFoundError("No module named {module!r}", name="{module}")'
    (folder / f"{module}.py").write_text(f"raise {text or error}\n")
    return python_path(folder)


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("psycopg", "psycopg2", "MySQLdb", "pymysql", "mysql", "asyncpg"):
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("postgresql://me@h/db", "psycopg, is not installed; `python -m pip install 'psycopg[b"),
        ("postgresql+psycopg2://h/db", "psycopg2, is not installed; `python -m pip install psycop"),
        ("mysql://h/db", "MySQLdb, is not installed; `python -m pip install mysqlclient`"),
        ("mysql+pymysql://h/db", "pymysql, is not installed; `python -m pip install pymysql`"),
        ("postgresql+nonsense://h/db", "SQLAlchemy cannot use it: "),
        ("postgresql+psycopg2://h:port/db", "SQLAlchemy cannot use it: "),
    ],
)
def test_why_there_is_no_driver(uri: str, words: str) -> None:
    found = driver.obstacle(uri)
    assert found is not None
    assert words in found
    with pytest.raises(Hopeless, match=uri.split("://", maxsplit=1)[0].replace("+", r"\+")):
        Store(Target(uri))


def test_an_asynchronous_driver_is_refused() -> None:
    assert "an asynchronous driver" in str(driver.obstacle("postgresql+asyncpg://h/db"))


@pytest.mark.parametrize(
    "uri",
    ["http://h:5000", "https://h", "databricks", "sqlite:///x.db", "sqlite+pysqlite:////x.db",
     "postgresql+psycopg2://me@h/db"],
)  # fmt: skip
def test_a_store_whose_driver_is_there(uri: str) -> None:
    if "psycopg2" in uri:
        pytest.importorskip("psycopg2", reason="python -m pip install psycopg2-binary")
    assert driver.obstacle(uri) is None


def test_sqlalchemy_is_imported_for_a_database_only() -> None:
    code = (
        "import sys\nfrom harness.tracking import driver\n"
        "assert driver.obstacle('sqlite:///x.db') is driver.obstacle('http://h') is None\n"
        "assert 'sqlalchemy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "words",
    [(), ("-m", "seed=1,2"), ("-m", "hydra/sweeper=optuna", "lr=interval(0.1,0.2)")],
    ids=["run", "sweep", "search"],
)
def test_a_missing_driver_exits_2_and_creates_nothing(
    tmp_path: Path, idx_folder: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "work").mkdir()
    uri = "tracking.uri=postgresql+psycopg2://h/db"
    done = command_in(tmp_path / "work")(
        RUN, *words, *small(idx_folder), "epochs=1", "tracking=server", uri,
        **hide("psycopg2", tmp_path),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "error: tracking.uri=postgresql+psycopg2://h/db: the driver of this database, psycopg2, is "
        "not installed; `python -m pip install psycopg2-binary` installs it\n"
    )
    assert list((tmp_path / "work").iterdir()) == []


def test_a_broken_driver_stops_a_resume(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    """As where the run was bound on a machine that has the driver."""
    words = (*small(idx_folder), "lr=1e30", "activation=relu", "epochs=2", "tracking=none")
    assert command(RUN, *words).returncode == 1
    (folder,) = run_folders(tmp_path / "outputs")
    Run(folder).bind(Target("postgresql+psycopg2://h/db"))
    before = (folder / journal.FILE_NAME).read_bytes()
    broken = hide("psycopg2", tmp_path, "ImportError('libpq.so.5: no such file')")
    done = command(RUN, "resume=last", **broken)
    assert done.returncode == 2
    assert done.stderr == (
        "error: tracking.uri=postgresql+psycopg2://h/db: the driver of this database cannot be "
        "imported: libpq.so.5: no such file; repair it\n"
    )
    assert (folder / journal.FILE_NAME).read_bytes() == before
