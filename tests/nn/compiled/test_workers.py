"""The threads of compiled kernels."""

import gc
import threading
import time

import pytest

from harness.nn import denormals
from harness.nn.compiled.workers import Workers


@pytest.mark.parametrize(("count", "length"), [(1, 5), (2, 5), (3, 2), (4, 4), (2, 1)])
def test_the_ranges_cover_everything_once(count: int, length: int) -> None:
    """By several threads, by one alone, and by several again."""
    done: list[tuple[int, int, int]] = []
    workers = Workers(count)
    for is_alone in (False, True, False):
        workers.is_alone = is_alone
        done.clear()
        workers.run(length, lambda *numbers: done.append(numbers))
        assert sorted(n for _, begin, end in done for n in range(begin, end)) == [*range(length)]
        assert sorted(number for number, _, _ in done) == list(range(min(count, length)))


def test_a_thread_alone_starts_no_other() -> None:
    seen: list[int] = []
    workers = Workers(3)
    workers.is_alone = True
    before = threading.active_count()
    workers.run(3, lambda *numbers: seen.append(threading.get_ident()))
    workers.run_together(lambda *numbers: seen.append(threading.get_ident()))
    assert seen == [threading.get_ident()] * 4
    assert threading.active_count() == before


def test_an_error_of_a_thread_is_raised() -> None:
    workers = Workers(2)
    for failing in (1, 0, 1):

        def fails(number: int, begin: int, end: int, failing: int = failing) -> None:
            if number == failing:
                raise ValueError("here")

        with pytest.raises(ValueError, match="here"):
            workers.run(2, fails)
        workers.run(2, lambda *numbers: None)  # the answer of the other thread is not its own


def test_the_threads_treat_denormals_as_the_caller_and_end_with_the_object() -> None:
    seen: list[bool] = []
    gc.collect()  # objects of other tests
    time.sleep(0.1)
    before = threading.active_count()
    workers = Workers(3)
    with denormals.flushed() as is_flushed:
        workers.run(3, lambda *numbers: seen.append(denormals.are_flushed()))
    assert seen == [is_flushed] * 3
    del workers
    gc.collect()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
