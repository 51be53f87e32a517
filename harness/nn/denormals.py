"""Treat denormal numbers as zero while a network trains.

A float32 below 1.2e-38 is denormal, and arithmetic on it takes about a hundred times as long. The
state of momentum and Adam decays into that range where the gradient is zero (dead units, blank
pixels), so later epochs would take several times as long as the first. Processors can treat such
numbers as zero, with the bits FTZ and DAZ of x86's MXCSR or FZ of Arm's FPCR. These bits are
per thread and part of C's floating-point environment, which `fegetenv` and `fesetenv` read and
write.

Results differ only where a number below 1.2e-38 matters, which is never visible in a loss. On one
machine, every run gives the same bits, because the setting depends only on processor and C library.
"""

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np

# Where the control bits are in `fenv_t` of glibc and musl: (bytes from its start, bits).
_PLACES = {"x86_64": (28, 0x8040), "aarch64": (0, 1 << 24)}
_ROOM = 64  # bytes, more than any `fenv_t` has


@contextmanager
def flushed() -> Iterator[bool]:
    """Treat denormal numbers as zero in this thread, within a `with` statement.

    Yields whether that is in effect; it never is outside Linux. Calls `np.finfo` first, because
    NumPy warns about a type without denormals when it determines its limits.
    """
    np.finfo(np.float32), np.finfo(np.float64)
    before = _environment()
    if before is None or not _flush(before):
        yield False
        return
    try:
        yield True
    finally:
        _libc().fesetenv(before)


def are_flushed() -> bool:
    """Whether this thread treats denormal numbers as zero."""
    tiny = np.full(1, 1e-38, np.float32)
    return not np.multiply(tiny, np.float32(0.1)).any()


def _flush(before: "ctypes.Array[ctypes.c_char]") -> bool:
    """Set the bits. Returns whether they took effect; if not, restores the environment."""
    offset, bits = _PLACES[platform.machine()]
    changed = ctypes.create_string_buffer(before.raw, _ROOM)
    control = ctypes.c_uint32.from_buffer(changed, offset)
    control.value |= bits
    _libc().fesetenv(changed)
    if are_flushed():
        return True
    _libc().fesetenv(before)
    return False


def _environment() -> "ctypes.Array[ctypes.c_char] | None":
    """The floating-point environment of this thread; None if its layout is not known."""
    if not sys.platform.startswith("linux") or platform.machine() not in _PLACES:
        return None
    room = ctypes.create_string_buffer(_ROOM)
    return room if hasattr(_libc(), "fegetenv") and _libc().fegetenv(room) == 0 else None


@cache  # looking up its functions takes a millisecond
def _libc() -> ctypes.CDLL:
    """The C library of this process, which includes or has loaded libm."""
    return ctypes.CDLL(None)
