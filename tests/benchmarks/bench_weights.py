"""Compare the weights of the best epoch and of the last epoch on the test set.

    python tests/benchmarks/bench_weights.py [RECIPE ...] [OVERRIDE ...] [--seeds 10] [--outputs O]

Trains each recipe with 5,000 validation examples and both kinds of weights saved. Prints the mean
errors over the seeds in percent: of the lowest validation error, of the test set with the weights
of that epoch, and with those of the last epoch; then the mean and standard deviation of two
differences, each with the p-value of a paired t-test. Optimism: how much lower the validation
error of the best epoch is than that of the last one, by the choice alone if both are equally good.
Gain: how much lower the test error of the last epoch is than that of the best one. A repeated
command with `--outputs` goes on where it was ended.
"""

import argparse
import statistics
import tempfile

from safetensors.numpy import load_file
from scipy.stats import ttest_1samp

import harness
from harness.job import build
from harness.job.scratch import LAST_WEIGHTS
from harness.runfolder.environment import processor
from harness.runfolder.run import Run
from harness.runfolder.schema import ScratchConfig
from harness.training import evaluation

RECIPES = (
    "default",
    "article",
    "speed98",
    "speed99",
    "quick",
    "fashion",
    "conv",
    "dropout",
    "best",
)


def last_error(run: Run) -> float:
    """The error of the test set with the weights of the last epoch."""
    config, dataset = run.config, run.dataset()
    assert isinstance(config, ScratchConfig)
    trainer = build.trainer(config, dataset)
    weights = load_file(run.verified(LAST_WEIGHTS))
    for name, array in trainer.network.parameters.arrays.items():
        array[...] = weights[name]
    loss = trainer.options.loss
    score, _ = evaluation.evaluate(trainer.network, dataset.test, trainer.normalization, loss)
    return score.error


def measure(recipe: str, seeds: int, outputs: str, overrides: list[str]) -> None:
    """Print the row of a recipe."""
    chosen = [] if recipe == "default" else [f"experiment={recipe}"]
    fixed = ["weights=best", "dataset.num_val=5000", f"outputs={outputs}", "tracking=none"]
    made = harness.sweep([*chosen, *fixed, *overrides, f"seed=range(1,{seeds + 1})"], quiet=True)
    if made.failed:
        raise SystemExit(f"{made.failed[0].id}: {made.failed[0].history().error}")
    best = [100 * run.metrics["test/error"] for run in made.runs]
    last = [100 * last_error(run) for run in made.runs]
    lowest = [100 * run.metrics["best/val_error"] for run in made.runs]
    final = [100 * run.frame()["val/error"].iloc[-1] for run in made.runs]
    cells = [f"{statistics.mean(values):.3f}" for values in (lowest, best, last)]
    for ours, theirs in ((final, lowest), (best, last)):
        differences = [one - other for one, other in zip(ours, theirs, strict=True)]
        p = ttest_1samp(differences, 0).pvalue if len(set(differences)) > 1 else 1.0
        mean, spread = statistics.mean(differences), statistics.stdev(differences)
        cells.append(f"{mean:.3f} ± {spread:.3f} (p = {p:.2g})")
    print(f"| `{recipe}` | {made.runs[0].config.epochs} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print a row for each recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="RECIPE | OVERRIDE")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--outputs", help="keep the runs in this folder")
    options = parser.parse_intermixed_args()
    overrides = [word for word in options.words if "=" in word]
    recipes = [word for word in options.words if "=" not in word] or RECIPES
    print(f"{processor()}; n = {options.seeds} seeds\n")
    print("| recipe | epochs | validation, best | test, best | test, last | optimism | gain |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for recipe in recipes:
            measure(recipe, options.seeds, options.outputs or temporary, overrides)


if __name__ == "__main__":
    main()
