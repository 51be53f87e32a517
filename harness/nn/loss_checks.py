"""Checks of a built-in or custom loss: its kind, results, gradient and predictions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.nn.differences import contradiction
from harness.nn.losses import Loss

Array = NDArray[np.floating[Any]]
PROBES, STEP, MAY_DIFFER = 32, 1e-2, 0.5  # of the central differences of `gradient_fault`
LARGEST = 100  # for larger outputs, rounding in float32 would hide the differences
TOLERANCE = 1e-3  # of the sum of probabilities, in float32


def check_kind(place: str, loss: Loss, *, is_regression: bool, label_smoothing: float) -> None:
    """Raise `ValueError` if the kind of loss does not fit the data, or for smoothed numbers.

    place: begins the message, such as `loss=squared_error`.
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
        labels = "; if they are labels, store them as integers" if is_regression else ""
        raise ValueError(
            f"{place}: a {loss.kind} expects {targets[loss.kind]} as targets, and the data set has "
            f"{targets[other]}; use a loss for a {other}, such as {fitting}{labels}"
        )
    if is_regression and label_smoothing:
        raise ValueError(
            f"label_smoothing={label_smoothing:g}: a regression has no labels; expected 0"
        )


def check(loss: Loss, outputs: int) -> None:
    """Raise `ValueError` if the results of a loss are not finite or have wrong shapes.

    outputs: the number of outputs C.
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
            raise ValueError(f"{name}: expected it to write to `out`, but `out` is unchanged")
        if method.startswith("predict"):
            check_predictions(loss, out)


def gradient_fault(loss: Loss, outputs: Array, targets: Array) -> str | None:
    """How the gradient of a loss differs from the central differences of its value, in words.

    None if they agree, or if rounding would hide the difference. outputs, targets: (B, C). Some
    derivatives may differ, because a loss can have kinks.
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
    """Raise `ValueError` unless predictions (N, C) are probabilities, or finite in a regression."""
    place = f"{type(loss).__name__}.predict(outputs, out)"
    if loss.kind == "classification":
        check_probabilities(place, predicted)
    elif not np.isfinite(predicted).all():
        found = predicted[~np.isfinite(predicted)][0]
        raise ValueError(f"{place}: expected finite numbers, found {found}")


def check_probabilities(place: str, predicted: Array) -> None:
    """Raise `ValueError` unless each row of (N, C) has probabilities that add up to 1."""
    total = predicted.sum(axis=1, dtype=np.float64)
    is_one = abs(total - 1) <= TOLERANCE  # False for NaN
    wrong = (predicted < 0).any(axis=1) | ~is_one
    if wrong.any():
        row = predicted[wrong.argmax()][:4]
        shown = ", ".join(f"{value:.3g}" for value in row) + ", ..." * (predicted.shape[1] > 4)
        raise ValueError(
            f"{place}: expected rows of probabilities that add up to 1, found {shown} with the sum "
            f"{total[wrong.argmax()]:.4g}"
        )
