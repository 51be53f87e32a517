"""SIGINT and SIGTERM in a command: the first stops it cleanly, the second ends it at once."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from harness.run import signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restore the handlers of the test process."""
    before = {number: signal.getsignal(number) for number in signals.NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signals._arrived.clear()


@pytest.mark.parametrize("number", signals.NUMBERS)
def test_the_first_signal_raises(number: int) -> None:
    signals.raise_at_the_first()
    signals.raise_again()  # none has arrived
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    with pytest.raises(KeyboardInterrupt):
        signals.raise_again()


@pytest.mark.parametrize("number", signals.NUMBERS)
def test_the_first_signal_sets_the_event(number: int) -> None:
    with signals.setting_event() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()
    assert signal.getsignal(number) is signals._exit, "the next one still ends the command"


def test_without_a_signal_the_handlers_are_as_before() -> None:
    signals.raise_at_the_first()
    before = [signal.getsignal(number) for number in signals.NUMBERS]
    with signals.setting_event() as stop:
        assert [signal.getsignal(number) for number in signals.NUMBERS] != before
    assert not stop.is_set()
    assert [signal.getsignal(number) for number in signals.NUMBERS] == before


@pytest.mark.parametrize(
    "first",
    ["signals.raise_at_the_first()", "event = signals.setting_event(); event.__enter__()"],
    ids=["raise", "event"],
)
def test_the_second_signal_ends_the_process_at_once(first: str) -> None:
    code = (
        "import signal, sys\nfrom harness.run import signals\n"
        f"{first}\n"
        "try:\n    signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:\n    pass\n"
        "try:\n    signal.raise_signal(signal.SIGTERM)\nfinally:\n    print('not at once')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "")
    assert done.stdout.startswith("interrupted again: stopped at once; `python -m harness sync`")
    assert "not at once" not in done.stdout


def test_it_imports_next_to_nothing() -> None:
    code = "import sys; from harness.run import signals; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "hydra", "pydantic", "rich", "mlflow"} & set(done.stdout.split())
