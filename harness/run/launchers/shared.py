"""Share the runs of a command with other commands that train them at the same time.

A command that trains a run holds its claim, a lock in the run folder, from before the job starts
until it has ended. If the command dies, the system releases the claim, and another command
continues the run from its last checkpoint.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from filelock import Timeout

from harness.data.atomic import revalidate, write_text
from harness.runfolder import liveness
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus

SETTLED = "settled"  # the file with the end time of a run that is not tried again
POLL_S = 0.5
Pause = Callable[[float], bool | None]


@contextmanager
def claimed(run: Run) -> Iterator[bool]:
    """Hold the claim of a run; yields False if another command holds it."""
    claim = liveness.claim(run.folder)
    try:
        claim.acquire()
    except Timeout:
        yield False
        return
    except OSError:  # the folder was removed or is not writable: its job reports it
        yield True
        return
    try:
        revalidate(run.journal)
        yield True
    finally:
        claim.release()


def settle(run: Run) -> None:
    """Record that the run was not interrupted, so no other command tries it again.

    Call it while holding the claim. Another command continues a run that was interrupted.
    """
    history = run.history()
    if history.status is not RunStatus.FINISHED and history.ended_ms is not None:
        with suppress(OSError):  # at worst, another command tries it again
            write_text(run.folder / SETTLED, str(history.ended_ms))


class Shared:
    """The runs that must end before a command does, whoever trains them. Thread-safe."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._left = {run: run.history().ended_ms for run in runs}
        self._lock = threading.Lock()
        self._is_told = False

    @contextmanager
    def next(self, pause: Pause) -> Iterator[tuple[Run | None, bool]]:
        """The next run, and whether to train it here, under its claim; if not, it has ended.

        Waits while other commands train all remaining runs. pause: called with seconds to wait;
        if it returns true, the run is None.
        """
        with ExitStack() as held:
            found: tuple[Run | None, bool] | None = None
            while found is None:
                found = self._find(held)
                if found is None and pause(POLL_S):
                    found = (None, False)
            yield found

    def _find(self, held: ExitStack) -> tuple[Run, bool] | None:
        """The first run that has ended or can be claimed; its claim is held in `held`."""
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
                print(f"{count} job(s) are being trained by other commands; waiting", flush=True)
        return None


def _is_over(run: Run, before: int | None) -> bool:
    """Whether another command has finished a run, or settled that it failed.

    before: the run's end time when this command started; None if it had not ended.
    """
    history = run.history()
    if history.status is RunStatus.FINISHED:
        return True
    if history.ended_ms in (None, before):
        return False
    with suppress(OSError):
        return (run.folder / SETTLED).read_text() == str(history.ended_ms)
    return False
