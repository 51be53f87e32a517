"""A search with several seeds: whether a setting that has some of them can still win.

A setting is judged by its mean over all k seeds, and wins if that is below the lowest mean so far
of those that have all. After n of them its mean over all k is predicted, and it gets no more if
the prediction is so far above the lowest that it would win with a probability of at most
`LEVEL` / (k - 1): over its k - 1 looks, a setting that would win is ended with at most `LEVEL`
(stochastic curtailment; Lan, Simon and Halperin, 1982; the bound is Bonferroni's).

Settings share their seeds, and what a seed does to all of them is removed first: the values of the
settings that have all seeds are a two-way table, whose columns give the effects of the seeds and
whose residuals the spread over seeds. With m such settings the difference between the prediction
and the mean over all k seeds has the variance

    spread^2 (1/n - 1/k) (1 + 1/m)

whatever the setting's true mean is, and however the settings before it were chosen. It assumes that
the spread of values over seeds is normal, and not larger than the one measured for settings that
could win. tests/benchmarks/bench_racing.py shows that, and what happens when it is not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis.statistics import student_quantile

LEVEL = 0.05


@dataclass(frozen=True)
class Prospect:
    """What is known of a setting with some of its seeds. lower is better.

    mean: predicted over all seeds. limit: above it, the setting cannot win; infinite where too
    little is known to end a setting.
    """

    mean: float
    limit: float

    @property
    def can_win(self) -> bool:
        """Whether the setting should get more seeds."""
        return not self.mean > self.limit  # also where it is NaN


def prospect(values: Sequence[float], whole: NDArray[np.float64], level: float = LEVEL) -> Prospect:
    """Predict the mean of a setting over all seeds.

    values: with the first n seeds, lower is better. whole: (m, k), those of the settings that have
    all k seeds, in the same order; one with an infinite value says nothing of the spread.
    """
    whole = whole[np.isfinite(whole).all(axis=1)]
    m, k = whole.shape
    n = len(values)
    if n == k or not m:
        return Prospect(float(np.mean(values)), math.inf)
    means = whole.mean(axis=1)
    seeds = (whole - means[:, None]).mean(axis=0)
    mean = float(np.mean(np.asarray(values) - seeds[:n]))
    freedom = (m - 1) * (k - 1)
    spread = math.sqrt(((whole - means[:, None] - seeds) ** 2).sum() / freedom) if freedom else 0.0
    if spread <= 1e-9 * float(np.abs(whole).max()):  # all are equal, up to rounding
        return Prospect(mean, math.inf)
    quantile = student_quantile(2 * level / (k - 1), freedom)
    reach = quantile * spread * math.sqrt((1 / n - 1 / k) * (1 + 1 / m))
    return Prospect(mean, float(means.min()) + reach)
