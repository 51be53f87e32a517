"""Measure what a training run uses: peak memory, CPU time and energy.

The final record has the metrics `machine/peak_memory_mb`, `machine/cpu_s` and `machine/energy_j`.
Each epoch record has the totals so far under `machine`, and so has the end record of a session
that did not finish training; a resumed run adds to them.

The measurement covers the job's process, and the processes that it starts and waits for, from the
first epoch of the built-in trainer (or from the call of the user's training function) to the final
record. It excludes Python, the imports of the harness, the data set, and the kernels, which are
compiled once per version. Memory is the exception: it is the peak of the whole process, with all
that was loaded and compiled, because it cannot be divided into before and after.

A figure is left out if it is not known for the whole run: if the system does not report it, or an
earlier session of the run did not record it.
"""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from harness.runfolder.optional import attempt

try:
    import resource
except ImportError:  # Windows, which reports no peak
    resource = None  # type: ignore[assignment]

PREFIX = "machine/"
WHAT = "measuring the machine"
PEAK_MEMORY, CPU, ENERGY = "peak_memory_mb", "cpu_s", "energy_j"
POWERCAP = Path("/sys/class/powercap")
STATUS = Path("/proc/self/status")
MOST_W = 600  # the most that a processor package draws for minutes
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes per unit of `ru_maxrss`


class Meter:
    """Measures this process from `begin` on. A measurement error does not fail a training run.

    powercap: the folder with Linux's energy counters.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._powercap = powercap
        self._usage: _Usage | None = None
        self._earlier: Mapping[str, float] | None = None

    def begin(self, earlier: Mapping[str, float] | None) -> None:
        """Start. earlier: the totals of the run's earlier sessions; None for the first."""
        self._earlier = earlier
        self._start()

    def restart(self) -> None:
        """If it has begun, begin again now: the work so far was not part of training."""
        if self._usage is not None:
            self._start()

    def _start(self) -> None:
        self._usage = attempt(WHAT, lambda: _Usage(self._powercap), None)

    def totals(self) -> dict[str, float]:
        """Peak memory, CPU seconds and energy of all sessions of the run, as far as known.

        Call it after each epoch, because the energy counters wrap. Empty before `begin`.
        """
        return attempt(WHAT, self._totals, {})

    def _totals(self) -> dict[str, float]:
        if self._usage is None:
            return {}
        found, earlier = self._usage.read(), self._earlier
        if earlier is not None:
            found = {
                key: max(value, earlier[key]) if key == PEAK_MEMORY else value + earlier[key]
                for key, value in found.items()
                if key in earlier
            }
        return {key: round(value, 3) for key, value in found.items()}


def tells_energy(powercap: Path = POWERCAP) -> bool:
    """Whether this process can read the energy counters of the machine."""
    return bool(_counters(powercap))


class _Usage:
    """What this process has used since this object was made."""

    def __init__(self, powercap: Path) -> None:
        self._status = _File(STATUS) if STATUS.exists() else None
        self._counters = _counters(powercap)
        self._energy_j = 0.0
        processes = _processes()
        self._cpu, self._children = _cpu_s(processes), _peaks(processes)[1]

    def read(self) -> dict[str, float]:
        processes = _processes()
        found = {CPU: _cpu_s(processes) - self._cpu}
        own, children = _peaks(processes)
        if children == self._children:
            children = 0  # the peak of an earlier child
        if memory := max(self._peak() or own, children):
            found[PEAK_MEMORY] = memory / 1e6
        try:
            self._energy_j += sum(counter.more_j() for counter in self._counters)
        except (OSError, ValueError):
            self._counters = []  # the energy in between is unknown
        if self._counters:
            found[ENERGY] = self._energy_j
        return found

    def _peak(self) -> int:
        """The peak in bytes on Linux, where `ru_maxrss` can be the starting program's; else 0."""
        for line in self._status.read().splitlines() if self._status else ():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0


def _processes() -> "list[resource.struct_rusage]":
    """The resource use of this process and its finished children; empty on Windows."""
    if resource is None:
        return []
    return [resource.getrusage(which) for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]


def _cpu_s(processes: "list[resource.struct_rusage]") -> float:
    """User and system seconds."""
    return sum(p.ru_utime + p.ru_stime for p in processes) or time.process_time()


def _peaks(processes: "list[resource.struct_rusage]") -> list[int]:
    """The peaks of this process and its largest finished child, in bytes; 0: unknown."""
    return [p.ru_maxrss * UNIT for p in processes] or [0, 0]


class _File:
    """A system file that is read with one system call.

    It stays open as long as the process, which trains one run.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    def read(self) -> str:
        return os.pread(self._descriptor, 1 << 14, 0).decode()


def _counters(powercap: Path) -> "list[_Counter]":
    """The counters of all processor packages; none if one of them cannot be read.

    The parts of a package have their own counters, and the machine as a whole can have one: these
    would count the same energy again.
    """
    try:
        return [
            _Counter(folder)
            for folder in sorted(powercap.glob("intel-rapl:*"))
            if (folder / "name").read_text().startswith("package")
        ]
    except (OSError, ValueError):  # most systems let only root read them
        return []


class _Counter:
    """The energy counter of a processor package, in microjoules; it wraps to 0."""

    def __init__(self, folder: Path) -> None:
        self._range = int((folder / "max_energy_range_uj").read_text())
        self._file = _File(folder / "energy_uj")
        self._last, self._time = int(self._file.read()), time.monotonic()

    def more_j(self) -> float:
        """Joules since the last call.

        Raises `ValueError` if that was so long ago that the counter may have wrapped twice.
        """
        now, moment = int(self._file.read()), time.monotonic()
        if (moment - self._time) * MOST_W * 1e6 >= self._range:
            raise ValueError("not read for too long")
        more = now - self._last + (self._range if now < self._last else 0)
        self._last, self._time = now, moment
        return more / 1e6
