"""Losses: softmax with cross-entropy for classes, squared error for numbers; one name table.

The network's outputs are z (B, C), the targets t (B, C).

    cross_entropy   -sum_c t_c log p_c with p = softmax(z)    predicts the probabilities p
    squared_error   sum_c (z_c - t_c)^2 / C                   predicts z itself

What is trained on is the mean over the batch; `gradient` is its derivative with respect to z.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.nn.differences import contradiction

__all__ = ["LOSSES", "CrossEntropy", "Loss", "SquaredError", "softmax"]

Array = NDArray[np.floating[Any]]
Kind = Literal["classification", "regression"]
PROBES, STEP, MAY_DIFFER = 32, 1e-2, 0.5  # of the central differences of `gradient_fault`
LARGEST = 100  # outputs at which float32 has such differences
PROBABILITY_TOLERANCE = 1e-3  # of their sum, in float32
LEAST = 1e-30  # lower limit of a probability, for the logarithm of those that are 0 in float32


class Loss(Protocol):
    """The contract of a loss. Its factory is called without positional arguments.

    outputs, targets and out are (B, C). kind: "classification", where the rows of the targets sum
    to 1 (one-hot, or smoothed) and predictions are probabilities; or "regression", where targets
    and predictions are any numbers, and no errors are counted.
    """

    @property
    def kind(self) -> Kind:
        """What it is a loss of."""

    def value(self, outputs: Array, targets: Array) -> Array:
        """The loss of each example, (B,)."""

    def gradient(self, outputs: Array, targets: Array, out: Array) -> Any:
        """Write the derivative of the batch's mean loss with respect to `outputs` into `out`."""

    def predict(self, outputs: Array, out: Array) -> Any:
        """Write the predictions into `out`: probabilities of the classes, or numbers."""


def softmax(logits: Array, out: Array, row: Array) -> None:
    """Class probabilities of `logits` (B, C) into `out` (B, C); `row` (B, 1) is scratch space."""
    np.maximum.reduce(logits, axis=1, keepdims=True, out=row)
    np.subtract(logits, row, out=out)
    np.exp(out, out=out)
    np.add.reduce(out, axis=1, keepdims=True, out=row)
    np.divide(out, row, out=out)


class CrossEntropy:
    """The cross-entropy of softmax, in nats, computed stably. Equal to any other of its class.

    With logits z, targets t whose rows sum to 1, and p = softmax(z):

        loss of one example = -sum_c t_c log p_c = log(sum_c exp z_c) - sum_c t_c z_c
        gradient d loss / d z = p - t

    (Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4.) Subtracting the row's
    maximum first changes neither and prevents overflow.
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
    """The mean squared error: the mean over the outputs, as PyTorch's `MSELoss` has it.

        loss of one example = sum_c (z_c - t_c)^2 / C
        gradient d loss / d z_c = 2 (z_c - t_c) / C

    So the loss, and a learning rate, mean the same for any number of outputs.
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


def predict(loss: Loss, outputs: Array, temperature: float, out: Array) -> None:
    """Write the calibrated predictions of `outputs` (B, C), which are not `out`, into `out`.

    softmax(z / T) for the built-in losses; for others `tempered` predictions, because a prediction
    may be any function of the outputs.
    """
    if type(loss) in LOSSES.values():
        loss.predict(np.divide(outputs, np.float32(temperature)), out)
        return
    loss.predict(outputs, out)
    if temperature != 1:
        out[:] = tempered(out, temperature)


def tempered(probabilities: Array, temperature: float) -> Array:
    """softmax(log p / T), (N, C), of probabilities p; of p = softmax(z), that is softmax(z / T)."""
    logits = np.log(np.maximum(probabilities, LEAST)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits.astype(probabilities.dtype)


def check_kind(place: str, loss: Loss, *, is_regression: bool, label_smoothing: float) -> None:
    """Raise `ValueError` for a loss of another kind than the data, or smoothed numbers.

    place: what the message begins with, such as `loss=squared_error`.
    """
    targets = {"classification": "class labels", "regression": "numbers"}
    if loss.kind not in targets:
        raise ValueError(
            f"{place}: expected kind to be {' or '.join(targets)}, found {loss.kind!r}"
        )
    if is_regression != (loss.kind == "regression"):
        other, fitting = (
            ("regression", "squared_error")
            if is_regression
            else ("classification", "cross_entropy")
        )
        raise ValueError(
            f"{place}: a {loss.kind} expects {targets[loss.kind]} as targets, and the data set has "
            f"{targets[other]}; use a loss for a {other}, such as {fitting}"
        )
    if is_regression and label_smoothing:
        raise ValueError(
            f"label_smoothing={label_smoothing:g}: a regression has no labels; expected 0"
        )


def check(loss: Loss, outputs: int) -> None:
    """Raise `ValueError` for results of a loss that do not have the promised shapes.

    outputs: their number C.
    """
    z, t = np.zeros((2, outputs), np.float32), np.eye(2, outputs, dtype=np.float32)
    losses: Any = np.asarray(loss.value(z, t))
    found = ""
    if losses.dtype.kind not in "biuf":
        found = f"{type(losses.flat[0]).__name__}" if losses.size else "no numbers"
    elif losses.shape != (2,):
        found = f"shape {losses.shape}"
    elif not np.isfinite(losses).all():
        found = f"{losses}"
    if found:
        raise ValueError(
            f"{type(loss).__name__}.value: expected (B,) finite numbers, one for each example, "
            f"found {found}"
        )
    for method in ("gradient(outputs, targets, out)", "predict(outputs, out)"):
        out = np.full_like(z, np.inf)
        if method.startswith("gradient"):
            loss.gradient(z, t, out)
        else:
            loss.predict(z, out)
        if np.isinf(out).any():
            name = f"{type(loss).__name__}.{method}"
            raise ValueError(f"{name}: expected it to fill out, found no change")
        if method.startswith("predict"):
            check_predictions(loss, out)


def gradient_fault(loss: Loss, outputs: Array, targets: Array) -> str | None:
    """How the gradient of a loss differs from the central differences of its value, in words.

    None where it does not, and where rounding hides it. outputs, targets: (B, C). A few derivatives
    may differ, because a loss may have kinks.
    """
    rounded = np.asarray(loss.value(outputs.copy(), targets.copy())).dtype != np.float64
    if rounded and abs(outputs).max() > LARGEST:
        return None
    gradient = np.zeros_like(outputs)
    loss.gradient(outputs.copy(), targets.copy(), gradient)
    places = [(b, int(targets[b].argmax())) for b in range(len(targets))]
    drawn = np.random.default_rng(0).integers(0, outputs.size, PROBES)
    places += [(int(i) // outputs.shape[1], int(i) % outputs.shape[1]) for i in drawn]
    pairs = []
    for place in dict.fromkeys(places):
        means = []
        for step in (STEP, -STEP):
            moved = outputs.copy()
            moved[place] += step
            means.append(float(np.mean(loss.value(moved, targets.copy()), dtype=np.float64)))
        pairs.append((float(gradient[place]), (means[0] - means[1]) / (2 * STEP)))
    found, expected = np.array(pairs).T
    how = contradiction(found, expected, MAY_DIFFER, len(outputs))
    what = "gradient is not the derivative of the mean of value over the batch"
    return None if how is None else f"{what}{how}"


def check_predictions(loss: Loss, predicted: Array) -> None:
    """Raise `ValueError` when predictions (N, C) are not finite, or of classes no probabilities."""
    place = f"{type(loss).__name__}.predict(outputs, out)"
    if loss.kind == "classification":
        check_probabilities(place, predicted)
    elif not np.isfinite(predicted).all():
        found = predicted[~np.isfinite(predicted)][0]
        raise ValueError(f"{place}: expected finite numbers, found {found}")


def check_probabilities(place: str, predicted: NDArray[np.floating[Any]]) -> None:
    """Raise `ValueError` when a row of (N, C) is not probabilities, which add up to 1."""
    total = predicted.sum(axis=1, dtype=np.float64)
    is_one = abs(total - 1) <= PROBABILITY_TOLERANCE  # not of NaN
    wrong = (predicted < 0).any(axis=1) | ~is_one
    if wrong.any():
        row = predicted[wrong.argmax()][:4]
        shown = ", ".join(f"{value:.3g}" for value in row) + ", ..." * (predicted.shape[1] > 4)
        raise ValueError(
            f"{place}: expected rows of probabilities that add up to 1, found {shown} with the sum "
            f"{total[wrong.argmax()]:.4g}"
        )


LOSSES: dict[str, Callable[..., Loss]] = {
    "cross_entropy": CrossEntropy,
    "squared_error": SquaredError,
}
