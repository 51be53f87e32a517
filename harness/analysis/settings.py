"""From runs to settings: what differs between runs, and which runs differ in their seed only."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.nn import metrics

Curve = NDArray[np.float64]
SEED = "seed"
# Where a run was made and how it was watched: never a column.
CIRCUMSTANCES = ("outputs", "threads", "dataset.dir", "tracking.", "checkpoint.")
DATA = "data"
ONE_SETTING = "the one setting"


@dataclass(frozen=True)
class Trial:
    """One finished run, as plain values.

    settings: every parameter as text. curves: metric -> (epochs,) float64, one value per epoch from
    1 on. final: the metrics known once. data: digest of the data set. judged: what names the
    validation images. test_count: how many test images there are, 0 when unknown.
    """

    run: str
    name: str
    settings: Mapping[str, str]
    curves: Mapping[str, Curve]
    final: Mapping[str, float]
    data: str = ""
    judged: str = ""
    test_count: int = 0

    @property
    def seed(self) -> str:
        """The seed as text; empty when the run has none."""
        return self.settings.get(SEED, "")

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the lowest validation error, the earliest of equals."""
        curve = self.curves.get(metrics.VAL_ERROR)
        if curve is None or not np.isfinite(curve).any():
            return None
        return int(np.nanargmin(curve)) + 1

    @property
    def best_val(self) -> float:
        """The validation error of the best epoch; NaN without validation."""
        epoch = self.best_epoch
        return math.nan if epoch is None else float(self.curves[metrics.VAL_ERROR][epoch - 1])

    @property
    def last_val(self) -> float:
        """The validation error of the last epoch; NaN without validation."""
        curve = self.curves.get(metrics.VAL_ERROR)
        return math.nan if curve is None or not len(curve) else float(curve[-1])

    @property
    def test_error(self) -> float:
        """The test error of the weights chosen on validation; NaN when it was not recorded."""
        return self.final.get(metrics.TEST_ERROR, math.nan)

    @property
    def seconds(self) -> float:
        """Training time; NaN when it was not recorded."""
        curve = self.curves.get(metrics.EPOCH_S)
        return math.nan if curve is None or not len(curve) else float(np.nansum(curve))


@dataclass(frozen=True)
class Summary:
    """Some numbers over seeds. deviation: with n - 1, NaN for one; best is the lowest."""

    n: int
    mean: float
    deviation: float
    best: float
    worst: float


def summarize(values: Sequence[float]) -> Summary:
    """Count, mean, standard deviation, lowest and highest of the values that are not NaN."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Summary(0, math.nan, math.nan, math.nan, math.nan)
    deviation = float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
    return Summary(len(known), float(np.mean(known)), deviation, min(known), max(known))


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed only. values: the keys that tell it from other settings."""

    values: Mapping[str, str]
    trials: tuple[Trial, ...]

    @property
    def label(self) -> str:
        """`batch=16 lr=0.1`."""
        return " ".join(f"{key}={value}" for key, value in self.values.items()) or ONE_SETTING

    @property
    def chosen(self) -> Trial:
        """The run one would take: lowest validation error, else the first seed; never by test."""
        return min(self.trials, key=lambda t: math.inf if math.isnan(t.best_val) else t.best_val)

    def over(self, value: Callable[[Trial], float]) -> Summary:
        """One quantity of its runs, summarised."""
        return summarize([value(trial) for trial in self.trials])

    @property
    def best_val(self) -> Summary:
        """Validation error at each run's best epoch."""
        return self.over(lambda trial: trial.best_val)

    @property
    def last_val(self) -> Summary:
        """Validation error at each run's last epoch."""
        return self.over(lambda trial: trial.last_val)

    @property
    def test(self) -> Summary:
        """Test error of the weights chosen on validation."""
        return self.over(lambda trial: trial.test_error)

    @property
    def seconds(self) -> Summary:
        """Training time."""
        return self.over(lambda trial: trial.seconds)

    @property
    def epoch(self) -> Summary:
        """The best epoch."""
        return self.over(lambda trial: float(trial.best_epoch or math.nan))


def differing(trials: Sequence[Trial]) -> list[str]:
    """The keys, other than the seed and the circumstances, in which the trials differ."""
    keys = list(dict.fromkeys(key for trial in trials for key in trial.settings))
    found = [
        key
        for key in keys
        if key != SEED
        and not key.startswith(CIRCUMSTANCES)
        and len({trial.settings.get(key) for trial in trials}) > 1
    ]
    if len({trial.data for trial in trials}) > 1:
        found.append(DATA)
    return found


def group(trials: Sequence[Trial], notes: list[str]) -> list[Setting]:
    """The settings, sorted by their values.

    trials: oldest first. A seed that a setting has twice counts once, as its newest run: the same
    seed again is no new evidence; `notes` is told.
    """
    keys = differing(trials)
    groups: dict[tuple[str, ...], dict[str, Trial]] = {}
    doubled = 0
    for trial in trials:
        values = tuple(
            trial.data[:8] if key == DATA else trial.settings.get(key, "-") for key in keys
        )
        seeds = groups.setdefault(values, {})
        seed = trial.seed or trial.run  # runs without a seed are all different
        doubled += seed in seeds
        seeds[seed] = trial
    if doubled:
        notes.append(
            f"{doubled} run(s) repeat a seed of the same setting and were left out: of each seed "
            "only the newest run counts"
        )
    settings = [
        Setting(
            dict(zip(keys, values, strict=True)),
            tuple(sorted(seeds.values(), key=lambda trial: natural(trial.seed))),
        )
        for values, seeds in groups.items()
    ]
    return sorted(settings, key=lambda setting: [natural(v) for v in setting.values.values()])


def natural(text: str) -> tuple[Any, ...]:
    """A key that sorts 16 before 128, and numbers before words."""
    value = number(text)
    if value is not None:
        return (0, value, "")
    parts = re.split(r"(\d+)", text)
    return (1, 0.0, tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts))


def number(text: str) -> float | None:
    """The number that a setting's text is, or None; infinities and NaN are no settings."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def swept_numbers(settings: Sequence[Setting]) -> list[str]:
    """The differing keys with at least two values, all of them numbers."""
    return [
        key
        for key in settings[0].values
        if all(number(setting.values[key]) is not None for setting in settings)
    ]
