"""Throughput of a sweep with two jobs at once relative to one at a time, on two cores.

python tests/benchmarks/bench_parallel.py [--pairs 3]
python tests/benchmarks/bench_parallel.py batch=32,64 'seed=range(3)' tracking=none

Whole commands are timed, including startup and shutdown. The order within a pair alternates.
Overrides replace the default sweep.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from harness.runfolder.environment import processor
from harness.training.threads import cores

SWEEP = ("batch=16,64,128", "seed=range(5)", "tracking=none")
LAUNCHERS = {
    "one at a time": (),
    "two at once": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
}


def seconds(*arguments: str) -> float:
    """Wall seconds of one command in a new folder with extracted data."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "harness.run"]
        prepare = [*command, "epochs=1", "tracking=none", "dataset.num_train=100"]
        subprocess.run(prepare, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        begin = time.perf_counter()
        subprocess.run(
            [*command, "-m", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        return time.perf_counter() - begin


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("overrides", nargs="*", default=SWEEP)
    parsed = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    took: dict[str, list[float]] = {name: [] for name in LAUNCHERS}
    for pair in range(parsed.pairs):
        order = list(LAUNCHERS) if pair % 2 == 0 else list(reversed(LAUNCHERS))
        for name in order:
            took[name].append(seconds(*parsed.overrides, *LAUNCHERS[name]))
    first, second = took.values()
    ratios = [one / two for one, two in zip(first, second, strict=True)]
    print(f"{processor()}, {cores()} cores; {' '.join(parsed.overrides)}; n = {parsed.pairs} pairs")
    for name, all_seconds in took.items():
        print(f"{name:<14} min {min(all_seconds):6.1f} s  max {max(all_seconds):6.1f} s")
    print(
        f"throughput     median {statistics.median(ratios):.2f} x  "
        f"min {min(ratios):.2f} x  max {max(ratios):.2f} x"
    )


if __name__ == "__main__":
    main()
