"""The job processes that start up before they have a folder to train.

A command begins with one, while it still imports, composes and checks. Therefore this module
imports next to nothing.
"""

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
            self._waiting.append(_start())

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
                return _start()
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


def _start() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(JOB, stdin=subprocess.PIPE)


def _end(process: "subprocess.Popen[bytes]") -> None:
    with process:
        process.kill()
