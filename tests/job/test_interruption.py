"""SIGINT and SIGTERM in a job: the first raises, later ones are ignored."""

import signal
from collections.abc import Iterator

import pytest

from harness.job import interruption
from harness.job.interruption import JobInterrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restore the handlers of the test process."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interruption.requested.clear()


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_raises_and_later_ones_are_ignored(number: int) -> None:
    interruption.raise_on_signal()
    assert not interruption.requested.is_set()
    with pytest.raises(JobInterrupted):
        signal.raise_signal(number)
    assert interruption.requested.is_set()
    for later in NUMBERS:
        signal.raise_signal(later)


def test_signals_can_be_ignored() -> None:
    interruption.raise_on_signal()
    interruption.ignore_signals()
    for number in NUMBERS:
        signal.raise_signal(number)
    assert not interruption.requested.is_set()


def test_an_interruption_is_no_ordinary_error() -> None:
    """`except Exception` in a library does not swallow it."""
    assert not issubclass(JobInterrupted, Exception)
