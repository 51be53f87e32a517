"""The progress display of one run: a live bar in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from harness.nn import metrics
from harness.runfolder import streams
from harness.runfolder.objective import DEFAULT, Objective
from harness.runfolder.optional import attempt

Show: TypeAlias = Callable[[int, dict[str, float]], None]  # shows the metrics of an epoch

GAP = "  "  # between numbers
BAR, TIME = 25, 8  # characters of the columns, each with the space beside it
SHORTEST = 10  # characters of a name


@contextmanager
def display(
    name: str, epochs: int, finished: int = 0, objective: Objective = DEFAULT
) -> Iterator[Show]:
    """Show each epoch on a bar if standard output is a terminal, else as a line.

    objective: the metric that is shown beside the training loss. A display error does not end the
    training; the first one is printed as a warning.
    """
    what = "progress display"
    kind = Bar if sys.stdout.isatty() else Lines
    shown = attempt(what, lambda: kind(name, epochs, finished, objective), None)
    if shown is None:
        yield lambda epoch, values: None
        return
    try:
        yield lambda epoch, values: attempt(what, lambda: shown.epoch(epoch, values), None)
    finally:
        attempt(what, shown.close, None)


def numbers(
    values: dict[str, float], objective: Objective = DEFAULT, width: int | None = None
) -> str:
    """The main metrics that an epoch has, in one line.

    width: in characters. The speed is left out first, then the training loss.
    """
    parts = []
    if metrics.TRAIN_LOSS in values:
        parts.append(f"loss {values[metrics.TRAIN_LOSS]:.4f}")
    if objective.metric in values and objective.metric != metrics.TRAIN_LOSS:
        parts.append(f"{objective.title} {objective.format(values[objective.metric])}")
    elif metrics.TRAIN_ERROR in values:
        parts.append(f"train error {values[metrics.TRAIN_ERROR]:.2%}")
    if metrics.EXAMPLES_PER_S in values:
        parts.append(f"{values[metrics.EXAMPLES_PER_S]:,.0f} examples/s")
    shown = GAP.join(parts)
    for part in (parts[-1:], parts[:1]):
        if width is not None and len(shown) > width and len(parts) > 1:
            parts.remove(*part)
            shown = GAP.join(parts)
    return shown


class Bar:
    """A rich progress bar; the last state stays on the screen.

    In a narrow terminal, it leaves out numbers, then the bar, and shortens the name. It always
    shows the epoch number.
    """

    def __init__(
        self, name: str, epochs: int, finished: int, objective: Objective = DEFAULT
    ) -> None:
        self._objective = objective
        # Imported here because jobs that run in parallel do not need it.
        from rich import progress as rich

        console = streams.console()
        left = console.width - len(f" epoch {epochs}/{epochs} ") - TIME
        least = len(f"{objective.title} 00.00%")
        most = least + len(f"loss 0.0000{GAP}")
        room = left - most if left - most >= SHORTEST else left - least
        name = _shortened(name, max(SHORTEST, room))
        left -= len(name)
        has_bar = left >= BAR + most
        self._width = left - BAR if has_bar else left
        self._progress = rich.Progress(
            rich.TextColumn("{task.description}", markup=False),
            *([rich.BarColumn(bar_width=BAR - 1)] if has_bar else []),
            rich.TextColumn("epoch {task.completed}/{task.total}", markup=False),
            rich.TextColumn("{task.fields[numbers]}", markup=False),
            rich.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
        )
        self._task = self._progress.add_task(
            name, total=epochs, completed=finished, numbers="starting"
        )
        self._progress.start()

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Move the bar."""
        text = numbers(values, self._objective, self._width)
        self._progress.update(self._task, completed=epoch, numbers=text)

    def close(self) -> None:
        """Stop drawing."""
        self._progress.stop()


def _shortened(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


class Lines:
    """One line per epoch, with the time left."""

    def __init__(
        self, name: str, epochs: int, finished: int, objective: Objective = DEFAULT
    ) -> None:
        self._name, self._objective = name, objective
        self._epochs = epochs
        self._shown = 0
        self._begin = 0.0

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Print the line."""
        now = time.monotonic()
        if not self._shown:  # work before the first epoch, such as compiling, happens once
            self._begin = now - values[metrics.EPOCH_S]
        self._shown += 1
        per_epoch = (now - self._begin) / self._shown
        left = per_epoch * (self._epochs - epoch)
        done = f"{self._name}  epoch {epoch}/{self._epochs}"
        print(f"{done}  {numbers(values, self._objective)}  {left:.0f} s left", flush=True)

    def close(self) -> None:
        """Do nothing."""
