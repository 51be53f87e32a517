"""Epochs that a pruned search needs to reach the best validation error of an unpruned one.

python tests/benchmarks/bench_pruning.py [--seeds 9] [--trials 30] [--pruners halving ...]
python tests/benchmarks/bench_pruning.py 'lr=tag(log, interval(0.001, 3))' 'width=choice(32,64,128)'

The arguments replace the default space of five keys.

The searches are those of `hydra/sweeper=optuna` (the same samplers, pruners and reports), trained
in this process. Both searches of a seed use the same seed of the sampler. The unpruned one has
`trials` trials. The pruned one continues until its error is as low, or until it has trained as many
epochs: share 1.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from threadpoolctl import threadpool_limits

from harness.data.dataset import load
from harness.job import build
from harness.nn import metrics
from harness.run import overrides
from harness.run.compose import compose_one
from harness.run.launcher_schema import OptunaSweeper
from harness.run.search.search import Search
from harness.run.search.space import split
from harness.run.search.study import open_study
from harness.runfolder.environment import processor
from harness.training.monitor import Diverged
from harness.training.trainer import Trainer

FIXED = ["dataset.num_train=4000", "epochs=20", "threads=1"]
SPACE = ["lr=tag(log, interval(0.001, 3))", "width=choice(32,64,128)", "batch=choice(16,32,64,128)",
         "dropout=interval(0, 0.5)", "weight_decay=tag(log, interval(1e-6, 1e-2))"]  # fmt: skip
SETTINGS = {"name": "optuna", "study": "s", "sampler": "tpe", "startup_trials": 5,
            "warmup_epochs": 3}  # fmt: skip
DATA = load(num_val=5000, num_train=4000)


class Report:
    """A recorder that reports to Optuna as a search does, and counts epochs."""

    def __init__(self, trial, spent: list[float]) -> None:  # type: ignore[no-untyped-def]
        self.trial, self.spent = trial, spent

    def epoch(self, epoch: int, values: dict[str, float], trainer: Trainer) -> None:
        """Report and count an epoch. Raises `TrialPruned` when the pruner ends the trial."""
        from optuna import TrialPruned

        self.spent.append(values[metrics.VAL_ERROR])
        self.trial.report(values[metrics.VAL_ERROR], epoch)
        if self.trial.should_prune():
            raise TrialPruned

    def final(self, epoch: int, values: dict[str, float]) -> None:
        """Do nothing."""


def search(
    keys: list[str],
    pruner: str,
    seed: int,
    outputs: Path,
    enough: Callable[[list[float], int], bool],
) -> list[float]:
    """Run a search. Returns the validation error after each epoch that it trained, in order."""
    fixed, space, _ = split(overrides.parse([*FIXED, *keys]).settings)
    base = compose_one([*fixed, f"outputs={outputs}"])
    sweeper = OptunaSweeper(**SETTINGS, n_trials=1, pruner=pruner, seed=seed)  # type: ignore[arg-type]
    study = open_study(Search(f"{pruner}{seed}", sweeper, tuple(fixed), tuple(space), base, ()))
    spent: list[float] = []
    trials = 0

    def objective(trial) -> float:  # type: ignore[no-untyped-def]
        lines = [f"{each.key}={each.suggest(trial)}" for each in space]
        config = compose_one([*fixed, *lines])
        trainer = build.trainer(replace(config, backend=build.backend(config)), DATA)
        result = trainer.run(Report(trial, spent))
        return result.values[metrics.BEST_VAL_ERROR]

    while not enough(spent, trials):
        study.optimize(objective, 1, catch=(Diverged,))
        trials += 1
    return spent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", nargs="*", default=SPACE)
    parser.add_argument("--seeds", type=int, default=9)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--pruners", nargs="+", default=["halving", "median", "hyperband"])
    parsed = parser.parse_args()
    print(f"{processor()}; {' '.join([*FIXED, *parsed.space])}; {parsed.trials} trials unpruned")
    print(f"{'pruner':<10}{'seed':>5}{'unpruned best':>15}{'epochs':>8}{'pruned epochs':>15}"
          f"{'share':>8}")  # fmt: skip
    shares: dict[str, list[float]] = {pruner: [] for pruner in parsed.pruners}
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):  # as in FIXED
        for seed in range(1, parsed.seeds + 1):
            whole = search(
                parsed.space, "none", seed, Path(folder), lambda _, n: n >= parsed.trials
            )
            best, budget = min(whole), len(whole)

            def enough(spent: list[float], _: int, best: float = best, most: int = budget) -> bool:
                return bool(spent) and (min(spent) <= best or len(spent) >= most)

            for pruner in parsed.pruners:
                spent = search(parsed.space, pruner, seed, Path(folder), enough)
                reached = min(spent) <= best
                needed = next((n for n, e in enumerate(spent, 1) if e <= best), budget)
                shares[pruner].append(needed / budget)
                print(f"{pruner:<10}{seed:>5}{best:>15.2%}{budget:>8}{needed:>15}"
                      f"{needed / budget:>8.2f}{'' if reached else '  not reached'}",
                      flush=True)  # fmt: skip
    for pruner, each in shares.items():
        print(f"{pruner:<10} median share {statistics.median(each):.2f}, "
              f"min {min(each):.2f}, max {max(each):.2f}, n = {len(each)}")  # fmt: skip


if __name__ == "__main__":
    main()
