"""Estimate how much each searched key alone explains of the result, with its uncertainty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis.settings import number

REPEATS = 1000
RANGE = (5, 95)  # percent of the estimates that the interval has
FEWEST = 12  # trials
PER_GROUP, GROUPS = 6, 5  # least trials in a group of near numbers, most groups

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """The share of the variance of the ranks that a key explains, 0 to 1, and its interval."""

    key: str
    share: float
    low: float
    high: float


def importances(
    values: Mapping[str, Sequence[str]], results: Sequence[float], seed: int = 1
) -> list[Importance]:
    """The importance of each key, highest first; none for fewer than `FEWEST` trials.

    values: key -> its value in each trial. results: one per trial.

    The share is Kelley's epsilon squared (1935) of the ranks of the results: the share of their
    variance between groups of trials with the same value, minus the share expected by chance.
    Numbers with many values form up to five groups of neighbors. The interval holds 90 % of the
    estimates over random halves of the trials; their spread equals that of the full estimate (the
    delete-half jackknife; Shao and Wu, 1989). A bootstrap would repeat trials and overestimate the
    share.
    """
    outcome = np.asarray(results, float)
    if len(outcome) < FEWEST:
        return []
    groups = {key: _groups(texts) for key, texts in values.items()}
    generator = np.random.default_rng(seed)
    half = len(outcome) // 2
    halves = [generator.permutation(len(outcome))[:half] for _ in range(REPEATS)]
    found = []
    for key, group in groups.items():
        share = epsilon_squared(group, outcome)
        spread = [epsilon_squared(group[rows], outcome[rows]) for rows in halves]
        low, high = np.percentile(spread, RANGE)
        found.append(Importance(key, max(0.0, share), max(0.0, float(low)), max(0.0, float(high))))
    return sorted(found, key=lambda each: -each.share)


def epsilon_squared(groups: NDArray[np.int64], results: Values) -> float:
    """1 - (1 - SSB / SST) (n - 1) / (n - k) of the ranks; can be below 0. 0 for one group."""
    ranks = _ranks(results)
    _, member = np.unique(groups, return_inverse=True)
    counts = np.bincount(member)
    n, k = len(ranks), len(counts)
    centered = ranks - ranks.mean()
    total = float(centered @ centered)
    if k < 2 or n <= k or total == 0:
        return 0.0
    sums = np.bincount(member, centered)
    between = float((sums * sums / counts).sum())
    return 1 - (1 - between / total) * (n - 1) / (n - k)


def _groups(texts: Sequence[str]) -> NDArray[np.int64]:
    """The group of each value: the value itself, or its quantile if there are many numbers."""
    kinds, member = np.unique(np.array(texts), return_inverse=True)
    numbers = [number(text) for text in texts]
    if None in numbers or len(kinds) <= GROUPS:
        return member.astype(np.int64)
    ranks = _ranks(np.array(numbers, float))  # equal numbers have the same group
    count = max(2, min(GROUPS, len(texts) // PER_GROUP))
    return np.minimum((ranks - 0.5) * count // len(texts), count - 1).astype(np.int64)


def _ranks(values: Values) -> Values:
    """Ranks from 1 on; equal values have their mean rank."""
    _, member, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[member])
