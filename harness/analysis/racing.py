"""Decide in a search with several seeds whether a setting with some of its seeds can still win.

A setting is judged by its mean over all k seeds. It wins if this mean is below the lowest mean of
the settings that have all seeds so far. After n seeds, its mean over all k is predicted. It gets no
more seeds if the predicted probability of winning is at most `LEVEL` / (k - 1). Over its k - 1
looks, a setting that would win is ended with a probability of at most `LEVEL` (stochastic
curtailment; Lan, Simon and Halperin, 1982; the bound is Bonferroni's).

Settings share their seeds, and the effect of a seed on all settings is removed first. The values of
the settings that have all seeds form a two-way table: its columns give the seed effects, and its
residuals give the spread over seeds. With m such settings, the difference between the prediction
and the mean over all k seeds has the variance

    spread^2 (1/n - 1/k) (1 + 1/m)

for any true mean of the setting, however the settings before it were chosen. The rule assumes that
values are normal over seeds, and that settings that could win spread no more than the measured
ones. tests/benchmarks/bench_racing.py checks this, and shows what happens otherwise.
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
    """The prediction for a setting with some of its seeds. Lower is better.

    mean: predicted over all seeds. limit: above it, the setting cannot win; infinite if too little
    is known to end a setting.
    """

    mean: float
    limit: float

    @property
    def can_win(self) -> bool:
        """Whether the setting should get more seeds."""
        return not self.mean > self.limit  # also where it is NaN


def prospect(values: Sequence[float], whole: NDArray[np.float64], level: float = LEVEL) -> Prospect:
    """Predict the mean of a setting over all seeds.

    values: those of the first n seeds, lower is better. whole: (m, k), the values of the settings
    that have all k seeds, in the same order; infinite rows do not affect the spread.
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
