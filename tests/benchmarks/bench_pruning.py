"""Epochs that searches need to reach the best validation error of an unpruned one.

python tests/benchmarks/bench_pruning.py [--seeds 9] [--trials 30] [--searches asha halving ...]
python tests/benchmarks/bench_pruning.py 'lr=tag(log, interval(0.001, 3))' 'width=choice(32,64,128)'

The arguments replace the default space of five keys. A search is a pruner, which goes with the
sampler tpe; `random` and `tpe` are these samplers without a pruner, the latter from another seed
than the unpruned search that all are compared with.

The searches are those of `hydra/sweeper=optuna` (the same samplers, pruners, queue of trials and
reports), trained in this process. All searches of a seed use the same seed of the sampler. The
unpruned one has `trials` trials. The others continue until their error is as low, or until they
have trained `most` times as many epochs. share: their epochs, as a part of its.
"""

import argparse
import copy
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from harness.data.dataset import load
from harness.job import build
from harness.nn import metrics
from harness.run import overrides
from harness.run.compose import compose_one
from harness.run.launcher_schema import OptunaSweeper
from harness.run.search.pausing import PAUSE
from harness.run.search.queue import TrialQueue
from harness.run.search.search import Search
from harness.run.search.space import split
from harness.runfolder.environment import processor
from harness.training.monitor import Diverged
from harness.training.trainer import Trainer

FIXED = ["dataset.num_train=4000", "epochs=20", "threads=1"]
SPACE = ["lr=tag(log, interval(0.001, 3))", "width=choice(32,64,128)", "batch=choice(16,32,64,128)",
         "dropout=interval(0, 0.5)", "weight_decay=tag(log, interval(1e-6, 1e-2))"]  # fmt: skip
SETTINGS = {"name": "optuna", "study": "s", "startup_trials": 5, "warmup_epochs": 3}
SEARCHES = ("asha", "halving", "hyperband", "median", "random", "tpe")
OTHER_SEED = 1000
DATA = load(num_val=5000, num_train=4000)


class Report:
    """A recorder that reports to Optuna as a search does, counts epochs, and keeps the state.

    pause: the epoch after which the training pauses; None: it does not.
    """

    def __init__(self, trial: Any, spent: list[float], pause: int | None) -> None:
        self.trial, self.spent, self.pause = trial, spent, pause
        self.state: Any = None

    def epoch(self, epoch: int, values: dict[str, float], trainer: Trainer) -> None:
        """Report and count an epoch. Raises `TrialPruned` when the trial is over, or pauses."""
        from optuna import TrialPruned

        self.spent.append(values[metrics.VAL_ERROR])
        self.trial.report(values[metrics.VAL_ERROR], epoch)
        if epoch == self.pause and not trainer.is_over:
            self.state = copy.deepcopy(trainer.state())
            raise TrialPruned
        if self.pause is None and self.trial.should_prune():
            raise TrialPruned

    def final(self, epoch: int, values: dict[str, float]) -> None:
        """Do nothing."""


class BenchSearch:
    """A search in this process. spent: the validation error after each epoch that it trained."""

    def __init__(self, keys: list[str], name: str, seed: int, outputs: Path) -> None:
        """name: one of `SEARCHES`, or `none`."""
        pruner = "none" if name in ("random", "tpe") else name
        sampler = "random" if name == "random" else "tpe"
        self.fixed, self.space, _ = split(overrides.parse([*FIXED, *keys]).settings)
        base = compose_one([*self.fixed, f"outputs={outputs}"])
        sweeper = OptunaSweeper(
            **SETTINGS, n_trials=10**6, pruner=pruner, sampler=sampler,
            seed=seed + (OTHER_SEED if name == "tpe" else 0),
        )  # type: ignore[arg-type]  # fmt: skip
        search = Search(f"{name}{seed}", sweeper, tuple(self.fixed), tuple(self.space), base, ())
        self.queue, self.spent, self.trials = TrialQueue(search), list[float](), 0
        self._states: dict[str, Any] = {}

    def train(self) -> None:
        """Train the next trial, until it ends or pauses."""
        from optuna import TrialPruned
        from optuna.trial import TrialState

        trial, _, _ = self.queue.ask(several=False)
        assert trial is not None
        lines = [f"{each.key}={each.suggest(trial)}" for each in self.space]
        config = compose_one([*self.fixed, *lines])
        trainer = build.trainer(replace(config, backend=build.backend(config)), DATA)
        setting = str(trial.params)
        if setting in self._states:
            trainer.restore(*self._states.pop(setting))
        report = Report(trial, self.spent, trial.user_attrs.get(PAUSE))
        try:
            result = trainer.run(report)
        except TrialPruned:
            self.queue.tell(trial, None, TrialState.PRUNED)
            if report.state is not None:
                self._states[setting] = report.state
        except Diverged as error:
            self.queue.fail(trial, str(error))
        else:
            value = result.values[metrics.BEST_VAL_ERROR]
            self.queue.tell(trial, [value], TrialState.COMPLETE)
        self.trials += 1

    def run(self, is_over: Callable[["BenchSearch"], bool]) -> list[float]:
        """Train until it is over; returns `spent`."""
        while not is_over(self):
            self.train()
        return self.spent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", nargs="*", default=SPACE)
    parser.add_argument("--seeds", type=int, default=9)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--most", type=float, default=1.0)
    parser.add_argument("--searches", nargs="+", default=SEARCHES, choices=SEARCHES)
    parsed = parser.parse_args()
    print(f"{processor()}; {' '.join([*FIXED, *parsed.space])}; {parsed.trials} trials unpruned")
    print(f"{'search':<10}{'seed':>5}{'unpruned best':>15}{'epochs':>8}{'share':>8}")
    shares: dict[str, list[float]] = {name: [] for name in parsed.searches}
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):  # as in FIXED
        for seed in range(1, parsed.seeds + 1):
            unpruned = BenchSearch(parsed.space, "none", seed, Path(folder))
            whole = unpruned.run(lambda each: each.trials >= parsed.trials)
            best, budget = min(whole), len(whole)

            def is_over(each: BenchSearch, best: float = best, budget: int = budget) -> bool:
                return bool(each.spent) and (
                    min(each.spent) <= best or len(each.spent) >= parsed.most * budget
                )

            for name in parsed.searches:
                spent = BenchSearch(parsed.space, name, seed, Path(folder)).run(is_over)
                needed = next((n for n, e in enumerate(spent, 1) if e <= best), None)
                share = float("inf") if needed is None else needed / budget
                shares[name].append(share)
                shown = f">{parsed.most:.2f}" if needed is None else f"{share:.2f}"
                print(f"{name:<10}{seed:>5}{best:>15.2%}{budget:>8}{shown:>8}", flush=True)
    for name, each in shares.items():
        known = [share for share in each if share < float("inf")]
        print(f"{name:<10} share: median {statistics.median(each):.2f}, min {min(each):.2f}, max "
              f"{max(each):.2f}, reached by {len(known)} of {len(each)}")  # fmt: skip


if __name__ == "__main__":
    main()
