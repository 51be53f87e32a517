"""Where the machine code of compiled kernels is kept."""

from pathlib import Path

import pytest

from harness.job import kernels
from harness.runfolder.keys import source_digest


@pytest.mark.parametrize("home", ["own", "read-only", "none", "XDG"])
def test_compiled_code_is_kept_for_all_outputs_of_a_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    """In the user's cache; in that of the outputs where there is no such folder."""
    name = f"numba-{source_digest()[:12]}"
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    expected = tmp_path / "home/.cache/scratch-harness" / name
    if home == "XDG":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
        expected = tmp_path / "caches/scratch-harness" / name
    elif home == "read-only":
        (tmp_path / "home").write_text("a file, in which root cannot write either")
    elif home == "none":
        monkeypatch.setattr(Path, "home", _no_home)
    if home in ("read-only", "none"):
        expected = tmp_path / "cache" / name
    assert kernels.code_folder(tmp_path / "cache") == str(expected)


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")
