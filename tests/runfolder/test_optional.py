"""What only describes a run: a failure is a warning, once."""

import sys
from pathlib import Path

import pytest

from harness.runfolder import optional
from tests.conftest import wait_for


def fail() -> int:
    raise KeyError("getpwuid")


def test_a_result_is_passed_on() -> None:
    assert optional.attempt("a fact", lambda: 3, 0) == 3


def test_a_failure_is_one_warning_and_the_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optional, "_warned", set())
    assert [optional.attempt("user", fail, 7) for _ in range(3)] == [7, 7, 7]
    assert capsys.readouterr().err == "warning: user: KeyError: 'getpwuid'\n"


def test_a_file_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none" / "report"
    assert optional.attempt(f"no report in {tmp_path}", path.mkdir, None) is None
    warning = f"warning: no report in {tmp_path}: {path}: No such file or directory\n"
    assert capsys.readouterr().err == warning


def test_an_interruption_is_not_swallowed() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optional.attempt("display", interrupted, None)


def test_a_module_is_loaded_meanwhile(capsys: pytest.CaptureFixture[str]) -> None:
    sys.modules.pop("colorsys", None)
    optional.preload("no_such_module")
    optional.preload("colorsys")
    wait_for(lambda: "colorsys" in sys.modules)
    assert capsys.readouterr().err == ""
