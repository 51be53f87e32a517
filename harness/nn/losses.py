"""Losses: softmax with cross-entropy for classes, squared error for numbers; one name table.

The network's outputs are z (B, C), the targets t (B, C).

    cross_entropy   -sum_c t_c log p_c with p = softmax(z)    predicts the probabilities p
    squared_error   sum_c (z_c - t_c)^2 / C                   predicts z itself

Training minimizes the mean over the batch; `gradient` is its derivative with respect to z.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["LOSSES", "CrossEntropy", "Loss", "SquaredError", "softmax"]

Array = NDArray[np.floating[Any]]
Kind = Literal["classification", "regression"]
LEAST = 1e-30  # lower limit of a probability, because those that round to 0 have no logarithm


class Loss(Protocol):
    """The interface of a loss. Its factory is called without positional arguments.

    outputs, targets and out are (B, C). kind: "classification" if the rows of the targets sum to 1
    (one-hot or smoothed) and predictions are probabilities; or "regression" if targets and
    predictions are any numbers and no errors are counted.
    """

    @property
    def kind(self) -> Kind:
        """Whether it is a loss for classification or for regression."""

    def value(self, outputs: Array, targets: Array) -> Array:
        """The loss of each example, (B,)."""

    def gradient(self, outputs: Array, targets: Array, out: Array) -> Any:
        """Write the derivative of the batch's mean loss with respect to `outputs` into `out`."""

    def predict(self, outputs: Array, out: Array) -> Any:
        """Write the predictions into `out`: probabilities of the classes, or numbers."""


def softmax(logits: Array, out: Array, row: Array) -> None:
    """Write the softmax of `logits` (B, C) into `out` (B, C); `row` (B, 1) is scratch space."""
    np.maximum.reduce(logits, axis=1, keepdims=True, out=row)
    np.subtract(logits, row, out=out)
    np.exp(out, out=out)
    np.add.reduce(out, axis=1, keepdims=True, out=row)
    np.divide(out, row, out=out)


class CrossEntropy:
    """The cross-entropy of softmax, in nats, computed stably. All instances are equal.

    With logits z, targets t whose rows sum to 1, and p = softmax(z):

        loss of one example = -sum_c t_c log p_c = log(sum_c exp z_c) - sum_c t_c z_c
        gradient d loss / d z = p - t

    (Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4.) Subtracting the row's
    maximum from z first changes neither and prevents overflow.
    """

    kind: Kind = "classification"

    def __init__(self) -> None:
        self._row: Array = np.empty((0, 1))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    __hash__ = None  # type: ignore[assignment]  # it has a buffer

    def value(self, outputs: Array, targets: Array) -> Array:
        """log(sum_c exp z_c) - sum_c t_c z_c."""
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        losses: Array = np.log(np.exp(shifted).sum(axis=1))
        losses -= np.einsum("bc,bc->b", targets, shifted)
        return losses

    def gradient(self, outputs: Array, targets: Array, out: Array) -> None:
        """(p - t) / B."""
        self.predict(outputs, out)
        np.subtract(out, targets, out=out)
        np.multiply(out, 1 / len(out), out=out)

    def predict(self, outputs: Array, out: Array) -> None:
        """p = softmax(z)."""
        if len(self._row) != len(outputs) or self._row.dtype != outputs.dtype:
            self._row = np.empty((len(outputs), 1), outputs.dtype)
        softmax(outputs, out, self._row)


class SquaredError:
    """The mean squared error: the mean over the outputs, as in PyTorch's `MSELoss`.

        loss of one example = sum_c (z_c - t_c)^2 / C
        gradient d loss / d z_c = 2 (z_c - t_c) / C

    So losses and learning rates are comparable for any number of outputs.
    """

    kind: Kind = "regression"

    def value(self, outputs: Array, targets: Array) -> Array:
        """sum_c (z_c - t_c)^2 / C."""
        difference = outputs - targets
        losses: Array = np.einsum("bc,bc->b", difference, difference)
        losses /= outputs.shape[1]
        return losses

    def gradient(self, outputs: Array, targets: Array, out: Array) -> None:
        """2 (z - t) / (B C)."""
        np.subtract(outputs, targets, out=out)
        np.multiply(out, 2 / out.size, out=out)

    def predict(self, outputs: Array, out: Array) -> None:
        """z."""
        np.copyto(out, outputs)


LOSSES: dict[str, Callable[..., Loss]] = {
    "cross_entropy": CrossEntropy,
    "squared_error": SquaredError,
}


def predict(loss: Loss, outputs: Array, temperature: float, out: Array) -> None:
    """Write the calibrated predictions of `outputs` (B, C) into `out`, which is another array.

    For the built-in losses, they are softmax(z / T); for others, `tempered` predictions, because a
    prediction can be any function of the outputs.
    """
    if type(loss) in LOSSES.values():
        loss.predict(np.divide(outputs, np.float32(temperature)), out)
        return
    loss.predict(outputs, out)
    if temperature != 1:
        out[:] = tempered(out, temperature)


def tempered(probabilities: Array, temperature: float) -> Array:
    """softmax(log p / T), (N, C), of probabilities p; softmax(z / T) if p = softmax(z)."""
    logits = np.log(np.maximum(probabilities, LEAST)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits.astype(probabilities.dtype)
