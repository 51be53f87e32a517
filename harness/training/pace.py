"""Switch between one thread and several, whichever is faster at the time; results do not change.

The threads of a training step wait for each other many times. When another program needs one of
their cores, two threads take longer than one: each waits until the other gets its core back. So the
trainer measures both, and one thread does all the work as long as that is faster.
"""

from collections.abc import Generator, Sequence
from typing import Protocol

PERIOD = 4  # blocks over which several threads are timed
MOST = 64  # maximum number of periods with one thread before several are tried again
RARELY = 128  # blocks with several threads before one thread is timed again

Took = tuple[float, int]  # the seconds of a block, and its examples


class Workers(Protocol):
    """The threads of the kernels. is_alone: whether one of them does all the work."""

    is_alone: bool


class Pace:
    """Decides after each block of a training whether one thread or all train the next block.

    workers: all workers to switch together; empty if there is only one thread.
    """

    def __init__(self, workers: Sequence[Workers]) -> None:
        self._workers = workers
        self._course = _course()
        next(self._course)

    def took(self, seconds: float, examples: int) -> None:
        """Record the time it took to train on a block, and switch the workers."""
        is_alone = self._course.send((seconds, examples))
        for each in self._workers:
            each.is_alone = is_alone


def _course() -> Generator[bool, Took, None]:
    """Yield whether one thread trains the next block alone; the caller sends that block's time.

    From time to time, one thread trains a block alone to measure its speed. If several threads are
    slower, it continues alone, each time twice as long as before, up to MOST periods.
    """
    yield False  # the first block also fills the caches
    periods = 1
    while True:
        alone = yield from _measured(1, is_alone=True)
        for _ in range(RARELY // PERIOD):
            while (yield from _measured(PERIOD, is_alone=False)) > alone:
                alone = yield from _measured(PERIOD * periods, is_alone=True)
                periods = min(2 * periods, MOST)
            periods = max(1, periods // 2)


def _measured(blocks: int, *, is_alone: bool) -> Generator[bool, Took, float]:
    """The seconds per example over some blocks."""
    seconds, examples = 0.0, 0
    for _ in range(blocks):
        took = yield is_alone
        seconds, examples = seconds + took[0], examples + took[1]
    return seconds / examples
