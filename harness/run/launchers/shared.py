"""The runs of a command, which other commands can train at the same time.

A command that trains a run holds its claim, a lock in the run folder, from before the job starts
until it has ended. The system releases the claim of a command that dies; then another one continues
the run from its last checkpoint.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from filelock import Timeout

from harness.data.atomic import write_text
from harness.runfolder import liveness
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus

SETTLED = "settled"  # the file with the time of an end that a command has accepted
POLL_S = 0.5
Pause = Callable[[float], bool | None]


@contextmanager
def claimed(run: Run) -> Iterator[bool]:
    """Hold the claim of a run, unless another command does: whether it is held."""
    claim = liveness.claim(run.folder)
    try:
        claim.acquire()
    except Timeout:
        yield False
        return
    except OSError:  # it was removed, or may not be written to: its job reports it
        yield True
        return
    try:
        yield True
    finally:
        claim.release()


def settle(run: Run) -> None:
    """Record that the run was not interrupted: no other command tries it again.

    To be called under its claim. A run that was interrupted is continued by another command.
    """
    history = run.history()
    if history.status is not RunStatus.FINISHED and history.ended_ms is not None:
        with suppress(OSError):  # at worst, another command tries it again
            write_text(run.folder / SETTLED, str(history.ended_ms))


class Shared:
    """The runs that a command has left, whichever command trains them. Thread-safe."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._left = {run: run.history().ended_ms for run in runs}
        self._lock = threading.Lock()
        self._is_told = False

    @contextmanager
    def next(self, pause: Pause) -> Iterator[tuple[Run | None, bool]]:
        """A run, and whether it is to be trained here, with its claim; if not, it is over.

        Waits while other commands train all that are left. pause: called with seconds to wait;
        the run is None when it returns true.
        """
        with ExitStack() as held:
            found: tuple[Run | None, bool] | None = None
            while found is None:
                found = self._find(held)
                if found is None and pause(POLL_S):
                    found = (None, False)
            yield found

    def _find(self, held: ExitStack) -> tuple[Run, bool] | None:
        """The first run that is over or can be claimed; its claim is held in `held`."""
        with self._lock:
            for run, before in self._left.items():
                is_ours = not _is_over(run, before)
                if is_ours:
                    claim = ExitStack()
                    if not claim.enter_context(claimed(run)) or run.is_live():
                        claim.close()
                        continue
                    is_ours = not _is_over(run, before)
                    held.push(claim)
                del self._left[run]
                return run, is_ours
            if self._left and not self._is_told:
                self._is_told = True
                count = len(self._left)
                print(f"{count} job(s) are trained by other commands: waiting", flush=True)
        return None


def _is_over(run: Run, before: int | None) -> bool:
    """Whether another command has finished a run, or settled that it failed.

    before: when the run had ended as this command began.
    """
    history = run.history()
    if history.status is RunStatus.FINISHED:
        return True
    if history.ended_ms in (None, before):
        return False
    with suppress(OSError):
        return (run.folder / SETTLED).read_text() == str(history.ended_ms)
    return False
