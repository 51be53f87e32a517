"""What only describes a run: a failure is a warning, once."""

import pytest

from harness.runfolder import optional


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


def test_an_interruption_is_not_swallowed() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optional.attempt("display", interrupted, None)
