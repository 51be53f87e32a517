"""What giving seeds only to settings that can still win costs and saves in a search, by simulation.

    python tests/benchmarks/bench_racing.py [--count 2000] [--trials 60] [--seeds 5]

Every row simulates searches of `trials` settings with up to `seeds` seeds each. The means of the
settings are drawn as a random search finds them: above the best possible by an exponential number
of standard deviations over seeds, on average `means`. `ended` is the share of settings that were
ended although they would have won, of all settings, at most 5 %; `lost` the share of searches that
chose another setting than with all seeds for all; `worse` how much worse the chosen one then is in
truth, on average over all searches, in standard deviations. `one seed` and `all` are how much worse
than the best setting that was tried the chosen one is, with one seed for each setting and with all
seeds for all. `runs` is the share of all seeds for all.
"""

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from harness.analysis.racing import LEVEL, prospect

Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, Values, int], Values]


def normal(
    generator: np.random.Generator, means: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    """Independent normal values for each setting and seed."""
    return generator.normal(size=(len(means), k))


def shared(
    generator: np.random.Generator, means: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    """Half of the variance is the effect of a seed on all settings."""
    return (normal(generator, means, k) + generator.normal(size=k)) / np.sqrt(2)


def growing(
    generator: np.random.Generator, means: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    """The spread over seeds grows with the mean: it is doubled three deviations above the best."""
    return normal(generator, means, k) * (1 + means[:, None] / 3)


def mixed(
    generator: np.random.Generator, means: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    """Every setting has a different spread, from half to twice the standard one."""
    return normal(generator, means, k) * np.exp2(generator.uniform(-1, 1, (len(means), 1)))


def heavy(
    generator: np.random.Generator, means: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    """Student's distribution with three degrees of freedom: outliers."""
    return generator.standard_t(3, size=(len(means), k)) / np.sqrt(3)


def coarse(
    generator: np.random.Generator, means: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    """Few validation examples: values in steps of one standard deviation."""
    return np.rint(normal(generator, means, k) + means[:, None]) - means[:, None]


def search(values: Values) -> tuple[list[int], int, int]:
    """The settings that got all seeds, how many were ended that would have won, and the runs."""
    trials, k = values.shape
    whole: list[int] = []
    lost = runs = 0
    for setting in range(trials):
        for n in range(1, k + 1):
            runs += 1
            if not prospect(values[setting, :n], values[whole]).can_win:
                best = values[whole].mean(axis=1).min()
                lost += values[setting].mean() < best
                break
        else:
            whole.append(setting)
    return whole, lost, runs


def simulate(scale: float, draw: Draw, count: int, trials: int, k: int) -> list[float]:
    """The numbers of a row."""
    generator = np.random.default_rng(1)
    rows = []
    for _ in range(count):
        means = generator.exponential(scale, trials)
        values = means[:, None] + draw(generator, means, k)
        whole, ended, runs = search(values)
        chosen = whole[int(values[whole].mean(axis=1).argmin())]
        every, single = int(values.mean(axis=1).argmin()), int(values[:, 0].argmin())
        first = means.min()
        rows.append((
            ended / trials, chosen != every, means[chosen] - means[every],
            means[single] - first, means[every] - first, runs / values.size,
        ))  # fmt: skip
    return [float(each) for each in np.mean(rows, axis=0)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=5)
    parsed = parser.parse_args()
    print(f"{parsed.trials} settings, {parsed.seeds} seeds; n = {parsed.count}; level {LEVEL:.0%}")
    print("| means | spread | ended | lost | worse | one seed | all | runs |")
    print("|---|---|---|---|---|---|---|---|")
    for scale in (1.0, 3.0, 10.0):
        for draw in (normal, shared, growing, mixed, heavy, coarse):
            ended, lost, worse, single, every, runs = simulate(
                scale, draw, parsed.count, parsed.trials, parsed.seeds
            )
            print(f"| {scale:.0f} | {draw.__name__} | {ended:.2%} | {lost:.1%} | {worse:z.2f} | "
                  f"{single:.2f} | {every:.2f} | {runs:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
