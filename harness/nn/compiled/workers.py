"""Threads that share the work of a compiled kernel, which runs without Python's lock.

A training step calls several kernels, which take some tens of microseconds each. To wake a thread
that sleeps, or that waits for Python's lock, takes as long. So a thread waits awake for a moment,
without the lock, and takes it only when the caller is about to be in its own kernel.
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
LOOKS = 400_000  # at a counter, before a thread sleeps: about 150 microseconds
LINGER = 20_000  # looks after that, while the caller enters its kernel and releases Python's lock
GIVEN, DONE = 0, LINE  # the places of the counters, in cache lines of their own


class Workers:
    """`count` threads: the caller's own, and the others, which end with this object.

    They are started at the first call, and again in a process that was forked since.

    is_alone: whether the caller's thread does the work of all, one share after the other. The
    results are the same.
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

        There are `count` ranges, or `length` if that is less, and nothing else decides on them.
        number: of the range, from 0; each thread has another one at a time.
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
        except BaseException:  # as Ctrl-C: answers to this call must not be taken for later ones
            self._stop()
            raise

    @property
    def can_meet(self) -> bool:
        """Whether the threads can wait for each other inside a kernel, for `run_together`."""
        return self.count == 1 or self._meeting.address != 0

    def run_together(self, kernel: Kernel, *arguments: Any) -> None:
        """Call `kernel(*arguments, meeting, number, begin, end)` in all threads.

        number: of the thread, from 0. The kernel computes the shares from `begin` to `end` of its
        work, which `share` divides, and calls `meet` where it needs those of others.
        """
        if self.is_alone:
            kernel(*arguments, self._meeting._replace(threads=1), 0, 0, self.count)
            return
        if self._process != os.getpid():
            self._start()
        self.run(self.count, kernel, *arguments, self._meeting)

    def _start(self) -> None:
        affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
        looks = LOOKS if self.count <= len(affinity(0)) else 0  # no core is kept from a thread
        counters = np.zeros((self.count + 1) * LINE, np.int64)
        self._meeting = self._meeting._replace(counters=counters, looks=looks // 4)
        self._others = [_Other(looks, self._meeting) for _ in range(self.count - 1)]
        for other in self._others:
            threading.Thread(target=other.work, daemon=True).start()
        self._process = os.getpid()

    def _stop(self) -> None:
        """Let the threads end; the next call starts others."""
        self._process = 0
        self._meeting.end()
        for other in self._others:
            other.give(None)

    def __del__(self) -> None:
        self._stop()


class _Other:
    """What another thread gets and answers.

    It knows no `Workers`, so that they can be collected. looks: at a counter before one sleeps.
    meeting: that of the threads.
    """

    def __init__(self, looks: int, meeting: Meeting) -> None:
        self._looks, self._meeting = looks, meeting
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._answers: SimpleQueue[BaseException | None] = SimpleQueue()
        self._counters = np.zeros(2 * LINE, np.int64)

    def give(self, task: Task | None) -> None:
        """Let the thread run a task, or end."""
        self._tasks.put(task)
        self._counters[GIVEN] += 1

    def answer(self) -> BaseException | None:
        """Wait for the end of the task. Returns its error."""
        _watch(self._counters, DONE, self._counters[GIVEN], self._looks, 0)
        return self._answers.get()

    def work(self) -> None:
        """Run tasks until None comes."""
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
    """Look at a counter until it has reached `value`, but only for a moment."""
    for _ in range(looks):
        if look(counters, place) >= value:
            for _ in range(linger):
                look(counters, place)
            return


@numba.njit(**KERNEL)
def _finish(counters: NDArray[np.int64], looks: int) -> None:
    """Count a task as done, without Python's lock, and watch for the next one."""
    counters[DONE] += 1
    _watch(counters, GIVEN, counters[DONE] + 1, looks, LINGER)
