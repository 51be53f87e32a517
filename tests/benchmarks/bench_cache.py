"""Size and load time of the extracted MNIST: JSON, as in the tutorial, and the memory-mapped cache.

python tests/benchmarks/bench_cache.py [--repeats 5]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.commands.export import write_json
from harness.data.dataset import load
from harness.runfolder.environment import processor


def milliseconds(work: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Minimum, median and maximum of the wall time in ms."""
    took = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        took.append((time.perf_counter() - begin) * 1000)
    return min(took), statistics.median(took), max(took)


def load_json(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (N, D) and labels (N,), uint8, from a file that `export json` wrote."""
    content = json.loads(path.read_text())
    return np.array(content["images"], np.uint8), np.array(content["labels"], np.uint8)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        begin = time.perf_counter()
        data = load(cache=cache, num_val=0)
        extraction = (time.perf_counter() - begin) * 1000
        files = write_json(data, Path(folder) / "json")
        rows = {
            "JSON": (files, lambda: [load_json(path) for path in files]),
            "mapped cache": (list(cache.rglob("*.npy")), lambda: load(cache=cache, num_val=0)),
        }
        print(f"{processor()}; n = {repeats}; extraction, once: {extraction:.0f} ms")
        print(f"{'':<14}{'MB':>8}{'min ms':>10}{'median ms':>11}{'max ms':>10}")
        for name, (paths, work) in rows.items():
            size = sum(path.stat().st_size for path in paths) / 1e6
            least, middle, most = milliseconds(work, repeats)
            print(f"{name:<14}{size:>8.1f}{least:>10.1f}{middle:>11.1f}{most:>10.1f}")


if __name__ == "__main__":
    main()
