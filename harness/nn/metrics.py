"""Metrics of a network, the keys they are recorded under, and a table of further metrics."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["METRICS", "mean_absolute_error", "top2_error"]

# Recorded at steps 1..epochs.
TRAIN_LOSS, TRAIN_ERROR, TRAIN_LR = "train/loss", "train/error", "train/lr"
VAL_LOSS, VAL_ERROR = "val/loss", "val/error"
EPOCH_S, EXAMPLES_PER_S = "time/epoch_s", "time/examples_per_s"
# Recorded once, at step = epochs.
TEST_LOSS, TEST_ERROR = "test/loss", "test/error"
BEST_EPOCH, BEST_VAL_ERROR = "best/epoch", "best/val_error"

HIGHER_IS_BETTER = frozenset({
    "acc", "accuracy", "precision", "recall", "sensitivity", "specificity", "f1", "auc", "auroc",
    "auprc", "r2", "kappa", "mcc", "iou", "dice", "jaccard",
})  # fmt: skip

Metric = Callable[[NDArray[np.floating[Any]], NDArray[Any]], float]
"""The contract of a further metric: `f(probabilities, labels)`, (N, C) float32 and (N,) integers.

In a regression, `f(predictions, targets)`, both (N, K) float32. It is called with all N examples of
a part of the data set, on the predictions that the loss is computed from.
"""


def best_key(metric: str) -> str:
    """The key of a metric's value at the epoch whose weights are kept, such as `best/val_error`."""
    return f"best/{metric.replace('/', '_')}"


def is_better(value: float, other: float, *, maximize: bool = False) -> bool:
    """Whether `value` is better than `other`: lower, or higher if `maximize`.

    NaN is never better, and every number is better than NaN.
    """
    if np.isnan(other):
        return not np.isnan(value)
    return value > other if maximize else value < other


def is_higher_better(name: str) -> bool:
    """Whether the name of a metric, such as `top2_accuracy`, implies that higher is better.

    That includes scores, in scikit-learn's sense of the word, and speeds (`per_s`).
    """
    words = re.split(r"[^a-z0-9]+", name.lower())
    is_score = "score" in words and "loss" not in words
    return is_score or words[-2:] == ["per", "s"] or not HIGHER_IS_BETTER.isdisjoint(words)


@dataclass
class Score:
    """Sums over examples; the means are taken at the end, so they do not depend on batch sizes."""

    loss_sum: float = 0.0
    wrong: int = 0
    count: int = 0

    def add(self, losses: NDArray[np.floating[Any]], wrong: int) -> None:
        """Add the losses (B,) of a batch and the number of its misclassified examples."""
        self.loss_sum += float(losses.sum(dtype=np.float64))
        self.wrong += wrong
        self.count += len(losses)

    @property
    def loss(self) -> float:
        """Mean loss; in nats for cross-entropy."""
        return self.loss_sum / self.count

    @property
    def error(self) -> float:
        """Misclassified fraction in [0, 1]."""
        return self.wrong / self.count


def misclassified(scores: NDArray[np.floating[Any]], labels: NDArray[np.uint8]) -> int:
    """The number of rows of `scores` (B, C) whose maximum is not at `labels` (B,)."""
    return int(np.count_nonzero(scores.argmax(axis=1) != labels))


def top2_error(probabilities: NDArray[np.floating[Any]], labels: NDArray[Any]) -> float:
    """The fraction of examples whose label is not among the two most probable classes."""
    own = np.take_along_axis(probabilities, labels.astype(np.intp)[:, None], axis=1)
    return float(np.mean(np.count_nonzero(probabilities > own, axis=1) > 1))


def mean_absolute_error(
    predictions: NDArray[np.floating[Any]], targets: NDArray[np.floating[Any]]
) -> float:
    """The mean of |prediction - target| over all examples and outputs of a regression."""
    return float(np.mean(np.abs(predictions - targets), dtype=np.float64))


METRICS: dict[str, Metric] = {
    "top2_error": top2_error,
    "mean_absolute_error": mean_absolute_error,
}
OF_REGRESSION = ("mean_absolute_error",)  # the others are for classification
