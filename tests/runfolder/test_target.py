"""The address of a tracking store, from settings and options."""

from pathlib import Path

import pytest

from harness.runfolder.target import Target


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
