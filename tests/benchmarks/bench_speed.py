"""How little training it takes to get 98 % and 99 % of the test images right, on one core.

    python tests/benchmarks/bench_speed.py [98] [99] [--seeds 10]

Each step of a table changes some settings of the step above it; the last one is the recipe
`experiment=speed98` or `speed99`. Every seed is a run, one after the other, with one thread.
Seconds are those of all epochs of a run: the median over the seeds. Error: that of the test set,
mean and standard deviation over the seeds.
"""

import argparse
import statistics
import tempfile

import harness
from harness.runfolder.environment import processor
from harness.runfolder.run import Run

STEPS = {
    "98": [
        ("plain SGD in NumPy", "dataset.num_val=0 normalization=minmax width=256 activation=relu "
         "optimizer=sgd lr=0.2 batch=32 schedule=onecycle epochs=6 backend=numpy"),
        ("compiled kernels", "backend=numba"),
        ("pixels in [0, 1]", "normalization=unit"),
        ("Adam, batches of 192", "optimizer=adam batch=192 lr=0.0105"),
        ("label smoothing", "label_smoothing=0.1"),
        ("longer rise, lower end", "schedule.rise=0.3 schedule.start=2 schedule.end=100"),
        ("three epochs", "epochs=3"),
        ("192 units", "width=192"),
    ],
    "99": [
        ("elastic deformations, momentum", "dataset.num_val=0 normalization=unit activation=relu "
         "width=[512,512] optimizer=momentum lr=0.15 batch=128 schedule=onecycle "
         "label_smoothing=0.02 augmentation=elastic epochs=16 backend=numba"),
        ("affine deformations alone", "augmentation=affine"),
        ("Adam, batches of 192", "optimizer=adam batch=192 lr=0.0037"),
        ("longer rise, more smoothing", "schedule.rise=0.3 schedule.start=2 label_smoothing=0.05"),
        ("eight epochs", "epochs=8"),
        ("half the units above", "width=[512,256]"),
    ],
}  # fmt: skip


def runs(overrides: list[str], seeds: int, outputs: str) -> list[Run]:
    """Train with each seed. Runs that were trained before are not trained again."""
    fixed = [f"outputs={outputs}", "tracking=none", "threads=1", "weights=last"]
    made = harness.sweep([*overrides, *fixed, f"seed=range(1,{seeds + 1})"], quiet=True)
    if made.failed:
        raise SystemExit(f"{made.failed[0].id}: {made.failed[0].history().error}")
    return made.runs


def measure(goal: str, seeds: int, outputs: str) -> None:
    """Print the table of a recipe."""
    print(f"\n| {goal} % | change | epochs | seconds | test error |\n|---|---|---|---|---|")
    settings: dict[str, str] = {}
    for number, (name, changes) in enumerate(STEPS[goal], 1):
        settings |= dict(each.split("=", 1) for each in changes.split())
        trained = runs([f"{key}={value}" for key, value in settings.items()], seeds, outputs)
        seconds = [run.frame()["time/epoch_s"].sum() for run in trained]
        errors = [100 * run.metrics["test/error"] for run in trained]
        print(f"| {number} | {name}: `{changes}` | {settings['epochs']} | "
              f"{statistics.median(seconds):.2f} | "
              f"{statistics.mean(errors):.2f} ± {statistics.stdev(errors):.2f} |",
              flush=True)  # fmt: skip
    if runs([f"experiment=speed{goal}"], seeds, outputs) != trained:
        raise SystemExit(f"the last step has other settings than experiment=speed{goal}")


def main() -> None:
    """Print a table for each goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("goals", nargs="*", metavar="GOAL", default=[*STEPS])
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    print(f"{processor()}; one thread, n = {options.seeds} seeds", flush=True)
    with tempfile.TemporaryDirectory() as outputs:
        for goal in options.goals:
            measure(goal, options.seeds, outputs)


if __name__ == "__main__":
    main()
