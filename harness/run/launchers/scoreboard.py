"""The one progress display of jobs that run at the same time, read from their journals."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from harness.nn import metrics
from harness.runfolder import folder as runs
from harness.runfolder import journal
from harness.runfolder.journal import History

REFRESH_S = 0.5


class Scoreboard:
    """Jobs done, running and failed, the best so far, and the time that is left.

    A live bar in a terminal, a line for every job that ends elsewhere. total: how many jobs there
    will be, when more than `folders` are to come. Use it as a context manager.
    """

    def __init__(self, folders: Sequence[Path], total: int | None = None) -> None:
        self._total = total or len(folders)
        self._lock = threading.Lock()
        self._sizes: dict[Path, int] = {}
        self._told: dict[Path, History] = {}
        for folder in folders:
            self._read(folder)
        self._refreshed = 0.0
        self._over: set[Path] = set()
        self._count: Counter[str] = Counter()
        self._begin = time.monotonic()
        self._epochs_before = self._epochs()
        self._closing = threading.Event()
        console = Console()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                BarColumn(bar_width=24), TextColumn("{task.description}"), console=console
            )
            self._task = self._bar.add_task("starting", total=1.0)
            self._thread = threading.Thread(target=self._keep_fresh, daemon=True)

    def add(self, folder: Path, *, over: bool = False) -> None:
        """One more job, perhaps one that is over already."""
        with self._lock:
            told = self._read(folder)
            self._epochs_before += self._planned() if over else len(told.epochs)
            if over:
                self._over.add(folder)
                self._count[ending(told)] += 1

    def ended(self, folder: Path) -> None:
        """A job is over; its journal is not read again."""
        with self._lock:
            told = self._read(folder)
            self._over.add(folder)
            self._count[ending(told)] += 1
        if self._bar is None:
            if time.monotonic() - self._refreshed > REFRESH_S:
                self._refresh()
            error = best_error(told)
            figure = "" if error is None else f"  validation error {error:.2%}"
            print(f"{told.create['name']}  {ending(told)}{figure}   {self.line()}", flush=True)

    def line(self) -> str:
        """`7/15 done, 2 running, 1 failed, best 1.98% (batch=16,seed=3), 40 s left`"""
        with self._lock:
            told = dict(self._told)
            over, count = set(self._over), Counter(self._count)
        running = sum(told[folder].status == "RUNNING" for folder in told.keys() - over)
        parts = [f"{count['finished']}/{self._total} done", f"{running} running"]
        parts += [f"{count[kind]} {kind}" for kind in ("pruned", "failed", "killed") if count[kind]]
        errors = {folder: best_error(each) for folder, each in told.items()}
        scored = {folder: error for folder, error in errors.items() if error is not None}
        if scored:
            best = min(scored, key=lambda folder: scored[folder])
            parts.append(f"best {scored[best]:.2%} ({told[best].create['name']})")
        left = self._seconds_left()
        if left is not None and count.total() < self._total:
            parts.append(f"{left:.0f} s left")
        return ", ".join(parts)

    def _keep_fresh(self) -> None:
        while not self._closing.wait(REFRESH_S):
            self._refresh()

    def _refresh(self) -> None:
        with self._lock:
            live = [folder for folder in self._told if folder not in self._over]
        for folder in live:
            if (folder / journal.FILE_NAME).stat().st_size != self._sizes[folder]:
                with self._lock:
                    self._read(folder)
        self._refreshed = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, description=self.line(), completed=self._share())

    def _read(self, folder: Path) -> History:
        self._sizes[folder] = (folder / journal.FILE_NAME).stat().st_size
        self._told[folder] = told = journal.history(folder)
        return told

    def _epochs(self) -> int:
        return sum(len(told.epochs) for told in self._told.values())

    def _share(self) -> float:
        """How much of the work is done, in epochs; a job that is over counts as whole."""
        with self._lock:
            shares: list[float] = [
                min(1.0, len(told.epochs) / told.create["params"]["epochs"])
                for folder, told in self._told.items()
                if folder not in self._over
            ]
            return (self._count.total() + sum(shares)) / self._total

    def _seconds_left(self) -> float | None:
        share, took = self._share(), time.monotonic() - self._begin
        before = self._epochs_before / max(1, self._total * self._planned())
        return None if share <= before else took * (1 - share) / (share - before)

    def _planned(self) -> int:
        """Epochs of one job."""
        return max((t.create["params"]["epochs"] for t in self._told.values()), default=1)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._closing.set()
            self._thread.join()
            self._refresh()
            self._bar.stop()


def ending(told: History) -> str:
    """finished, failed, killed or pruned; running or created while it is not over."""
    return "pruned" if runs.is_pruned(told) else told.status.lower()


def best_error(told: History) -> float | None:
    """The lowest validation error of a run so far, a fraction; None where there is none."""
    return min(told.curve(metrics.VAL_ERROR), default=None)
