"""The job processes that start up before they have a folder to train.

A command begins with one, while it still imports, composes and checks. Therefore this module
imports next to nothing.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

JOB = (sys.executable, "-m", "harness.job", "--attached")


class Spares:
    """Jobs that import what training needs, and wait. Leaving the context ends those not taken."""

    def __init__(self) -> None:
        self._waiting: list[subprocess.Popen[bytes]] = []

    def start(self, count: int = 1) -> None:
        """See that so many wait, so that they are ready when they are needed."""
        while len(self._waiting) < count:
            self._waiting.append(start())

    def start_for(self, arguments: Sequence[str]) -> None:
        """Start what a command of these arguments will need first."""
        if any(text.startswith("-") and text not in ("-m", "--multirun") for text in arguments):
            return  # it only shows something
        engines = [text for text in arguments if text.startswith("hydra/")]
        if not engines:
            self.start()
        elif engines == ["hydra/launcher=joblib"]:
            self.start(2)

    def take(self) -> "subprocess.Popen[bytes]":
        """One that waits, or a new one. Any thread may call it."""
        while True:
            try:
                process = self._waiting.pop()
            except IndexError:
                return start()
            if process.poll() is None:
                return process
            _end(process)  # it died while it waited

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._waiting:
            _end(process)


def start() -> "subprocess.Popen[bytes]":
    """A job that waits for its folder. Until it listens to signals, Ctrl-C is not for it."""
    mask = getattr(signal, "pthread_sigmask", None)
    before = mask(signal.SIG_BLOCK, {signal.SIGINT}) if mask else None  # the child inherits it
    try:
        return subprocess.Popen(JOB, stdin=subprocess.PIPE)
    finally:
        if mask:
            mask(signal.SIG_SETMASK, before)


def _end(process: "subprocess.Popen[bytes]") -> None:
    with process:
        process.kill()
