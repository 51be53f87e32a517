"""Time of reading many runs from their journals as data frames, each in a process of its own.

python tests/benchmarks/bench_frames.py [--runs 1000 --epochs 30] [--repeats 3]

The runs are written as a training writes them, without waiting for the disk. `start` is a process
that imports pandas only.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from harness.nn import metrics
from harness.run.compose import compose_one
from harness.runfolder import config as configuration
from harness.runfolder import journal
from harness.runfolder.environment import processor
from harness.runfolder.folder import new_id, runs_folder
from harness.runfolder.journal import Journal

SEEDS = 5
PER_EPOCH = (
    metrics.TRAIN_LOSS, metrics.TRAIN_ERROR, metrics.TRAIN_LR, metrics.VAL_LOSS, metrics.VAL_ERROR,
    metrics.EPOCH_S, metrics.EXAMPLES_PER_S,
)  # fmt: skip
CODES = {
    "start": "import pandas",
    "runs": "import harness; frame = harness.runs(outputs={!r})",
    "curves": "import harness; frame = harness.curves(outputs={!r})",
}


def fill(outputs: Path, runs: int, epochs: int) -> None:
    """Write journals of batch sizes x learning rates x seeds."""
    params = configuration.leaves(compose_one(["tracking=none"]))
    os.fsync = lambda descriptor: None  # type: ignore[assignment]  # this process only prepares
    for number in range(runs):
        setting, seed = divmod(number, SEEDS)
        given = {"batch": 2 ** (setting % 8), "lr": 0.01 * (1 + setting // 8), "seed": seed}
        _write(outputs, number, params | given, epochs)


def _write(outputs: Path, number: int, params: Mapping[str, Any], epochs: int) -> None:
    run = f"{number:06x}{new_id()[6:]}"
    folder = runs_folder(outputs) / run
    folder.mkdir(parents=True)
    data = {"name": "mnist", "sha256": "ab" * 32}
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append(
            "create", run=run, name=f"run {number}", order=number, params=params,
            tags={"run.id": run}, experiment="bench", dataset=data,
        )  # fmt: skip
        writer.append("start", host="host", pid=1, threads=1, backend="numpy")
        for epoch in range(1, epochs + 1):
            values = dict.fromkeys(PER_EPOCH, 1 / (epoch + number))
            writer.append("epoch", epoch=epoch, metrics=values)
        final = {metrics.TEST_ERROR: 0.02, metrics.BEST_EPOCH: 1.0 * epochs}
        writer.append("final", epoch=epochs, metrics=final)
        writer.append("end", status="FINISHED", error=None)


def measure(code: str) -> tuple[float, float]:
    """Wall seconds and CPU seconds of a Python process."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        fill(Path(temporary), arguments.runs, arguments.epochs)
        work = f"{arguments.runs} runs x {arguments.epochs} epochs"
        print(f"{processor()}; {work}; median of {arguments.repeats}")
        print(f"{'':<8}{'s':>8}{'CPU s':>8}")
        for name, code in CODES.items():
            measured = [measure(code.format(temporary)) for _ in range(arguments.repeats)]
            seconds, used = (median(column) for column in zip(*measured, strict=True))
            print(f"{name:<8}{seconds:>8.2f}{used:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
