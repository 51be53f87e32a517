"""What `until=decided` promises and what it saves, by simulation.

    python tests/benchmarks/bench_decided.py [--count 2000]
    python tests/benchmarks/bench_decided.py --sweep SELECTION [--outputs FOLDER]

Every row simulates sweeps whose settings have the given means, in standard deviations of the
difference between two settings over seeds; lower is better, and the first one is best. `best ended`
is the share of sweeps in which the first setting was ended, at most 2.5 %; `wrong` that in which
a single one was left that is not the only best one, at most 5 %; `found` that in which the first
one alone was left. `runs` is the mean of all runs, and `fixed` the runs of the smallest fixed
number of seeds with which Holm's correction of paired t tests finds it as often.

`--sweep` does the same with the validation errors of a real sweep, whose seeds come in `--count`
random orders; its best setting is the one with the lowest mean over all seeds.
"""

import argparse
import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

import harness
from harness.analysis.sequential import race
from harness.analysis.statistics import holm, paired

SEEDS = 30
Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]


def normal(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Independent normal values for each setting and seed."""
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


def simulated(means: list[float], draw: Draw, count: int) -> Iterable[NDArray[np.float64]]:
    """The values of sweeps, (settings, seeds) each."""
    generator, settings = np.random.default_rng(1), len(means)
    for _ in range(count):
        values = np.array(means)[:, None] + draw(generator, (settings, SEEDS))
        yield values + generator.normal(size=SEEDS)  # what a seed does to all settings


def real(selection: str, outputs: str) -> NDArray[np.float64]:
    """The validation errors of a sweep, (settings, seeds), the best setting first."""
    runs = harness.runs(selection, outputs=outputs)
    after = list(runs.columns).index("seconds") + 1
    keys = [key for key in runs.columns[after:] if "/" not in key and key != "seed"]
    table = runs.pivot_table("best/val_error", keys, "seed")
    ranked = table.loc[table.mean(axis=1).sort_values().index]
    return ranked.dropna(axis="columns").to_numpy(np.float64)


def judge(sweeps: Iterable[NDArray[np.float64]], bests: set[int]) -> str:
    """The cells of a row. bests: the settings with the lowest mean."""
    count = lost = wrong = found = runs = 0
    fixed: NDArray[np.float64] = np.zeros(1)
    for values in sweeps:
        settings, seeds = values.shape
        ended = {each.setting: each.seeds for each in race(values.tolist(), seeds)}
        left = set(range(settings)) - set(ended)
        count += 1
        lost += 0 in ended
        wrong += len(left) == 1 and left != bests
        found += left == {0} == bests
        longest = max(ended.values()) if len(left) == 1 else seeds
        runs += sum(ended.get(setting, longest) for setting in range(settings))
        if bests == {0}:
            fixed = fixed + [n > 1 and finds(values[:, :n]) for n in range(seeds + 1)]
    enough = np.flatnonzero(fixed >= found)
    row = f"{lost / count:.1%} | {wrong / count:.1%} | {found / count:.1%} | {runs / count:.0f}"
    if found < 0.5 * count or not len(enough):
        return f"{row} |  | "
    most = int(enough[0]) * settings
    return f"{row} | {most} | {runs / count / most:.2f}"


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
    parser.add_argument("--sweep", metavar="SELECTION")
    parser.add_argument("--outputs", default="outputs")
    options = parser.parse_args()
    count = options.count
    print(f"n = {count}; standard error of 2.5 %: {math.sqrt(0.025 * 0.975 / count):.1%}")
    print("| settings | best ended | wrong | found | runs | fixed | ratio |")
    print("|---|---|---|---|---|---|---|")
    if options.sweep:
        values, generator = real(options.sweep, options.outputs), np.random.default_rng(1)
        orders = (values[:, generator.permutation(values.shape[1])] for _ in range(count))
        print(f"| {options.sweep} | {judge(orders, {0})} |")
        return
    for name, means, draw in ROWS:
        bests = {setting for setting, mean in enumerate(means) if mean == means[0]}
        print(f"| {name} | {judge(simulated(means, draw, count), bests)} |", flush=True)


if __name__ == "__main__":
    main()
