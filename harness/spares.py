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
    """At most one job that imports what training needs, and waits. Leaving the context ends it."""

    def __init__(self) -> None:
        self._waiting: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start one, so that it is ready when it is needed; another if it died."""
        if self._waiting is not None and self._waiting.poll() is not None:
            self._end()
        if self._waiting is None:
            self._waiting = subprocess.Popen(JOB, stdin=subprocess.PIPE)

    def start_for(self, arguments: Sequence[str]) -> None:
        """Start one if a command of these arguments will need it."""
        shows = any(text.startswith("-") and text not in ("-m", "--multirun") for text in arguments)
        is_elsewhere = any(text.startswith("hydra/") for text in arguments)  # launchers, searches
        if not shows and not is_elsewhere:
            self.start()

    def take(self) -> "subprocess.Popen[bytes]":
        """The one that waits, or a new one."""
        self.start()
        taken, self._waiting = self._waiting, None
        assert taken is not None
        return taken

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._waiting is not None:
            with self._waiting as process:
                process.kill()
            self._waiting = None
