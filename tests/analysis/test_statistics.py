"""The statistics against SciPy, statsmodels, and simulations with fixed seeds."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

from harness.analysis import statistics


@pytest.mark.parametrize(("wrong", "count"), [(0, 10), (1, 10), (197, 10_000), (5, 5), (3, 7)])
def test_wilson_equals_statsmodels(wrong: int, count: int) -> None:
    assert statistics.wilson(wrong, count) == pytest.approx(
        proportion_confint(wrong, count, method="wilson"), abs=1e-12
    )


def test_wilson_by_hand() -> None:
    low, high = statistics.wilson(0, 100)
    assert (low, high) == (0, pytest.approx(0.0370, abs=1e-4))  # z^2 / (n + z^2)
    assert statistics.wilson(50, 100) == (
        pytest.approx(0.4038, abs=1e-4),
        pytest.approx(0.5962, abs=1e-4),
    )


@pytest.mark.parametrize(("wrong", "count"), [(-1, 10), (11, 10), (0, 0)])
def test_wilson_refuses_impossible_counts(wrong: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"{wrong} wrong of {count}: expected"):
        statistics.wilson(wrong, count)


@pytest.mark.parametrize("rate", [0.005, 0.02, 0.3])
def test_wilson_covers_the_true_rate(rate: float) -> None:
    wrong = np.random.default_rng(1).binomial(10_000, rate, 4000)
    intervals = [statistics.wilson(int(k), 10_000) for k in wrong]
    covered = np.mean([low <= rate <= high for low, high in intervals])
    assert abs(covered - 0.95) < 0.015  # more than four standard errors of 4,000 trials


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 1), (5, 5), (3, 9), (0, 12), (400, 460), (9, 3)])
def test_mcnemar_equals_statsmodels(b: int, c: int) -> None:
    expected = reference_mcnemar([[100, b], [c, 7]], exact=True).pvalue if b + c else 1.0
    assert statistics.mcnemar(b, c) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_many_differences_is_still_a_number() -> None:
    assert statistics.mcnemar(4000, 4000) == 1.0
    assert 0 < statistics.mcnemar(3800, 4200) < 1e-4


def test_mcnemar_keeps_its_level_in_simulation() -> None:
    generator = np.random.default_rng(2)
    only_first, only_second = generator.binomial(10_000, 0.004, (2, 3000))
    alarms = np.mean([statistics.mcnemar(int(b), int(c)) < 0.05
                      for b, c in zip(only_first, only_second, strict=True)])  # fmt: skip
    assert 0.02 < alarms <= 0.05 + 0.012  # exact, so a little below 5 %


def test_holm_equals_statsmodels() -> None:
    values = [*np.random.default_rng(3).uniform(0, 0.2, 9), 0.01, 0.01]
    expected = multipletests(values, method="holm")[1]
    assert statistics.holm(values) == pytest.approx(expected, abs=1e-15)
    assert statistics.holm([]) == []


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 10, 29, 120])
def test_student_equals_scipy(freedom: int) -> None:
    for t in (-2.0, 0.0, 0.3, 1.0, 2.5, 8.0):
        expected = 2 * stats.t.sf(abs(t), freedom)
        assert statistics.student_p(t, freedom) == pytest.approx(expected, abs=1e-12)
    expected = stats.t.ppf(0.975, freedom)
    assert statistics.student_quantile(0.05, freedom) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 5, 25])
def test_few_or_many_pairs_are_tested_by_t(n: int) -> None:
    differences = list(np.random.default_rng(n).normal(0.4, 1, n))
    paired = statistics.paired(differences)
    assert paired is not None
    assert (paired.n, paired.test) == (n, "paired t")
    assert paired.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=1e-12)


@pytest.mark.parametrize("n", [6, 9, 12])
def test_pairs_between_are_tested_by_all_sign_flips(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.4, 1, n)
    paired = statistics.paired(list(differences))
    assert paired is not None
    assert paired.test == "sign flips"
    expected = stats.permutation_test(
        (differences, np.zeros(n)), lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples", vectorized=True, n_resamples=np.inf,
    )  # fmt: skip
    assert paired.p == pytest.approx(expected.pvalue, abs=1e-12)


@pytest.mark.parametrize(("comparisons", "fewest"), [(1, 6), (2, 7), (11, 9), (100, 12)])
def test_flips_are_used_only_where_they_can_tell(comparisons: int, fewest: int) -> None:
    assert 2 / 2**fewest * comparisons < 0.05 <= 2 / 2 ** (fewest - 1) * comparisons
    differences = list(np.random.default_rng(1).normal(5, 0.01, 20))
    for n in range(2, 21):
        paired = statistics.paired(differences[:n], comparisons)
        assert paired is not None
        assert paired.test == ("paired t" if n < fewest else "sign flips")
        assert paired.p * comparisons < 0.05 or n < 3
    assert statistics.seeds_needed(0.1, 0.0, 0.05 / comparisons) == fewest


def test_pairs_without_spread_do_not_become_certainty() -> None:
    two = statistics.paired([0.001, 0.001])
    assert two is not None
    assert two.p == 0.5  # two equal signs out of four, where t would say 0
    same = statistics.paired([0.0, 0.0, 0.0])
    assert same is not None
    assert same.p == 1.0
    assert statistics.paired([0.1]) is None
    assert statistics.paired([]) is None


@pytest.mark.parametrize("n", [2, 3, 5, 6, 10, 21])
def test_the_paired_test_keeps_its_level_on_errors_of_test_images(n: int) -> None:
    generator = np.random.default_rng(100 + n)
    errors = generator.binomial(10_000, generator.normal(0.02, 0.001, (800, 2, n))) / 10_000
    alarms = [statistics.paired(list(b - a)).p < 0.05 for a, b in errors]  # type: ignore[union-attr]
    assert np.mean(alarms) < 0.05 + 0.025


@pytest.mark.parametrize(
    ("n", "effect"), list(itertools.product([2, 3, 5, 10, 40], [0.3, 1.0, 2.0]))
)
def test_power_equals_statsmodels(n: int, effect: float) -> None:
    expected = float(TTestPower().power(effect, n, 0.05))
    if not math.isnan(expected):  # statsmodels gives up near 1
        assert statistics.power(n, effect) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("effect", [0.4, 0.9, 2.0])
def test_seeds_needed_equals_statsmodels(effect: float) -> None:
    expected = math.ceil(TTestPower().solve_power(effect, power=0.8, alpha=0.05))
    assert statistics.seeds_needed(effect, 1.0) == expected
    assert statistics.seeds_needed(-effect, 1.0) == expected


def test_seeds_needed_finds_the_difference_four_times_in_five() -> None:
    n = statistics.seeds_needed(1.0, 1.5)
    assert n is not None
    samples = np.random.default_rng(5).normal(1.0, 1.5, (3000, n))
    power = np.mean(stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05)
    assert 0.78 < power < 0.86


def test_seeds_needed_at_the_ends() -> None:
    assert statistics.seeds_needed(0.0, 1.0) is None
    assert statistics.seeds_needed(0.01, 1.0) is None
    assert statistics.seeds_needed(0.1, 0.0) == 6  # the fewest whose signs alone tell


def test_the_interval_of_a_mean() -> None:
    """Against SciPy's Student distribution."""
    values = np.random.default_rng(2).exponential(size=20)
    expected = stats.t.interval(0.95, 19, loc=values.mean(), scale=stats.sem(values))
    assert statistics.mean_interval(values) == pytest.approx(expected, rel=1e-9)
    assert statistics.mean_interval(values[:1]) is None
    assert statistics.mean_interval(np.ones(5)) == (1, 1)
