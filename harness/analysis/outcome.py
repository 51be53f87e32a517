"""What a run predicted for the test examples, and how two runs differ on them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Outcome:
    """The predictions of one run for all test examples, in file order.

    labels and predicted: (N,) integers; confidence: (N,) float32, the probability of `predicted`.
    """

    labels: NDArray[np.integer[Any]]
    predicted: NDArray[np.integer[Any]]
    confidence: NDArray[np.float32]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """(N,) whether each example is misclassified."""
        wrong: NDArray[np.bool_] = self.predicted != self.labels
        return wrong


def different_labels(first: Outcome, second: Outcome) -> str:
    """Why the predictions of two runs cannot be paired; empty if they can."""
    if not np.array_equal(first.labels, second.labels):
        fewer, more = sorted((len(first.labels), len(second.labels)))
        return f"different test sets ({fewer:,} and {more:,} labels)"
    return ""


def discordant(first: Outcome, second: Outcome) -> tuple[int, int]:
    """The number of examples that only the first, and only the second, misclassifies."""
    a, b = first.wrong, second.wrong
    return int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))


def confusion(
    labels: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], classes: int
) -> NDArray[np.int64]:
    """(C, C) counts of examples by true class (row) and predicted class (column)."""
    cells = labels.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def confidently_wrong(outcome: Outcome, count: int) -> NDArray[np.int64]:
    """The indices of at most `count` misclassified examples, the most confident first."""
    rows = np.flatnonzero(outcome.wrong)
    order = np.argsort(-outcome.confidence[rows], kind="stable")
    return rows[order[:count]].astype(np.int64)
