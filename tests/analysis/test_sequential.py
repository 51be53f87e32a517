"""Simulations of the rule that ends settings while seeds are added, against what it promises."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from harness.analysis import sequential, statistics
from harness.analysis.sequential import cutoff, race

Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]


def at_most(rate: float, times: int, count: int) -> bool:
    """Whether `times` of `count` may come from a probability of `rate`, by chance in 1 of 1,000."""
    return float(stats.binom.sf(times - 1, count, rate)) > 0.001


@pytest.mark.parametrize(("level", "last"), [(0.05, 3), (0.05, 10), (0.01, 30), (0.05 / 14, 15)])
def test_a_true_hypothesis_crosses_with_the_level(level: float, last: int) -> None:
    """By plain simulation, which shares nothing with the importance sampling of `cutoff`."""
    count, n = 200_000, np.arange(1, last + 1)
    values = np.random.default_rng(7).normal(size=(count, last))
    means = values.cumsum(axis=1) / n
    squares = (values**2).cumsum(axis=1) - n * means**2
    n, means, squares = n[2:], means[:, 2:], squares[:, 2:]
    t = np.abs(means) * np.sqrt(n * (n - 1) / squares)
    crossed = int((t >= stats.t.isf(cutoff(level, last) / 2, n - 1)).any(axis=1).sum())
    assert crossed / count == pytest.approx(level, abs=4 * math.sqrt(level / count) + 0.03 * level)


def test_more_looks_and_a_lower_level_need_a_lower_p() -> None:
    assert cutoff(0.05, 3) == pytest.approx(0.05, rel=1e-3)  # one look
    assert 0.01 > cutoff(0.01, 30) > cutoff(0.01, sequential.MOST_LOOKS) > 0.0001
    assert 0.05 > cutoff(0.05, 5) > cutoff(0.05, 20) > cutoff(0.01, 20) > 0.01 / 18


def simulate(means: list[float], draw: Draw, count: int, last: int = 15) -> tuple[int, int]:
    """How often the first setting was ended, and how often a single one was left."""
    generator, wrong, decided = np.random.default_rng(11), 0, 0
    for _ in range(count):
        values = np.array(means)[:, None] + draw(generator, (len(means), last))
        values += generator.normal(size=last)  # what a seed does to all settings
        ended = race(values.tolist(), last)
        wrong += any(each.setting == 0 for each in ended)
        decided += len(ended) == len(means) - 1
    return wrong, decided


def normal(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return generator.normal(size=shape) / math.sqrt(2)


def uneven(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Settings whose spread over seeds differs by a factor of up to five."""
    return generator.normal(size=shape) * np.linspace(0.3, 1.5, shape[0])[:, None]


@pytest.mark.parametrize("draw", [normal, uneven])
def test_a_best_setting_is_ended_in_one_of_forty_at_most(draw: Draw) -> None:
    count = 600
    for means in ([0.0, 0.0], [0.0] * 5, [0.0, 0.0, 1, 2, 3, 4], [0, 0.1, 0.2, 0.3, 0.4]):
        wrong, decided = simulate(list(means), draw, count)
        assert at_most(0.025, wrong, count), means
        assert at_most(0.05, decided, count), means


def test_half_the_runs_of_a_fixed_number_of_seeds_with_the_same_power() -> None:
    means, last, most, count = [0.0, 1, 1.5, 2, 3, 3, 4, 4, 5, 6, 7, 8], 30, 16, 100
    generator, runs, decided, fixed = np.random.default_rng(3), 0, 0, 0
    for _ in range(count):
        values = np.array(means)[:, None] + normal(generator, (len(means), last))
        ended = {each.setting: each.seeds for each in race(values.tolist(), last)}
        is_decided = len(ended) == len(means) - 1
        decided += is_decided and 0 not in ended
        longest = max(ended.values()) if is_decided else last
        runs += sum(ended.get(setting, longest) for setting in range(len(means)))
        differences = values[1:, :most] - values[0, :most]
        tests = [statistics.paired(each, len(means) - 1) for each in differences.tolist()]
        fixed += max(statistics.holm([each.p for each in tests if each is not None])) <= 0.05
    assert decided >= fixed >= 0.9 * count
    assert runs <= 0.5 * count * most * len(means)


def test_equal_differences_need_as_many_seeds_as_sign_flips() -> None:
    """A difference of one example with every seed is no proof, though its deviation is 0."""
    same = [[0.10] * 30, [0.11] * 30]
    (ended,) = race(same, 30)
    assert (ended.setting, ended.by) == (1, 0)
    assert 2.0 ** (1 - ended.seeds) <= cutoff(0.05, 30) < 2.0 ** (2 - ended.seeds)
    assert race([[0.1] * 30] * 2, 30) == []


def test_nothing_is_ended_before_three_seeds_or_without_another() -> None:
    assert race([[0.1, 0.2], [0.9, 0.8]], 10) == []
    assert race([[0.1, 0.2, 0.1]], 10) == []
    clear = [[0.1, 0.1001, 0.1002], [0.9, 0.9, 0.9]]
    assert len(race(clear, 3)) == 1
    assert len(race([*clear[:1], [0.9, 0.9]], 3)) == 0


def test_settings_without_values_still_count() -> None:
    values = [[0.1, 0.12, 0.11, 0.1], [0.16, 0.15, 0.15, 0.17]]
    assert sequential.race(values, 4)
    assert not sequential.race(values, 4, others=20)
