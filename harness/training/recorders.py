"""What the training loop calls after each epoch: the contract, and two that need no files."""

from typing import TYPE_CHECKING, Protocol

from harness.nn import metrics

if TYPE_CHECKING:
    from harness.training.trainer import Trainer


class Recorder(Protocol):
    """What the loop calls after each epoch and at the end."""

    def epoch(self, epoch: int, values: dict[str, float], trainer: "Trainer") -> None:
        """Called after each epoch. epoch: from 1. values: its metrics by key."""

    def final(self, epoch: int, values: dict[str, float]) -> None:
        """Called once, after the last epoch. values: the metrics of the test set."""


class Silence:
    """A recorder that records nothing."""

    def epoch(self, epoch: int, values: dict[str, float], trainer: "Trainer") -> None:
        """Do nothing."""

    def final(self, epoch: int, values: dict[str, float]) -> None:
        """Do nothing."""


class Lines:
    """Prints a line an epoch, and the metrics of the test set at the end. epochs: in all."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def epoch(self, epoch: int, values: dict[str, float], trainer: "Trainer") -> None:
        """Print the losses, the errors and the time."""
        shown = {key: value for key, value in values.items() if key.endswith(("loss", "error"))}
        print(
            f"epoch {epoch}/{self.epochs}  {_text(shown)}  {values[metrics.EPOCH_S]:.1f} s",
            flush=True,
        )

    def final(self, epoch: int, values: dict[str, float]) -> None:
        """Print them."""
        print(_text(values), flush=True)


def _text(values: dict[str, float]) -> str:
    return "  ".join(f"{key} {value:.4f}" for key, value in values.items())
