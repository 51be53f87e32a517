"""The progress display of one run: a live bar in a terminal, plain lines elsewhere."""

import sys
import time
from typing import Protocol, Self

from harness.nn import metrics
from harness.runfolder import streams
from harness.runfolder.optional import warn


class Display(Protocol):
    """A context manager that shows each epoch."""

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Show an epoch's metrics."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """End; the last state stays on the screen."""


def display(name: str, epochs: int, finished: int = 0) -> "Harmless":
    """A bar if standard output is a terminal, else lines. It never raises an error."""
    return Harmless((Bar if sys.stdout.isatty() else Lines)(name, epochs, finished))


def numbers(values: dict[str, float]) -> str:
    """The main metrics of an epoch, on one line."""
    parts = [f"loss {values[metrics.TRAIN_LOSS]:.4f}"]
    if metrics.VAL_ERROR in values:
        parts.append(f"validation error {values[metrics.VAL_ERROR]:.2%}")
    else:
        parts.append(f"train error {values[metrics.TRAIN_ERROR]:.2%}")
    parts.append(f"{values[metrics.EXAMPLES_PER_S]:,.0f} examples/s")
    return "  ".join(parts)


class Harmless:
    """Another display, which is given up with a warning when it fails."""

    def __init__(self, display: Display) -> None:
        self.display: Display | None = display

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """See `Display`."""
        self._call("epoch", epoch, values)

    def __enter__(self) -> Self:
        self._call("__enter__")
        return self

    def __exit__(self, *error: object) -> None:
        self._call("__exit__", *error)

    def _call(self, method: str, *arguments: object) -> None:
        if self.display is None:
            return
        try:
            getattr(self.display, method)(*arguments)
        except Exception as error:  # of any kind: no error of the display may end a training
            warn("progress display", f"{type(error).__name__}: {error}")
            self.display = None


class Bar:
    """A rich progress bar."""

    def __init__(self, name: str, epochs: int, finished: int) -> None:
        # Imported here because jobs that run in parallel do not need it.
        from rich import progress as rich

        self._progress = rich.Progress(
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(bar_width=24),
            rich.TextColumn("epoch"),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[numbers]}", markup=False),
            rich.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=streams.console(),
        )
        self._task = self._progress.add_task(
            name, total=epochs, completed=finished, numbers="starting"
        )

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=epoch, numbers=numbers(values))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


class Lines:
    """One line per epoch, with the time left."""

    def __init__(self, name: str, epochs: int, finished: int) -> None:
        self._name = name
        self._epochs = epochs
        self._shown = 0
        self._begin = time.monotonic()

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Print the line."""
        self._shown += 1
        per_epoch = (time.monotonic() - self._begin) / self._shown
        left = per_epoch * (self._epochs - epoch)
        print(
            f"{self._name}  epoch {epoch}/{self._epochs}  {numbers(values)}  {left:.0f} s left",
            flush=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
