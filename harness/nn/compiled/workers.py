"""Threads that share the work of a compiled kernel, which runs without Python's lock."""

import os
import threading
from collections.abc import Callable
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

from harness.nn import denormals

Kernel = Callable[..., Any]
Task = tuple[Kernel, tuple[Any, ...], int, int, int]


class Workers:
    """`count` threads: the caller's own, and the others, which end with this object.

    They are started at the first call, and again in a process that was forked since.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._process = 0
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()

    def run(self, length: int, kernel: Kernel, *arguments: Any) -> None:
        """Call `kernel(*arguments, number, begin, end)` for ranges that cover 0..length-1.

        There are `count` ranges, or `length` if that is less, and nothing else decides on them.
        number: of the range, from 0; each thread has another one at a time.
        """
        if self.count == 1 or length == 1:
            kernel(*arguments, 0, 0, length)
            return
        count = min(self.count, length)
        if self._process != os.getpid():
            self._start()
        bounds = [length * number // count for number in range(count + 1)]
        try:
            for number, (begin, end) in enumerate(pairwise(bounds[1:]), 1):
                self._tasks.put((kernel, arguments, number, begin, end))
            kernel(*arguments, 0, 0, bounds[1])
            for _ in range(count - 1):
                if error := self._done.get():
                    raise error
        except BaseException:  # as Ctrl-C: answers to this call must not be taken for later ones
            self._stop()
            raise

    def _start(self) -> None:
        self._tasks, self._done = SimpleQueue(), SimpleQueue()
        self._process = os.getpid()
        for _ in range(self.count - 1):
            threading.Thread(target=_work, args=(self._tasks, self._done), daemon=True).start()

    def _stop(self) -> None:
        """Let the threads end; the next call starts others."""
        self._process = 0
        for _ in range(self.count - 1):
            self._tasks.put(None)

    def __del__(self) -> None:
        self._stop()


def _work(tasks: "SimpleQueue[Task | None]", done: "SimpleQueue[BaseException | None]") -> None:
    """Run tasks until None comes. It knows no `Workers`, so that they can be collected."""
    with denormals.flushed():
        while task := tasks.get():
            kernel, arguments, *numbers = task
            try:
                kernel(*arguments, *numbers)
            except BaseException as error:  # raised in the caller's thread
                done.put(error)
            else:
                done.put(None)
