"""What it costs to record runs: our journal and delivery beside plain MLflow with the same values.

    python tests/benchmarks/bench_delivery.py [--runs 10 100] [--values 10000] [--repeats 3]

The runs train nothing: a training function logs ten metrics for each epoch. Each row is a whole
command, from its start to the end of all processes that it waits for: the time, and the CPU seconds
without those of a server. `journal` records durably, with tracking=none; `SQLite` and `HTTP` also
deliver, to a database and to `mlflow server` on this machine, with the configuration, pictures and
reports. `MLflow` is a loop of `mlflow.log_metrics` in one process, with nothing else.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from harness.runfolder.environment import processor
from harness.runfolder.target import Target
from harness.tracking.ui import serve
from harness.training.threads import cores

TRAINER = """
from dataclasses import dataclass

@dataclass
class Settings:
    pass

def fit(settings: Settings, run):
    for epoch in run.epochs():
        run.log(epoch, {"val/error": 1 / (1 + epoch)} | {f"val/m{n}": n / epoch for n in range(9)})
    run.final({"test/error": 0.5})
"""
PLAIN = """
import sys
import mlflow

uri, runs, epochs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
mlflow.set_tracking_uri(uri)
mlflow.set_experiment("plain")
for seed in range(runs):
    with mlflow.start_run():
        mlflow.log_param("seed", seed)
        for epoch in range(1, epochs + 1):
            values = {"val/error": 1 / (1 + epoch)} | {f"val/m{n}": n / epoch for n in range(9)}
            mlflow.log_metrics(values, step=epoch)
        mlflow.log_metric("test/error", 0.5)
"""
METRICS = 10


def measured(command: list[str], cwd: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begin, used


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--values", type=int, default=10_000, help="of all runs together")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"{processor()}, {cores()} cores; median of n = {options.repeats}")
    print(f"{'runs':>5}  {'':<16}{'seconds':>9}{'CPU s':>9}")
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        (cwd / "cost.py").write_text(TRAINER)
        (cwd / "plain.py").write_text(PLAIN)
        x, y = np.eye(40, 4, dtype=np.float32), np.arange(40, dtype=np.uint8) % 2
        np.savez(cwd / "tiny.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        with serve(Target.local(cwd / "server"), 5097) as server:
            for runs in options.runs:
                epochs = options.values // METRICS // runs
                ours = [
                    sys.executable, "-m", "harness.run", "-m", "trainer=cost:fit", "fresh=true",
                    "dataset=arrays", "dataset.file=tiny.npz", f"epochs={epochs}",
                    f"seed=range({runs})",
                ]  # fmt: skip
                plain = [sys.executable, "plain.py"]
                size = [str(runs), str(epochs)]
                commands = {
                    "journal": [*ours, "tracking=none"],
                    "SQLite": ours,
                    "HTTP": [*ours, "tracking=server", f"tracking.uri={server}"],
                    "MLflow, SQLite": [*plain, "sqlite:///plain.db", *size],
                    "MLflow, HTTP": [*plain, server, *size],
                }
                took: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
                for _ in range(options.repeats):
                    for name, command in commands.items():
                        took[name].append(measured(command, cwd))
                for name, times in took.items():
                    wall, used = (statistics.median(each) for each in zip(*times, strict=True))
                    print(f"{runs:>5}  {name:<16}{wall:>9.1f}{used:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
