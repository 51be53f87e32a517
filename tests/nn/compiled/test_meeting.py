"""Threads that share a kernel: none goes on before all have come."""

import threading
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="python -m pip install numba")

import numba

from harness.nn.compiled.dense import KERNEL
from harness.nn.compiled.meeting import LINE, meet, share
from harness.nn.compiled.workers import Workers

TIMES = 3000


@numba.njit(**KERNEL)
def take_turns(values: Any, faults: Any, meeting: Any, number: int, _1: int, _2: int) -> None:
    """Each thread writes its value, and then must see those of all others."""
    for time in range(TIMES):
        values[number, 0] = time
        meet(meeting, number)
        for other in range(len(values)):
            faults[number, 0] += values[other, 0] != time
        meet(meeting, number)


@numba.njit(**KERNEL)
def come_once(meeting: Any, number: int) -> None:
    meet(meeting, number)


@numba.njit(**KERNEL)
def mark(marks: Any, meeting: Any, number: int, low: int, high: int) -> None:
    for each in range(low, high):
        begin, end = share(len(marks), meeting, each)
        marks[begin:end] = each
    meet(meeting, number)


@numba.njit(**KERNEL)
def mark_range(marks: Any, number: int, begin: int, end: int) -> None:
    marks[begin:end] = number


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_each_thread_sees_what_the_others_wrote_before(threads: int) -> None:
    """Also with more threads than cores, and in a second kernel."""
    values, faults = np.zeros((2, threads, LINE), np.int64)
    workers = Workers(threads)
    for _ in range(2):
        workers.run_together(take_turns, values, faults)
    assert not faults.any()
    assert (values[:, 0] == TIMES - 1).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [0, 1, 2, 4, 5, 64, 99])
def test_the_work_is_divided_as_that_of_separate_kernels(threads: int, length: int) -> None:
    together, apart = np.full((2, length), -1)
    workers = Workers(threads)
    workers.run_together(mark, together)
    if length:
        workers.run(length, mark_range, apart)
    np.testing.assert_array_equal(together, apart)
    together[:] = -1
    workers.is_alone = True
    workers.run_together(mark, together)
    np.testing.assert_array_equal(together, apart)


def test_a_thread_for_which_nobody_comes_ends_with_its_workers() -> None:
    """As after Ctrl-C, before the caller was in its kernel."""
    workers = Workers(2)
    workers.run_together(take_turns, *np.zeros((2, 2, LINE), np.int64))
    alone = threading.Thread(target=come_once, args=(workers._meeting, 1))
    alone.start()
    alone.join(0.2)
    assert alone.is_alive()
    workers._stop()
    alone.join(30)
    assert not alone.is_alive()


def test_an_error_of_one_thread_does_not_keep_the_others_waiting() -> None:
    workers = Workers(2)

    def fails(meeting: Any, number: int, _1: int, _2: int) -> None:
        if number == 1:
            raise ValueError("here")
        come_once(meeting, number)

    for _ in range(2):
        with pytest.raises(ValueError, match="here"):
            workers.run_together(fails)
    workers.run_together(take_turns, *np.zeros((2, 2, LINE), np.int64))


def test_without_the_systems_function_threads_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.nn.compiled.workers.sched_yield", lambda: 0)
    assert Workers(1).can_meet
    assert not Workers(2).can_meet
    monkeypatch.undo()
    assert Workers(2).can_meet
