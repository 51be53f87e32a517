"""What `until=decided` promises and what it saves, by simulation.

    python tests/benchmarks/bench_decided.py [--count 2000]

Every row simulates sweeps whose settings have the given means, in standard deviations of the
difference between two settings over seeds; lower is better, and the first one is best. `best ended`
is the share of sweeps in which the first setting was ended, at most 2.5 %; `wrong` that in which
a single one was left that is not the only best one, at most 5 %; `found` that in which the first
one alone was left. `runs` is the mean of all runs, and `fixed` the runs of the smallest fixed
number of seeds with which Holm's correction of paired t tests finds it as often.
"""

import argparse
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from harness.analysis.sequential import race
from harness.analysis.statistics import holm, paired

SEEDS = 30
Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]


def normal(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Of each setting with each seed."""
    return generator.normal(size=shape) / math.sqrt(2)


def uneven(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """The spread over seeds grows from setting to setting, to the fivefold."""
    return normal(generator, shape) * np.linspace(0.4, 2, shape[0])[:, None]


def heavy(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Student's distribution with three degrees of freedom: outliers."""
    return generator.standard_t(3, size=shape) / math.sqrt(6)


def skewed(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Most seeds are good, few are bad."""
    return (generator.exponential(size=shape) - 1) / math.sqrt(2)


def coarse(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Few validation examples: values in steps of one standard deviation."""
    return np.rint(normal(generator, shape))


EQUAL: dict[str, list[float]] = {"2 equal": [0] * 2, "6 equal": [0] * 6}
SETTINGS: dict[str, list[float]] = {
    **EQUAL,
    "2 equal of 6": [0, 0, 1, 2, 3, 4],
    "8 in steps of 0.1": [0.1 * step for step in range(8)],
    "4, the next at 1": [0, 1, 3, 5],
    "6, the next at 1.5": [0, 1.5, 2, 3, 4, 5],
    "12, the next at 1": [0, 1, 1.5, 2, 3, 3, 4, 4, 5, 6, 7, 8],
}
ROWS: list[tuple[str, list[float], Draw]] = [
    *((name, means, normal) for name, means in SETTINGS.items()),
    *((f"{name}, {draw.__name__}", means, draw)
      for draw in (uneven, heavy, skewed, coarse) for name, means in EQUAL.items()),
]  # fmt: skip


def simulate(means: list[float], draw: Draw, count: int) -> tuple[float, float, float, float, int]:
    """The shares best ended, wrong and found, the mean of the runs, and those of a fixed number."""
    generator, settings = np.random.default_rng(1), len(means)
    bests = {setting for setting, mean in enumerate(means) if mean == means[0]}
    lost = wrong = found = runs = 0
    fixed = np.zeros(SEEDS + 1)
    for _ in range(count):
        values = np.array(means)[:, None] + draw(generator, (settings, SEEDS))
        values += generator.normal(size=SEEDS)  # what a seed does to all settings
        ended = {each.setting: each.seeds for each in race(values.tolist(), SEEDS)}
        left = set(range(settings)) - set(ended)
        lost += 0 in ended
        wrong += len(left) == 1 and left != bests
        found += left == {0} == bests
        longest = max(ended.values()) if len(left) == 1 else SEEDS
        runs += sum(ended.get(setting, longest) for setting in range(settings))
        if bests == {0}:
            fixed += [n > 1 and finds(values[:, :n]) for n in range(SEEDS + 1)]
    enough = np.flatnonzero(fixed >= found)
    n = int(enough[0]) if found >= 0.5 * count and len(enough) else 0
    return lost / count, wrong / count, found / count, runs / count, n * settings


def finds(values: NDArray[np.float64]) -> bool:
    """Whether all tests against the first setting are significant, which has the lowest mean."""
    if values.mean(axis=1).argmin() != 0:
        return False
    tests = [paired(each, len(values) - 1) for each in (values[1:] - values[0]).tolist()]
    return max(holm([each.p for each in tests if each is not None])) <= 0.05


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    count = parser.parse_args().count
    print(f"{SEEDS} seeds at most; n = {count}; standard error of 2.5 %: "
          f"{math.sqrt(0.025 * 0.975 / count):.1%}")  # fmt: skip
    print("| settings | best ended | wrong | found | runs | fixed | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name, means, draw in ROWS:
        lost, wrong, found, runs, fixed = simulate(means, draw, count)
        end = f"{fixed} | {runs / fixed:.2f}" if fixed else " | "
        row = f"{lost:.1%} | {wrong:.1%} | {found:.1%} | {runs:.0f}"
        print(f"| {name} | {row} | {end} |", flush=True)


if __name__ == "__main__":
    main()
