"""Time and peak memory of comparing many runs, read from SQLite and from an HTTP server.

python tests/benchmarks/bench_compare.py [--runs 1000 --epochs 30] [--folder FOLDER]

The default is 60 runs of 10 epochs. MLflow's client writes the runs into a new store (kept and
reused with --folder), each with the metrics, params, tags and predictions of a real run. Then
`python -m harness compare` reads them in its own process. The report is not attached, so both
measurements do the same work.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from harness.nn import metrics
from harness.runfolder.environment import processor
from harness.runfolder.status import RunStatus
from harness.runfolder.target import Target
from harness.tracking.store import Store
from harness.tracking.ui import serve

SEEDS = 5
PER_EPOCH = (
    metrics.TRAIN_LOSS, metrics.TRAIN_ERROR, metrics.TRAIN_LR, metrics.VAL_LOSS, metrics.VAL_ERROR,
    metrics.EPOCH_S, metrics.EXAMPLES_PER_S,
)  # fmt: skip
DATASET = {"name": "mnist", "sha256": "cd" * 32, "source": "mnist", "train": 55_000, "val": 5000,
           "test": 10_000, "image_shape": [28, 28], "classes": 10}  # fmt: skip


def fill(outputs: Path, runs: int, epochs: int) -> None:
    """Write runs of batch sizes x learning rates x seeds with few calls of MLflow's client."""
    from mlflow.entities import Metric, Param, RunTag

    store = Store(Target.local(outputs))
    experiment = store.experiment("bench")
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 10, 10_000).astype(np.uint8)
    for number in range(runs):
        setting, seed = divmod(number, SEEDS)
        batch, lr = 2 ** (setting % 8), 0.01 * (1 + setting // 8)
        params = {f"filler.{i}": "0" for i in range(40)} | {"dataset.num_val": "5000"}
        params |= {"batch": str(batch), "lr": f"{lr:g}", "seed": str(seed)}
        tags = {"run.id": f"{number:06x}-bench", "sweep": "be9c4be9c4", "data.sha256": "cd" * 32}
        created = store.client.create_run(experiment, 1000 + number, tags, f"run {number}")
        run = str(created.info.run_id)
        store.log_dataset(run, DATASET)
        error = 0.02 + 0.002 * abs(setting % 8 - 4) + generator.normal(0, 0.001)
        curve = error * (1 + 3 / np.arange(1, epochs + 1))
        points = [
            Metric(key, float(value), 1000 + epoch, epoch)
            for key in PER_EPOCH
            for epoch, value in enumerate(curve, 1)
        ]
        points.append(Metric(metrics.TEST_ERROR, round(error, 4), 2000, epochs))
        store.client.log_batch(
            run, points, [Param(*pair) for pair in params.items()],
            [RunTag("mlflow.source.name", "bench")],
        )  # fmt: skip
        answers = np.where(generator.uniform(size=10_000) < error, (labels + 1) % 10, labels)
        probabilities = np.full((10_000, 10), 0.01, np.float32)
        probabilities[np.arange(10_000), answers] = 0.91
        folder = outputs / "artifacts" / "bench" / run / "artifacts" / "predictions"
        folder.mkdir(parents=True)
        np.savez(folder / "test.npz", labels=labels, probabilities=probabilities)
        store.set_status(run, RunStatus.FINISHED, 3000)


def measure(folder: Path, *options: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak megabytes of one `compare` in its own process."""
    command = [sys.executable, "-m", "harness", "compare", "be9c4be9c4", "--no-attach", *options]
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    unit = 1 if sys.platform == "darwin" else 1024
    seconds = time.perf_counter() - begin
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--port", type=int, default=5098)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        outputs = folder / "outputs"
        if not (outputs / "mlflow.db").exists():
            fill(outputs, arguments.runs, arguments.epochs)
        work = f"{arguments.runs} runs x {arguments.epochs} epochs"
        print(f"{processor()}; {work}; n = {arguments.repeats}")
        print(f"{'':<14}{'min s':>8}{'max s':>8}{'CPU s':>8}{'peak MB':>9}")
        with serve(Target.local(outputs), arguments.port) as address:
            for name, options in {"SQLite": (), "HTTP": ("--uri", address)}.items():
                measurements = [measure(folder, *options) for _ in range(arguments.repeats)]
                seconds, processor_s, megabytes = zip(*measurements, strict=True)
                print(
                    f"{name:<14}{min(seconds):>8.1f}{max(seconds):>8.1f}{min(processor_s):>8.1f}"
                    f"{max(megabytes):>9.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
