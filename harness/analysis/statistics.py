"""Confidence intervals and hypothesis tests, each with its source. All tests are two-sided.

Answers are exact where that is cheap. Student's distribution is written out here because importing
`scipy.stats` costs half a second or more, at the end of every sweep. The tests compare the results
with those of SciPy and statsmodels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
POWER = 0.8
MOST_SEEDS = 1000
MOST_FLIPS = 20


def wilson(wrong: int, count: int) -> tuple[float, float]:
    """Wilson's (1927) 95 % confidence interval for the error rate, given `wrong` errors in `count`.

    It covers the true rate in about 95 % of all cases, also near 0, where the usual normal interval
    fails. Raises `ValueError` unless 0 <= wrong <= count and count > 0.
    """
    if not 0 <= wrong <= count or count < 1:
        raise ValueError(f"{wrong} wrong of {count}: expected 0 to {count} of at least 1 example")
    z = NormalDist().inv_cdf(1 - LEVEL / 2)
    share = wrong / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    total = 1 + z * z / count
    return max(0.0, (middle - half) / total), min(1.0, (middle + half) / total)


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Student's 95 % confidence interval for the mean of independent values (n,); None if n < 2.

    It holds for large n whatever the distribution is, by the central limit theorem.
    """
    n = len(values)
    if n < 2:
        return None
    mean = float(values.mean(dtype=np.float64))
    deviation = float(values.std(ddof=1, dtype=np.float64))
    reach = student_quantile(LEVEL, n - 1) * deviation / math.sqrt(n)
    return mean - reach, mean + reach


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's (1947) exact test: p for two classifiers on the same examples.

    only_first, only_second: number of examples that one classifier alone misclassifies. If both
    error rates are equal, each such example is a fair coin flip, so p is twice a binomial tail.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    if total == 0:
        return 1.0
    tail = term = 1  # integers until the last division
    for k in range(fewer):
        term = term * (total - k) // (k + 1)
        tail += term
    return min(1.0, float(2 * tail / (1 << total)))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's (1979) correction of a family of p values, in the order given.

    Rejecting where the result is below 5 % keeps the probability of any false rejection in the
    family at 5 % or below.
    """
    order = sorted(range(len(values)), key=lambda index: values[index])
    corrected, least = [0.0] * len(values), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = least
    return corrected


@dataclass(frozen=True)
class Paired:
    """A paired test of n differences: their mean and standard deviation, p, and which test."""

    n: int
    mean: float
    deviation: float
    p: float
    test: str


def fewest_flips(level: float) -> int:
    """The smallest n with which sign flips can reach `level`: their smallest p is 2 / 2^n."""
    return math.floor(math.log2(2 / level)) + 1


def paired(differences: Sequence[float], comparisons: int = 1) -> Paired | None:
    """Test paired differences; None if there are fewer than two.

    From `fewest_flips` to 20 differences: all sign flips, which assume symmetry only. Fewer:
    Student's t, because sign flips cannot reach 5 % divided by the number of `comparisons` that
    Holm's correction will account for. It assumes normality; errors averaged over thousands of
    examples are close to normal. More: Student's t. If all differences are equal, t is undefined,
    and sign flips are used for every n.
    """
    n = len(differences)
    if n < 2:
        return None
    values = np.asarray(differences, np.float64)
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    scale = float(np.abs(values).max())
    fewest = fewest_flips(LEVEL / comparisons)
    if deviation <= 1e-12 * scale or fewest <= n <= MOST_FLIPS:
        flips = sign_flip(values) if n <= MOST_FLIPS else 2.0 ** (1 - n) if scale else 1.0
        return Paired(n, mean, deviation, flips, "sign flips")
    p = student_p(mean * math.sqrt(n) / deviation, n - 1)
    return Paired(n, mean, deviation, p, "paired t")


def sign_flip(differences: NDArray[np.float64]) -> float:
    """Fisher's (1935) randomization test: p over all 2^n signs of the differences, (n,)."""
    sums = np.zeros(1)
    for value in np.abs(differences):
        sums = np.concatenate([sums + value, sums - value])
    seen = abs(float(differences.sum()))
    margin = 1e-9 * float(np.abs(differences).sum())  # equal sums differ in their last bits
    return float(np.mean(np.abs(sums) >= seen - margin))


def student_p(t: float, freedom: int) -> float:
    """P(|T| >= |t|) of Student's distribution with an integer number of degrees of freedom.

    Abramowitz and Stegun (1964), 26.7.3 and 26.7.4: a finite series.
    """
    angle = math.atan2(abs(t), math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    term = total = cosine if freedom % 2 else 1.0
    for k in range(2 + freedom % 2, freedom, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    if freedom % 2:
        inside = 2 / math.pi * (angle + sine * (total if freedom > 1 else 0.0))
    else:
        inside = sine * total
    return max(0.0, 1.0 - inside)


@cache
def student_quantile(level: float, freedom: int) -> float:
    """The t that |T| exceeds with probability `level`."""
    low, high = 0.0, 1.0
    while student_p(high, freedom) > level:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, freedom) > level else (low, middle)
    return high


def power(n: int, effect: float, level: float = LEVEL) -> float:
    """The power of a paired t test of n pairs for `effect`, in standard deviations.

    P(|Z + effect sqrt(n)| > c S) where S^2 is chi-square over its degrees of freedom, integrated
    over S by Gauss-Legendre quadrature.
    """
    freedom = n - 1
    critical, shift = student_quantile(level, freedom), effect * math.sqrt(n)
    nodes, weights = _quadrature(96)
    spread = 1 / math.sqrt(2 * freedom)
    low, high = (0.0, 6.0) if freedom < 5 else (max(0.0, 1 - 9 * spread), 1 + 9 * spread)
    s = low + (high - low) * (nodes + 1) / 2
    log_density = (freedom - 1) * np.log(s) - freedom * s * s / 2
    density = weights * np.exp(log_density - log_density.max())
    beyond = _normal(shift - critical * s) + _normal(-shift - critical * s)
    return float(density @ beyond / density.sum())


def seeds_needed(mean: float, deviation: float, level: float = LEVEL) -> int | None:
    """The number of seeds with which a paired t test detects a difference with a power of 80 %.

    mean, deviation: of the difference, over seeds. Both are taken as measured, so the result is as
    uncertain as they are. None if 1,000 seeds are not enough.
    """
    if mean == 0:
        return None
    if deviation == 0:
        return fewest_flips(level)
    effect = abs(mean) / deviation
    normal = NormalDist()
    # Enough if the deviation were known; a test that estimates it needs a few more.
    n = math.ceil(((normal.inv_cdf(1 - level / 2) + normal.inv_cdf(POWER)) / effect) ** 2)
    n = max(2, n)
    while n <= MOST_SEEDS and power(n, effect, level) < POWER:
        n += 1
    return n if n <= MOST_SEEDS else None


_quadrature = cache(np.polynomial.legendre.leggauss)


def _normal(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in values])
