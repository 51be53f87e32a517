"""Group runs into settings: runs that differ only in their seed are one setting."""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from harness.analysis import statistics
from harness.analysis.seed_run import SEED, SeedRun
from harness.runfolder.cost import Cost
from harness.runfolder.objective import Objective

DATA, CODE = "data", "code"  # columns of digests
NOTHING = "-"  # the value of a key that a run does not have
BACKEND = "backend"
NAME = ".name"  # of the key that chooses a group: `optimizer.name`, typed `optimizer`
# Keys that a group sets, or does not take, and that are not among its own.
OF_GROUP = {"lr": "optimizer", "depth": "model"}
DIGITS = 3  # of a number that a search found, at least
TRAINER = "trainer.name"
ONE_SETTING = "the one setting"


@dataclass(frozen=True)
class Summary:
    """A quantity over n seeds. deviation: with n - 1, NaN for one seed."""

    n: int
    mean: float
    deviation: float
    best: float
    worst: float

    @property
    def interval(self) -> tuple[float, float]:
        """Student's 95 % confidence interval for the mean; NaN for fewer than two values."""
        if self.n < 2:
            return math.nan, math.nan
        quantile = statistics.student_quantile(statistics.LEVEL, self.n - 1)
        reach = quantile * self.deviation / math.sqrt(self.n)
        return self.mean - reach, self.mean + reach


def summarize(values: Sequence[float], *, maximize: bool = False) -> Summary:
    """Count, mean, standard deviation, best and worst of the values that are not NaN.

    maximize: the best is the highest, not the lowest.
    """
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Summary(0, math.nan, math.nan, math.nan, math.nan)
    deviation = float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
    best, worst = (max(known), min(known)) if maximize else (min(known), max(known))
    return Summary(len(known), float(np.mean(known)), deviation, best, worst)


@dataclass(frozen=True)
class Setting:
    """Runs that differ only in their seed. values: the keys that distinguish the settings.

    number: its place by the oldest run, which decides between equal ones, as in a sweep's table.
    rounded: the values that are displayed with fewer digits. is_ended: whether the rule that gives
    seeds by results gave it no more.
    """

    values: Mapping[str, str]
    runs: tuple[SeedRun, ...]
    number: int = 0
    rounded: Mapping[str, str] = field(default_factory=dict)
    is_ended: bool = False

    @property
    def shown(self) -> dict[str, str]:
        """The values as people read them."""
        return {**self.values, **self.rounded}

    @property
    def label(self) -> str:
        """The values in one line, `batch=16 lr=0.1`, without keys that its runs do not have."""
        words = {key: f"{key}={value}" for key, value in self.shown.items()}
        known = [word for key, word in words.items() if self.values[key] != NOTHING]
        return " ".join(known or words.values()) or ONE_SETTING

    @property
    def objective(self) -> Objective:
        """The objective of all its runs."""
        return self.runs[0].objective

    @property
    def is_raced(self) -> bool:
        """Whether seeds were added by results, so that only the rule of `until=decided` tests it.

        A test with a fixed number of seeds would claim too much.
        """
        return any(run.is_raced for run in self.runs)

    @property
    def has_seeds(self) -> bool:
        """Whether the seeds of its runs are known."""
        return any(run.seed for run in self.runs) or self.objective.by_epoch

    @property
    def seeds(self) -> str:
        """How many seeds it has, in words; of runs whose seed is unknown, how many runs."""
        kind = "seed" if self.has_seeds else "run"
        return f"one {kind}" if len(self.runs) == 1 else f"{len(self.runs)} {kind}s"

    @property
    def chosen(self) -> SeedRun:
        """The run with the best value of the objective, or else the first; never chosen by test."""
        return min(self.runs, key=lambda run: run.objective.order(run.best_val))

    def over_seeds(
        self, quantity: Callable[[SeedRun], float], *, maximize: bool = False
    ) -> Summary:
        """One quantity of the runs, summarized over their seeds."""
        return summarize([quantity(run) for run in self.runs], maximize=maximize)

    @cached_property
    def best_val(self) -> Summary:
        """The objective at the epoch of each run whose weights count."""
        return self.over_seeds(lambda run: run.best_val, maximize=self.objective.is_max)

    @cached_property
    def last_val(self) -> Summary:
        """The objective at each run's last epoch."""
        return self.over_seeds(lambda run: run.last_val, maximize=self.objective.is_max)

    @cached_property
    def test(self) -> Summary:
        """The test metric with the weights of each run that count."""
        return self.over_seeds(lambda run: run.test, maximize=self.objective.tested.is_max)

    @cached_property
    def seconds(self) -> Summary:
        """Training time."""
        return self.over_seeds(lambda run: run.seconds)

    @property
    def costs(self) -> tuple[Cost, ...]:
        """What it is compared by beside the objective."""
        return tuple(map(Cost.parse, self.runs[0].costs))

    def cost(self, cost: Cost) -> Summary:
        """What it costs, over the seeds."""
        return self.over_seeds(lambda run: run.costs[str(cost)], maximize=cost.is_max)

    @cached_property
    def epoch(self) -> Summary:
        """The epoch whose weights count."""
        return self.over_seeds(lambda run: float(run.best_epoch or math.nan))


def epoch_title(settings: Sequence[Setting]) -> str:
    """What the epochs are called whose weights count: "best epoch", where all are their best."""
    is_best = not any(run.judges_last for setting in settings for run in setting.runs)
    return "best epoch" if is_best else "judged epoch"


def differing(runs: Sequence[SeedRun]) -> list[str]:
    """The keys other than the seed in which the runs differ.

    And `data` if their data sets do, and `code` if the same modules of the user had other source.

    Without those that follow from the others: the backend, the keys of a group such as
    `optimizer.beta1`, and those of `OF_GROUP` such as `lr`, which each optimizer sets, when the
    group's name already tells the settings apart, and the keys that only one of several trainers
    has.
    """
    keys = dict.fromkeys(key for run in runs for key in run.settings if key != SEED)
    different = [key for key in keys if len({run.settings.get(key) for run in runs}) > 1]
    different = _telling(different, runs)
    if len({run.data for run in runs}) > 1:
        different.append(DATA)
    states = {(_own_names(run), run.code) for run in runs}
    if len(states) > len({names for names, _ in states}):
        different.append(CODE)
    return different


def _own_names(run: SeedRun) -> tuple[tuple[str, str], ...]:
    """The settings of a run that name the user's modules."""
    return tuple(
        sorted(
            (key, value)
            for key, value in run.settings.items()
            if ":" in value and (key.endswith(".name") or key == "metrics")
        )
    )


def _telling(keys: list[str], runs: Sequence[SeedRun]) -> list[str]:
    """The keys without those that follow from the others; see `differing`."""
    names = {key for key in keys if key.endswith(NAME)}
    for key in list(keys):
        group = f"{OF_GROUP.get(key, key.partition('.')[0])}{NAME}"
        of_one = TRAINER in names and any(key not in run.settings for run in runs)
        if key == BACKEND or (group in names and key != group) or of_one:
            others = [other for other in keys if other != key]
            if len(_values(others, runs)) == len(_values(keys, runs)):
                keys = others
    return keys


def _values(keys: Sequence[str], runs: Sequence[SeedRun]) -> set[tuple[str | None, ...]]:
    return {tuple(run.settings.get(key) for key in keys) for run in runs}


def group(runs: Sequence[SeedRun], notes: list[str]) -> list[Setting]:
    """Group runs, oldest first, into settings sorted by their values.

    Of several runs with the same setting and seed only the newest counts: repeating a seed is no
    new evidence. A line in `notes` counts the others.
    """
    keys = differing(runs)
    groups: dict[tuple[str, ...], dict[str, SeedRun]] = {}
    repeated = 0
    for run in runs:
        known = {**run.settings, DATA: run.data[:8], CODE: run.code[:8] or NOTHING}
        values = tuple(known.get(key, NOTHING) for key in keys)
        seeds = groups.setdefault(values, {})
        seed = run.seed or run.run  # runs without a seed are all different
        repeated += seed in seeds
        seeds[seed] = run
    if repeated:
        notes.append(
            f"{repeated} run(s) repeat a seed of the same setting and were left out: of each seed "
            "only the newest run counts"
        )
    is_own = not runs or runs[0].objective.by_epoch  # else the keys are another program's
    titles = [typed(key, keys) for key in keys] if is_own else keys
    settings = [
        Setting(
            dict(zip(titles, values, strict=True)),
            tuple(sorted(seeds.values(), key=lambda run: natural(run.seed))),
            number,
        )
        for number, (values, seeds) in enumerate(groups.items())
    ]
    settings = sorted(settings, key=lambda setting: [natural(v) for v in setting.values.values()])
    short = {key: rounded([each.values[key] for each in settings]) for key in titles}
    return [
        replace(each, rounded={key: short[key][each.values[key]] for key in titles})
        for each in settings
    ]


def typed(key: str, keys: Collection[str]) -> str:
    """A key as it is typed: `optimizer`, not `optimizer.name`."""
    short = key.removesuffix(NAME)
    return key if short in keys else short


def rounded(texts: Sequence[str]) -> dict[str, str]:
    """Short spellings by the texts of a setting: as few digits as tell its values apart.

    Whole numbers and what is no number stay as they are.
    """
    long = [text for text in texts if "." in text and number(text) is not None]
    for digits in range(DIGITS, 17):
        short = {text: f"{float(text):.{digits}g}" for text in long}
        if len({*short.values()}) == len(short):
            return {text: min(text, short.get(text, text), key=len) for text in texts}
    return {text: text for text in texts}


def natural(text: str) -> tuple[Any, ...]:
    """A key that sorts 16 before 128, and numbers before words."""
    value = number(text)
    if value is not None:
        return (0, value, "")
    parts = re.split(r"(\d+)", text)
    return (1, 0.0, tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts))


def number(text: str) -> float | None:
    """The value of a setting as a finite number, or None if it is not one.

    `64_32` is none: it is a name, though Python reads a number.
    """
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def swept_numbers(settings: Sequence[Setting]) -> list[str]:
    """The differing keys whose values are all numbers."""
    return [
        key
        for key in settings[0].values
        if key not in (DATA, CODE)
        and all(number(setting.values[key]) is not None for setting in settings)
    ]
