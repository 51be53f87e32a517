"""Recorders, which the training loop calls after each epoch: a protocol, and two without files."""

from typing import Any, Protocol

from harness.nn import metrics

__all__ = ["Lines", "Recorder", "Silence"]


class Recorder(Protocol):
    """The interface that the training loop calls after each epoch and at the end."""

    def epoch(self, epoch: int, values: dict[str, float], trainer: Any) -> None:
        """Called after each epoch.

        epoch: from 1. values: its metrics by key. trainer: the `Trainer`.
        """

    def final(self, epoch: int, values: dict[str, float]) -> None:
        """Called once, after the last epoch. values: the metrics of the test set."""


class Silence:
    """A recorder that records nothing."""

    def epoch(self, epoch: int, values: dict[str, float], trainer: Any) -> None:
        """Do nothing."""

    def final(self, epoch: int, values: dict[str, float]) -> None:
        """Do nothing."""


class Lines:
    """Prints one line per epoch, and the metrics of the test set at the end.

    epochs: the total number. recorder: called after each line.
    """

    def __init__(self, epochs: int, recorder: Recorder | None = None) -> None:
        self.epochs, self.recorder = epochs, recorder or Silence()

    def epoch(self, epoch: int, values: dict[str, float], trainer: Any) -> None:
        """Print the losses, the errors and the time."""
        shown = {key: value for key, value in values.items() if key.endswith(("loss", "error"))}
        print(
            f"epoch {epoch}/{self.epochs}  {_text(shown)}  {values[metrics.EPOCH_S]:.1f} s",
            flush=True,
        )
        self.recorder.epoch(epoch, values, trainer)

    def final(self, epoch: int, values: dict[str, float]) -> None:
        """Print the metrics of the test set."""
        print(_text(values), flush=True)
        self.recorder.final(epoch, values)


def _text(values: dict[str, float]) -> str:
    return "  ".join(f"{key} {value:.4f}" for key, value in values.items())
