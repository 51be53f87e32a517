"""A barrier for threads that run the same kernel and wait for each other inside it.

The work between two meetings takes microseconds, so a waiting thread spins. After a longer wait it
yields its core, because another thread may need it. Each thread computes one share of the work; a
single thread computes all shares, with the same results.
"""

import ctypes
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from harness.nn.compiled.dense import COMPILED
from harness.nn.compiled.simd import argument

LINE = 8  # counters in a cache line


class Meeting(NamedTuple):
    """A barrier for threads in the same kernel; see `meet`.

    counters: the number of meetings that each thread has reached, in separate cache lines; a
    nonzero last line ends all waiting. threads: the number of threads that meet. shares: the number
    of parts of the work. looks: reads of a counter before a thread yields its core. address: that
    of the system's `sched_yield`.
    """

    counters: NDArray[np.int64]
    threads: int
    shares: int
    looks: int
    address: int

    def end(self) -> None:
        """End all waiting, because a thread has failed or stopped."""
        self.counters[-LINE:] = 1


@cache
def sched_yield() -> int:
    """The address of the system's `sched_yield`; 0 if there is none."""
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


@intrinsic
def _come(context: Any, counters: Any, place: Any, value: Any) -> Any:
    """Write counters[place], after all earlier writes of this thread."""

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


look: Any = _look  # typed as compiled code calls them, without the context
come: Any = _come
give_way: Any = _give_way


@numba.njit(**COMPILED)
def meet(meeting: Any, number: int) -> None:
    """Wait until every thread has called this as often. number: the number of this thread."""
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
    """The begin and end of share `number` of 0..length-1, divided as in `Workers.run`."""
    count = min(meeting.shares, length)
    if number >= count:
        return length, length
    return length * number // count, length * (number + 1) // count
