"""Threads that share the work of a compiled kernel, which runs without Python's lock."""

import os
import threading
from collections.abc import Callable
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

from harness.nn import denormals

Kernel = Callable[..., Any]
Task = tuple[Kernel, tuple[Any, ...], int, int]


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
        """Call `kernel(*arguments, begin, end)` for `count` ranges that cover 0..length-1.

        The ranges depend on `length` and `count` only.
        """
        if self.count == 1 or length == 1:
            kernel(*arguments, 0, length)
            return
        count = min(self.count, length)
        if self._process != os.getpid():
            self._start()
        bounds = [length * number // count for number in range(count + 1)]
        for begin, end in pairwise(bounds[1:]):
            self._tasks.put((kernel, arguments, begin, end))
        kernel(*arguments, 0, bounds[1])
        for _ in range(count - 1):
            if error := self._done.get():
                raise error

    def _start(self) -> None:
        self._tasks, self._done = SimpleQueue(), SimpleQueue()
        self._process = os.getpid()
        for _ in range(self.count - 1):
            threading.Thread(target=_work, args=(self._tasks, self._done), daemon=True).start()

    def __del__(self) -> None:
        for _ in range(self.count - 1):
            self._tasks.put(None)


def _work(tasks: "SimpleQueue[Task | None]", done: "SimpleQueue[BaseException | None]") -> None:
    """Run tasks until None comes. It knows no `Workers`, so that they can be collected."""
    with denormals.flushed():
        while task := tasks.get():
            kernel, arguments, begin, end = task
            try:
                kernel(*arguments, begin, end)
            except BaseException as error:  # raised in the caller's thread
                done.put(error)
            else:
                done.put(None)
