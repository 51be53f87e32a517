"""Threads that share the work of a compiled kernel, which runs without Python's lock.

A training step calls several kernels, which take some tens of microseconds each. To wake a thread
that sleeps, or that waits for Python's lock, takes as long. So a thread waits awake for a moment,
without the lock, and takes it only when the caller is about to be in its own kernel.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from queue import SimpleQueue
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from harness.nn import denormals
from harness.nn.compiled.dense import COMPILED, KERNEL
from harness.nn.compiled.simd import argument

Kernel = Callable[..., Any]
Task = tuple[Kernel, tuple[Any, ...], int, int, int]
LOOKS = 400_000  # at a counter, before a thread sleeps: about 150 microseconds
LINGER = 20_000  # looks after that, while the caller enters its kernel and releases Python's lock
GIVEN, DONE = 0, 8  # the places of the counters, in cache lines of their own
LINE = 8  # counters in a cache line


class Meeting(NamedTuple):
    """Where threads in the same kernel wait for each other; see `meet`.

    counters: how often each thread came, in cache lines of their own; in the last line, not 0 when
    nobody is to wait anymore. looks: at a counter, before a thread lets others run at its core.
    address: of the system's `sched_yield`.
    """

    counters: NDArray[np.int64]
    threads: int
    looks: int
    address: int


class Workers:
    """`count` threads: the caller's own, and the others, which end with this object.

    They are started at the first call, and again in a process that was forked since.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._process = 0
        self._others: list[_Other] = []
        self._meeting = Meeting(np.zeros((count + 1) * LINE, np.int64), count, 0, sched_yield())
        if count > 1:  # compile now, not during the first epoch
            counters = np.zeros(16, np.int64)
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
        if self._process != os.getpid():
            self._start()
        bounds = [length * number // count for number in range(count + 1)]
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

        number: of the thread, from 0. The kernel divides its work by `share`, and calls `meet`.
        """
        if self._process != os.getpid():
            self._start()
        self.run(self.count, kernel, *arguments, self._meeting)

    def _start(self) -> None:
        affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
        looks = LOOKS if self.count <= len(affinity(0)) else 0  # no core is kept from a thread
        counters = np.zeros((self.count + 1) * LINE, np.int64)
        self._meeting = self._meeting._replace(counters=counters, looks=looks // 4)
        self._others = [_Other(looks) for _ in range(self.count - 1)]
        for other in self._others:
            threading.Thread(target=other.work, daemon=True).start()
        self._process = os.getpid()

    def _stop(self) -> None:
        """Let the threads end; the next call starts others."""
        self._process = 0
        self._meeting.counters[-LINE:] = 1
        for other in self._others:
            other.give(None)

    def __del__(self) -> None:
        self._stop()


class _Other:
    """What another thread gets and answers.

    It knows no `Workers`, so that they can be collected. looks: at a counter before one sleeps.
    """

    def __init__(self, looks: int) -> None:
        self._looks = looks
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._answers: SimpleQueue[BaseException | None] = SimpleQueue()
        self._counters = np.zeros(16, np.int64)

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
                else:
                    self._answers.put(None)
                del kernel, arguments, task
                _finish(self._counters, self._looks)


@cache
def sched_yield() -> int:
    """The address of the system's function; 0 where there is none."""
    try:
        return ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0
    except (AttributeError, OSError, TypeError):  # Windows
        return 0


@intrinsic
def _look(context: Any, counters: Any, place: Any) -> Any:
    """counters[place], read from memory each time."""

    def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        array = argument(context, build, signature, arguments, 0)
        address = build.gep(array.data, [arguments[1]])
        return build.load_atomic(address, "acquire", 8)

    return types.int64(counters, types.intp), code


look: Any = _look  # as compiled code calls it, without the context


@intrinsic
def _come(context: Any, counters: Any, place: Any, value: Any) -> Any:
    """Write counters[place], after all that this thread wrote before."""

    def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        array = argument(context, build, signature, arguments, 0)
        build.store_atomic(arguments[2], build.gep(array.data, [arguments[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(counters, types.intp, types.int64), code


@intrinsic
def _give_way(context: Any, address: Any) -> Any:
    """Call the function at `address`, which takes no arguments."""

    def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        build.call(build.inttoptr(arguments[0], kind.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.int64), code


come: Any = _come
give_way: Any = _give_way


@numba.njit(**COMPILED)
def meet(meeting: Any, number: int) -> None:
    """Wait until all threads have come here as often. number: of this thread."""
    counters, threads = meeting.counters, meeting.threads
    if threads == 1:
        return
    times = counters[number * LINE] + 1
    come(counters, number * LINE, times)
    for other in range(threads):
        looks = meeting.looks
        while look(counters, other * LINE) < times and look(counters, threads * LINE) == 0:
            if looks > 0:
                looks -= 1
            else:
                give_way(meeting.address)


@numba.njit(**COMPILED)
def share(length: int, meeting: Any, number: int) -> Any:
    """The range of 0..length-1 of a thread, as `Workers.run` divides it: begin and end."""
    count = min(meeting.threads, length)
    if number >= count:
        return length, length
    return length * number // count, length * (number + 1) // count


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
