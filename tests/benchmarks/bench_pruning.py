"""Epochs that searches need to reach the best validation error of an unpruned one.

python tests/benchmarks/bench_pruning.py [--seeds 9] [--trials 30] [--searches asha halving ...]
    [--jobs 1] [--results FILE]
python tests/benchmarks/bench_pruning.py 'lr=tag(log, interval(0.001, 3))' 'width=choice(32,64,128)'

The arguments replace the default space of five keys. A search is a pruner, which goes with the
sampler tpe; `random` and `tpe` are these samplers without a pruner, the latter from another seed
than the unpruned search that all are compared with.

The searches are those of `hydra/sweeper=optuna` (the same samplers, pruners, queue of trials and
reports), trained in this process. All searches of a seed use the same seed of the sampler. The
unpruned one has `trials` trials. The others continue until their error is as low, or until they
have trained `most` times as many epochs. share: their epochs, as a part of its.

--results: a command that is repeated with the same file goes on with the seeds that are missing.
"""

import argparse
import copy
import json
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
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


def compare(seed: int, parsed: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the searches of a seed; returns a line of the results for each.

    best: the unpruned search's validation error. budget: its epochs. needed: the epochs after which
    the search's error was as low; None: it was not.
    """
    lines = list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):  # as in FIXED
        unpruned = BenchSearch(parsed.space, "none", seed, Path(folder))
        whole = unpruned.run(lambda each: each.trials >= parsed.trials)
        best, budget = min(whole), len(whole)

        def is_over(each: BenchSearch) -> bool:
            return bool(each.spent) and (
                min(each.spent) <= best or len(each.spent) >= parsed.most * budget
            )

        for name in parsed.searches:
            spent = BenchSearch(parsed.space, name, seed, Path(folder)).run(is_over)
            needed = next((n for n, e in enumerate(spent, 1) if e <= best), None)
            lines.append(
                {"search": name, "seed": seed, "best": best, "budget": budget, "needed": needed}
            )
    return lines


def show(lines: list[dict[str, Any]], most: float) -> None:
    """Print a seed's lines of the table."""
    for line in lines:
        needed, budget = line["needed"], line["budget"]
        share = f">{most:.2f}" if needed is None else f"{needed / budget:.2f}"
        print(f"{line['search']:<10}{line['seed']:>5}{line['best']:>15.2%}{budget:>8}{share:>8}",
              flush=True)  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", nargs="*", default=SPACE)
    parser.add_argument("--seeds", type=int, default=9)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--most", type=float, default=1.0)
    parser.add_argument("--searches", nargs="+", default=SEARCHES, choices=SEARCHES)
    parser.add_argument("--jobs", type=int, default=1, help="seeds at the same time")
    parser.add_argument("--results", type=Path, help="a file that keeps finished seeds")
    parsed = parser.parse_args()
    setting = f"{' '.join([*FIXED, *parsed.space])}; {parsed.trials} trials unpruned"
    key = [setting, parsed.most, [*parsed.searches]]
    print(f"{processor()}; {setting}")
    print(f"{'search':<10}{'seed':>5}{'unpruned best':>15}{'epochs':>8}{'share':>8}")
    kept: dict[int, list[dict[str, Any]]] = {}
    if parsed.results and parsed.results.exists():
        for text in parsed.results.read_text().splitlines():
            if (entry := json.loads(text))["key"] == key:
                kept[entry["seed"]] = entry["lines"]
    seeds = range(1, parsed.seeds + 1)
    for seed in sorted(kept.keys() & seeds):
        show(kept[seed], parsed.most)
    with ProcessPoolExecutor(parsed.jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(compare, seed, parsed): seed for seed in seeds if seed not in kept}
        for future in as_completed(running):
            kept[running[future]] = lines = future.result()
            if parsed.results:
                with parsed.results.open("a") as file:
                    file.write(
                        json.dumps({"key": key, "seed": running[future], "lines": lines}) + "\n"
                    )
            show(lines, parsed.most)
    for name in parsed.searches:
        lines = [line for seed in seeds for line in kept[seed] if line["search"] == name]
        reached = [line["needed"] / line["budget"] for line in lines if line["needed"] is not None]
        shares = reached + [float("inf")] * (len(lines) - len(reached))
        print(f"{name:<10} share: median {statistics.median(shares):.2f}, min {min(shares):.2f}, "
              f"max {max(shares):.2f}, reached by {len(reached)} of {len(shares)}")  # fmt: skip


if __name__ == "__main__":
    main()
