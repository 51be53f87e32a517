"""The launcher interface."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from harness.runfolder.run import Run

OnEnd = Callable[[Run], None]
Decision = Callable[[], Literal["end", "leave"] | None]
"""Whether to stop a job: None: let it run; "end": stop it; "leave": the command is exiting, stop
local jobs, leave Slurm jobs running."""


class LauncherError(RuntimeError):
    """The launcher cannot start a job; the message has the reason."""


class Launcher(Protocol):
    """Starts `harness.job` on run folders."""

    slots: int
    """How many jobs a search keeps running at the same time."""

    def run(self, runs: Sequence[Run], on_end: OnEnd, before: Sequence[Run] = ()) -> None:
        """Train all these runs and call `on_end` with each one that was trained here and has ended.

        Waits for runs that another command trains, and continues them here if it dies. before: runs
        of the same sweep that ended earlier, which the progress display counts. Raises
        `KeyboardInterrupt` if a signal stops it early.
        """

    def attend(self, run: Run, decide: Decision, pause: int | None = None) -> None:
        """Train one run without output, to its end or until `decide` stops it. Thread-safe.

        pause: the epoch after which the job ends with a checkpoint; None: the last one.
        """
