"""Threads that share the work of a compiled kernel, which runs without Python's lock.

A training step calls several kernels, which take some tens of microseconds each. Waking a thread
that sleeps or waits for Python's lock takes as long. So after a task, a thread spins briefly
without the lock, and takes the lock only after the caller has had time to enter its own kernel.
"""

import os
import threading
from collections.abc import Callable
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from harness.nn import denormals
from harness.nn.compiled.dense import KERNEL
from harness.nn.compiled.meeting import LINE, Meeting, look, sched_yield

Kernel = Callable[..., Any]
Task = tuple[Kernel, tuple[Any, ...], int, int, int]
LOOKS = 400_000  # reads of a counter before a thread sleeps: about 150 microseconds
LINGER = 20_000  # more reads, while the caller enters its kernel and releases Python's lock
GIVEN, DONE = 0, LINE  # the positions of the counters, in separate cache lines


class Workers:
    """`count` threads: the caller's, and others, which stop when this object is deleted.

    The others start at the first call, and again after a fork in the new process.

    is_alone: whether the caller's thread does all the work, one share after the other. The results
    are the same.
    """

    def __init__(self, count: int) -> None:
        self.count, self.is_alone = count, False
        self._process = 0
        self._others: list[_Other] = []
        counters = np.zeros((count + 1) * LINE, np.int64)
        self._meeting = Meeting(counters, count, count, 0, sched_yield())
        if count > 1:  # compile now, not during the first epoch
            counters = np.zeros(2 * LINE, np.int64)
            _watch(counters, DONE, counters[GIVEN], 0, 0)
            _finish(counters, 0)

    def run(self, length: int, kernel: Kernel, *arguments: Any) -> None:
        """Call `kernel(*arguments, number, begin, end)` for ranges that cover 0..length-1.

        There are min(count, length) ranges, which depend on nothing else. number: of the range,
        from 0; no two threads use the same number at the same time.
        """
        if self.count == 1 or length == 1:
            kernel(*arguments, 0, 0, length)
            return
        count = min(self.count, length)
        bounds = [length * number // count for number in range(count + 1)]
        if self.is_alone:
            for number, (begin, end) in enumerate(pairwise(bounds)):
                kernel(*arguments, number, begin, end)
            return
        if self._process != os.getpid():
            self._start()
        others = self._others[: count - 1]
        try:
            for number, (begin, end) in enumerate(pairwise(bounds[1:]), 1):
                others[number - 1].give((kernel, arguments, number, begin, end))
            kernel(*arguments, 0, 0, bounds[1])
            for other in others:
                if error := other.answer():
                    raise error
        except BaseException:  # such as Ctrl-C: a later call must not get the answers to this one
            self._stop()
            raise

    @property
    def can_meet(self) -> bool:
        """Whether the threads can wait for each other inside a kernel, for `run_together`."""
        return self.count == 1 or self._meeting.address != 0

    def run_together(self, kernel: Kernel, *arguments: Any) -> None:
        """Call `kernel(*arguments, meeting, number, begin, end)` in all threads.

        number: of the thread, from 0. The kernel divides its work with `share`, computes the shares
        from `begin` to `end`, and calls `meet` before it uses the results of other threads.
        """
        if self.is_alone:
            kernel(*arguments, self._meeting._replace(threads=1), 0, 0, self.count)
            return
        if self._process != os.getpid():
            self._start()
        self.run(self.count, kernel, *arguments, self._meeting)

    def _start(self) -> None:
        affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
        looks = LOOKS if self.count <= len(affinity(0)) else 0  # no spinning if cores are too few
        counters = np.zeros((self.count + 1) * LINE, np.int64)
        self._meeting = self._meeting._replace(counters=counters, looks=looks // 4)
        self._others = [_Other(looks, self._meeting) for _ in range(self.count - 1)]
        for other in self._others:
            threading.Thread(target=other.work, daemon=True).start()
        self._process = os.getpid()

    def _stop(self) -> None:
        """Stop the other threads; the next call starts new ones."""
        self._process = 0
        self._meeting.end()
        for other in self._others:
            other.give(None)

    def __del__(self) -> None:
        self._stop()


class _Other:
    """Another thread: its tasks and its answers.

    It has no reference to its `Workers`, so that they can be garbage-collected. looks: reads of a
    counter before it sleeps. meeting: the barrier of the threads.
    """

    def __init__(self, looks: int, meeting: Meeting) -> None:
        self._looks, self._meeting = looks, meeting
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._answers: SimpleQueue[BaseException | None] = SimpleQueue()
        self._counters = np.zeros(2 * LINE, np.int64)

    def give(self, task: Task | None) -> None:
        """Give the thread a task to run, or None to stop it."""
        self._tasks.put(task)
        self._counters[GIVEN] += 1

    def answer(self) -> BaseException | None:
        """Wait for the end of the task. Returns its error, or None."""
        _watch(self._counters, DONE, self._counters[GIVEN], self._looks, 0)
        return self._answers.get()

    def work(self) -> None:
        """Run tasks until the task is None."""
        with denormals.flushed():
            while task := self._tasks.get():
                kernel, arguments, *numbers = task
                try:
                    kernel(*arguments, *numbers)
                except BaseException as error:  # raised in the caller's thread
                    self._answers.put(error)
                    self._meeting.end()
                else:
                    self._answers.put(None)
                del kernel, arguments, task
                _finish(self._counters, self._looks)


@numba.njit(**KERNEL)
def _watch(counters: NDArray[np.int64], place: int, value: int, looks: int, linger: int) -> None:
    """Read a counter at most `looks` times until it reaches `value`, then `linger` times more."""
    for _ in range(looks):
        if look(counters, place) >= value:
            for _ in range(linger):
                look(counters, place)
            return


@numba.njit(**KERNEL)
def _finish(counters: NDArray[np.int64], looks: int) -> None:
    """Count a task as done, without Python's lock, and spin briefly for the next one."""
    counters[DONE] += 1
    _watch(counters, GIVEN, counters[DONE] + 1, looks, LINGER)
