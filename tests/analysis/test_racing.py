"""Simulations of the rule that ends settings of a search, against what it promises."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.analysis.racing import LEVEL, prospect

WHOLE = np.array([[1.0, 3.0, 2.0], [2.0, 4.2, 2.8]])


def test_what_a_seed_does_to_all_settings_is_no_merit() -> None:
    effects = (WHOLE - WHOLE.mean(axis=1)[:, None]).mean(axis=0)
    for n in (1, 2):
        assert prospect(list(5.0 + effects[:n]), WHOLE).mean == pytest.approx(5.0)
    assert prospect([1.0, 2.0, 6.0], WHOLE).mean == pytest.approx(3.0), "it is known"


def test_a_setting_is_ended_only_where_the_spread_is_known() -> None:
    assert prospect([9.0], np.zeros((0, 3))).can_win
    assert prospect([9.0], WHOLE[:1]).can_win
    assert prospect([9.0], np.full((2, 3), 0.1)).can_win, "values that are all equal have no spread"
    assert prospect([9.0, 9.0, 9.0], WHOLE).can_win, "it has all seeds"
    assert not prospect([9.0], WHOLE).can_win
    assert not prospect([math.inf], WHOLE).can_win
    assert prospect([math.nan], np.zeros((0, 1))).can_win
    diverged = np.vstack([WHOLE, [1.0, math.inf, 2.0]])
    assert prospect([9.0], diverged) == prospect([9.0], WHOLE)
    assert prospect([1.0], WHOLE).can_win


def test_the_limit_is_the_quantile_of_student() -> None:
    effects = (WHOLE - WHOLE.mean(axis=1)[:, None]).mean(axis=0)
    residuals = WHOLE - WHOLE.mean(axis=1)[:, None] - effects
    spread = math.sqrt((residuals**2).sum() / 2)
    quantile = stats.t.ppf(1 - LEVEL / 2, 2)
    for n in (1, 2):
        reach = quantile * spread * math.sqrt((1 / n - 1 / 3) * (1 + 1 / 2))
        assert prospect([5.0] * n, WHOLE).limit == pytest.approx(2.0 + reach)


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("seed_effect", [0.0, 2.0])
def test_a_setting_that_would_win_is_ended_with_the_level(k: int, seed_effect: float) -> None:
    """The best of those before it is the luckiest one, which must not matter."""
    generator = np.random.default_rng(k)
    count, lost, wins = 4000, 0, 0
    for _ in range(count):
        values = generator.normal(size=(7, k)) + seed_effect * generator.normal(size=k)
        values[-1] -= 0.5
        whole, last = values[:-1], values[-1]
        would_win = last.mean() < whole.mean(axis=1).min()
        wins += would_win
        lost += would_win and not all(prospect(last[:n], whole).can_win for n in range(1, k))
    assert wins > 0.2 * count
    assert stats.binom.sf(lost - 1, count, LEVEL) > 0.001


def test_most_of_a_search_is_saved_and_its_winner_kept() -> None:
    generator = np.random.default_rng(0)
    count, k, runs, kept = 100, 5, 0, 0
    for _ in range(count):
        values = generator.exponential(5.0, 40)[:, None] + generator.normal(size=(40, k))
        whole: list[int] = []
        for number, row in enumerate(values):
            seeds = (n for n in range(1, k) if not prospect(row[:n], values[whole]).can_win)
            ended = next(seeds, None)
            runs += ended or k
            if ended is None:
                whole.append(number)
        kept += int(values.mean(axis=1).argmin()) in whole
    assert runs < 0.45 * count * 40 * k
    assert kept >= 95
