"""Metrics: sums over examples, so that means do not depend on how they are batched."""

import math
from functools import partial

import numpy as np
import pytest

from harness.nn import metrics
from harness.nn.metrics import METRICS, Score, misclassified


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_means_do_not_depend_on_the_batch(batch: int) -> None:
    losses = np.arange(10, dtype=np.float32)
    wrong = np.array([1, 0, 0, 1, 1, 0, 0, 0, 0, 0])
    score = Score()
    for begin in range(0, 10, batch):
        part = slice(begin, begin + batch)
        score.add(losses[part], int(wrong[part].sum()))
    assert (score.loss, score.error, score.count) == (4.5, 0.3, 10)


def test_losses_are_summed_in_float64() -> None:
    """In float32, 2^24 + 1 is 2^24."""
    score = Score()
    score.add(np.array([2**24, 1], np.float32), 0)
    assert score.loss_sum == 2**24 + 1


def test_misclassified_counts_rows_whose_maximum_is_elsewhere() -> None:
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6]])
    assert misclassified(scores, np.array([1, 1, 1], np.uint8)) == 1


def test_top2_error_by_hand() -> None:
    """The labels are first, second and third; of equals, those that are larger count."""
    rows = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.4, 0.3, 0.3]])
    labels = np.array([0, 1, 2, 2], np.uint8)
    assert METRICS["top2_error"](rows, labels) == 0.25


def test_mean_absolute_error_by_hand() -> None:
    predictions, targets = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 4.0], [0.0, 5.0]])
    assert METRICS["mean_absolute_error"](predictions, targets) == 1.5


@pytest.mark.parametrize("maximize", [False, True])
def test_nan_is_never_better(maximize: bool) -> None:
    better = partial(metrics.is_better, maximize=maximize)
    assert not better(math.nan, 0.5)
    assert not better(math.nan, math.nan)
    assert not better(0.5, 0.5)
    assert better(math.inf, math.nan)
    assert better(0.5, 0.1) == maximize
    assert better(0.1, 0.5) != maximize
