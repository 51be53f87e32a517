"""One thread or several, whichever is faster now, with the same results.

The threads of a training step wait for each other many times. When another program needs a core of
theirs, two of them take longer than one alone: each waits until the other one gets its core back.
So the trainer measures both, and lets one thread do the work of all while that is faster.
"""

from collections.abc import Generator, Sequence
from typing import Protocol

PERIOD = 4  # blocks over which threads together are judged
MOST = 64  # periods that one thread is alone before the next try
RARELY = 128  # blocks together, after which one is trained alone

Took = tuple[float, int]  # the seconds of a block, and its examples


class Workers(Protocol):
    """Threads of kernels. is_alone: whether one of them does the work of all."""

    is_alone: bool


class Pace:
    """Decides after each block of a training whether its threads work together on the next one.

    workers: those that are to change at once; none if there is one thread.
    """

    def __init__(self, workers: Sequence[Workers]) -> None:
        self._workers = workers
        self._course = _course()
        next(self._course)

    def took(self, seconds: float, examples: int) -> None:
        """Take the time of the training on a block."""
        is_alone = self._course.send((seconds, examples))
        for each in self._workers:
            each.is_alone = is_alone


def _course() -> Generator[bool, Took, None]:
    """Yield whether one thread is alone with the next block; what is sent is the time of that one.

    From time to time one block shows how fast a thread is alone. If threads together are slower,
    it stays alone, each time twice as long as before.
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
    """The seconds for each example of some blocks."""
    seconds, examples = 0.0, 0
    for _ in range(blocks):
        took = yield is_alone
        seconds, examples = seconds + took[0], examples + took[1]
    return seconds / examples
