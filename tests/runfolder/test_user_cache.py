"""The user's folder of caches."""

from pathlib import Path

import pytest

from harness.runfolder import user_cache


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache.folder("a") == tmp_path / "home/.cache/scratch-harness/a"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert user_cache.folder("a") == tmp_path / "caches/scratch-harness/a"
    assert (tmp_path / "caches/scratch-harness/a").is_dir()


def test_there_may_be_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("a file, in which root cannot write either")
    for place in (str(tmp_path / "file"), "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", place)
        assert user_cache.folder("a") is None
