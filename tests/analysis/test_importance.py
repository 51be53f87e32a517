"""The importance of keys: nothing for chance, everything for a cause, and an honest interval."""

import numpy as np
import pytest
from scipy import stats

from harness.analysis.importance import FEWEST, epsilon_squared, importances


def texts(values: np.ndarray) -> list[str]:
    return [str(value) for value in values.tolist()]


def test_it_is_that_of_scipy() -> None:
    """H = SSB / SST (n - 1) of the ranks."""
    generator = np.random.default_rng(3)
    groups = generator.integers(0, 4, 60)
    results = (generator.normal(size=60) + groups).round(1)  # with equal ones
    h = stats.kruskal(*(results[groups == group] for group in range(4))).statistic
    expected = 1 - (1 - h / 59) * 59 / 56
    assert epsilon_squared(groups, results) == pytest.approx(expected, abs=1e-12)


def test_chance_has_no_importance_on_average() -> None:
    generator = np.random.default_rng(1)
    for count in (FEWEST, 60):
        shares = [
            epsilon_squared(generator.integers(0, 4, count), generator.normal(size=count))
            for _ in range(2000)
        ]
        assert abs(float(np.mean(shares))) < 0.01


def test_the_key_that_matters_is_first() -> None:
    generator = np.random.default_rng(2)
    lr, width = generator.uniform(size=80), generator.choice([16, 32, 64], 80)
    noise = generator.normal(0, 0.05, 80)
    values = {"width": texts(width), "lr": texts(lr), "name": ["only"] * 80}
    first, *others = importances(values, np.abs(lr - 0.5) + noise)
    assert (first.key, first.share > 0.6) == ("lr", True), "also where it is no line"
    assert first.low < first.share < first.high <= 1
    assert {each.key: each.share for each in others}["name"] == 0
    assert all(each.share < 0.1 for each in others)


def test_the_interval_covers_what_many_trials_tell() -> None:
    """90 % of the intervals, less what five groups of few trials miss."""
    generator = np.random.default_rng(4)

    def drawn(count: int) -> tuple[dict[str, list[str]], np.ndarray]:
        kind = generator.integers(0, 3, count)
        return {"kind": texts(kind)}, kind + generator.normal(0, 1, count)

    values, results = drawn(200_000)
    truth = epsilon_squared(np.array(values["kind"], int), results)
    inside = 0
    for _ in range(100):
        (found,) = importances(*drawn(60))
        inside += found.low <= truth <= found.high
    assert inside >= 80


def test_few_trials_have_none() -> None:
    assert importances({"lr": ["1"] * (FEWEST - 1)}, range(FEWEST - 1)) == []
    (same,) = importances({"lr": ["1", "2"] * FEWEST}, [0.5] * 2 * FEWEST)
    assert (same.share, same.low, same.high) == (0, 0, 0)
