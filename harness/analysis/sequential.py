"""Compare settings while seeds are added, and end those that cannot be the best.

After each new seed, every setting is compared with the others over the same seeds. Testing at 5 %
at each of these looks would end good settings far too often. Here

- a setting that is as good as the best is ended with a probability of at most 2.5 %, and
- a single setting is left, although another is as good, with a probability of at most 5 %,

over all looks and settings:

- Looks: the paired t test's p is compared with one cutoff at every look (Pocock, 1977), which a
  true hypothesis reaches at any of them with the probability of the level.
- Settings: while m are left, each is tested against each other one at 5 % / (m - 1), two-sided,
  so at half of it in the direction of being worse: of m that are equally good, each is ended with
  at most 2.5 % (Bonferroni; that m shrinks as in Holm, 1979). Where a single one is left, m - 1 of
  them were ended: at most 5 %, by Markov's inequality. Simulation, not proof, shows that settings
  that are almost as good do no harm.

The method assumes that the difference between two settings is normal over seeds.
tests/benchmarks/bench_decided.py also shows what happens when it is not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from harness.analysis.statistics import LEVEL, student_p, student_quantile

FIRST_LOOK = 3  # with two seeds, Student's t has one degree of freedom and decides nothing
MOST_LOOKS = 200
HUGE = 700.0  # the logarithm of a ratio at which its inverse is 0 in any sum
VALUES = 2_000_000  # that are drawn for a cutoff
MOST_PATHS = 40_000
SCALES = 4.0 ** np.arange(-2, 7)  # variances of the effects that paths are drawn with
ROUNDS = 16


@cache
def cutoff(level: float, last: int, first: int = FIRST_LOOK) -> float:
    """The two-sided p that is significant at the looks of `first` to `last` pairs.

    Under the hypothesis that the differences are normal with mean 0 and any standard deviation,
    p falls to it or below at any of these looks with the probability `level`.

    Crossings are rare, so paths are drawn with effects of many sizes. Each crossing is weighted by
    the likelihood ratio of the t statistics so far, which is exact for normal effects (importance
    sampling; Siegmund, 1976).
    """
    t, weights = _paths(last, first)
    low, high = math.log(level / (last - first + 1)), math.log(level)  # Bonferroni; one look
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        if _crossing(math.exp(middle), t, weights, first) > level:
            high = middle
        else:
            low = middle
    return math.exp(low)


def _crossing(p: float, t: NDArray[np.float64], weights: NDArray[np.float64], first: int) -> float:
    """The probability that p is reached at some look, without an effect."""
    critical = np.array([student_quantile(p, first + k - 1) for k in range(t.shape[1])])
    crossed = np.abs(t) >= critical
    at = crossed.argmax(axis=1)
    rows = np.flatnonzero(crossed.any(axis=1))
    return float(weights[rows, at[rows]].sum() / len(t))


@cache
def _paths(last: int, first: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The t statistics (paths, looks) with effects, and their densities without one / with them."""
    draw = np.random.default_rng(0)
    scales = np.repeat(SCALES, min(MOST_PATHS, VALUES // last) // len(SCALES))
    effects = draw.normal(size=(len(scales), 1)) * np.sqrt(scales)[:, None]
    values = effects + draw.normal(size=(len(scales), last))
    n = np.arange(1, last + 1)
    means = values.cumsum(axis=1) / n
    squares = np.maximum((values**2).cumsum(axis=1) - n * means**2, 1e-300)
    n, means, squares = n[first - 1 :], means[:, first - 1 :], squares[:, first - 1 :]
    t = means * np.sqrt(n * (n - 1) / squares)
    ratios = np.zeros_like(t)
    for scale in SCALES:
        # The densities of the t statistics with the effect N(0, scale) and with none, as a ratio:
        # the Bayes factor with Jeffreys' prior of the standard deviation (Lai, 1976).
        grown = 1 + n * scale
        freedom = n - 1
        log = (np.log1p(t**2 / freedom) - np.log1p(t**2 / (freedom * grown))) * n / 2
        ratios += np.exp(np.minimum(log - np.log(grown) / 2, HUGE))
    return t, len(SCALES) / ratios


@dataclass(frozen=True)
class Ended:
    """A setting that cannot be the best: which other one is better, and after how many seeds."""

    setting: int
    by: int
    seeds: int


def race(
    values: Sequence[Sequence[float]], last: int, *, others: int = 0, level: float = LEVEL
) -> list[Ended]:
    """The settings that were ended, in order, by the values of each (lower is better) so far.

    values: each setting's values by seed; all settings have the same seeds in the same order. A
    look at n seeds needs n values of each remaining setting. last: the maximum number of seeds.
    others: the number of further settings, which have no values.
    """
    alive = list(range(len(values)))
    ended: list[Ended] = []
    for n in range(FIRST_LOOK, last + 1):
        if len(alive) < 2 or any(len(values[each]) < n for each in alive):
            break
        table = np.array([values[each][:n] for each in alive])
        while len(alive) > 1:
            limit = cutoff(level / (len(alive) + others - 1), last)
            worse = _first_worse(table, limit)
            if worse is None:
                break
            index, by = worse
            ended.append(Ended(alive[index], alive[by], n))
            table = np.delete(table, index, axis=0)
            del alive[index]
    return ended


def _first_worse(table: NDArray[np.float64], limit: float) -> tuple[int, int] | None:
    """The setting that is worse with the lowest p, if `limit` allows it, and the better one.

    table: (settings, seeds).
    """
    least, found = limit, None
    means = table.mean(axis=1)
    for index in range(len(table)):
        for by in range(len(table)):
            if means[index] > means[by] and (p := _p(table[index] - table[by])) <= least:
                least, found = p, (index, by)
    return found


def _p(differences: NDArray[np.float64]) -> float:
    """The paired t test's p, of sign flips where all differences are equal, as `paired` does."""
    n = len(differences)
    deviation = float(differences.std(ddof=1))
    if deviation <= 1e-12 * float(np.abs(differences).max()):
        return 2.0 ** (1 - n)
    return student_p(float(differences.mean()) * math.sqrt(n) / deviation, n - 1)
