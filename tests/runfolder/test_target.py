"""The address of a tracking store, from settings and options."""

from pathlib import Path

import pytest

from harness.runfolder.target import Target, problem, shown


def test_the_local_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    target = Target.local(Path("outputs"))
    assert target.uri == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    assert target.artifacts == (tmp_path / "outputs/artifacts").as_uri()
    assert target.database == tmp_path / "outputs/mlflow.db"
    assert target == Target.local(tmp_path / "outputs"), "relative or absolute"


def test_the_key_of_a_local_store_survives_a_move(tmp_path: Path) -> None:
    assert Target.local(tmp_path / "a").key == Target.local(tmp_path / "b").key == "local"
    assert Target("http://host:5000").key == "http://host:5000"


def test_a_server_has_no_database_here() -> None:
    assert Target("http://host:5000").database is None
    assert Target("http://host:5000").artifacts is None


def test_an_option_names_another_store(tmp_path: Path) -> None:
    assert Target.named("http://host:5000", tmp_path) == Target("http://host:5000")
    for nothing in (None, ""):
        assert Target.named(nothing, tmp_path) == Target.local(tmp_path)


@pytest.mark.parametrize(
    ("name", "uri", "expected"),
    [
        ("local", None, "local"),
        ("local", "http://host:5000", "local"),
        ("server", "http://host:5000", "http://host:5000"),
        ("none", None, None),
        ("none", "http://host:5000", None),
    ],
)
def test_the_store_of_settings(
    tmp_path: Path, name: str, uri: str | None, expected: str | None
) -> None:
    target = Target.of(name, uri, tmp_path)
    assert (target and target.key) == expected


@pytest.mark.parametrize("name", ["plain", "a b", "what?", "100%41", "a#b", "ümlaut", "a?b%41#c d"])
def test_the_address_of_the_local_store_is_its_path(tmp_path: Path, name: str) -> None:
    """CI systems make such folders. SQLAlchemy must read the same path from the address."""
    from sqlalchemy.engine import make_url

    target = Target.local(tmp_path / name)
    assert target.database == tmp_path / name / "mlflow.db"
    assert make_url(target.uri).database == str(target.database)


def test_another_sqlite_file_is_not_the_local_store(tmp_path: Path) -> None:
    assert Target(f"sqlite:///{tmp_path}/x.db").key == f"sqlite:///{tmp_path}/x.db"
    assert Target("sqlite:////a%20b/x.db?timeout=9").database == Path("/a b/x.db")


@pytest.mark.parametrize(
    ("uri", "printed"),
    [
        ("http://me:secret@host:5000/x", "http://me:***@host:5000/x"),
        ("https://secret@host", "https://***@host"),
        ("postgresql://me:secret@h/d", "postgresql://me:***@h/d"),
        ("me:secret@host:5000", "me:***@host:5000"), ("models:/mnist@champion",) * 2,
        ("postgresql://h/d?user=me&password=secret&a=1", "postgresql://h/d?user=me&password=***&a=1"),
        ("mysql://h/d?user=me&passwd=secret", "mysql://h/d?user=me&passwd=***"),
        ("postgresql+psycopg2://me:sec/r?et@h/d", "postgresql+psycopg2://me:***@h/d"),
        ("no answer from http://a:secret@b or https://c:secret@d/e",
         "no answer from http://a:***@b or https://c:***@d/e"),
        ("http://host:5000/#/a@b", "http://host:5000/#/a@b"),
        ("sqlite:////tmp/a@b/mlflow.db", "sqlite:////tmp/a@b/mlflow.db"),
    ],
)  # fmt: skip
def test_passwords_are_never_printed(uri: str, printed: str) -> None:
    assert shown(uri) == printed
    assert str(Target(uri)) == printed


@pytest.mark.parametrize(
    "uri",
    [
        "http://host", "https://host:5000/base", "http://[::1]:5000", "http://h\u00f6st.", "sqlite:///x.db",
        "postgresql+psycopg2://me@host/db", "mysql://host/db", "mssql+pyodbc://host/db",
        "databricks", "databricks://profile",
    ],
)  # fmt: skip
def test_addresses_of_stores(uri: str) -> None:
    assert problem(uri) is None


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("postgresql://me:secret@h/d", "type postgresql://USER@HOST/NAME and let the driver"),
        ("postgresql+psycopg2://me:sec/ret@h/d", "type postgresql://USER@HOST/NAME"),
        ("postgresql://me@h/d?password=secret", "type postgresql://USER@HOST/NAME"),
        ("mysql://h/d?user=me&passwd=secret", "an address without a password"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dsecret", "an address without a password"),
        ("http://me:secret@h", "type http://HOST:PORT and set MLFLOW_TRACKING_USERNAME"),
        ("https://secret@h", "type http://HOST:PORT and set MLFLOW_TRACKING_USERNAME"),
        ("me:secret@h:5000", "an address without user and password"),
    ],
)
def test_an_address_that_is_kept_has_no_password(uri: str, words: str) -> None:
    """What the messages advise to type is accepted."""
    found = problem(uri, is_kept=True)
    assert found is not None
    assert words in found
    assert "secret" not in found


@pytest.mark.parametrize(
    "uri",
    ["postgresql://me@h/d", "postgresql+psycopg2://me@h:5432/d?passfile=/home/me/.pgpass",
     "mysql+pymysql://me@h/d", "sqlite:////tmp/a@b/mlflow.db", "postgresql://h/d", "http://h:1"],
)  # fmt: skip
def test_a_user_without_a_password_may_be_kept(uri: str) -> None:
    assert problem(uri, is_kept=True) is None


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("localhost:5999", "the scheme is missing; type http://localhost:5999"),
        ("host", "the scheme is missing; type http://host"),
        ("http://", "it has no host"),
        ("http://host:99999", "it has no host, or an invalid port"),
        ("http://h\u00f6..st", "it has no host"),
        ("http://t\udcf6k", "it has no host"),
        ("http://a b", "it has no host"),
        ("sqlite://", "it names no database"),
        ("./mlruns", "MLflow no longer keeps results in folders"),
        ("file:///tmp/mlruns", "MLflow no longer keeps results in folders"),
        ("ftp://host", "expected http://HOST:PORT"),
        ("http:/host", "expected http://HOST:PORT"),
    ],
)
def test_what_cannot_be_the_address_of_a_store(uri: str, words: str) -> None:
    found = problem(uri)
    assert found is not None
    assert words in found
