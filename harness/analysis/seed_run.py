"""One finished run of a setting, as plain values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.analysis import statistics
from harness.nn import metrics
from harness.runfolder.objective import DEFAULT, Objective

Curve = NDArray[np.float64]
SEED, WEIGHTS = "seed", "weights"


@dataclass(frozen=True)
class SeedRun:
    """A run with its seed.

    settings: the settings that determine the result, as text. curves: metric -> (epochs,) float64,
    one value per epoch from 1 on. final: the metrics with one value per run. data: digest of the
    data set. code: digest of the user's modules, empty without. validation: identifies the
    validation examples. test_count: number of test examples, 0 if unknown. objective: the metric
    that it is judged by. steps: metric -> (epochs,) int64, the steps of the values of its curve
    where they are not the epochs from 1 on. costs: what its setting is also compared by, as typed
    -> value. is_raced: whether seeds of its setting were added by results, with `until=decided`.
    """

    run: str
    name: str
    settings: Mapping[str, str]
    curves: Mapping[str, Curve]
    final: Mapping[str, float]
    data: str = ""
    code: str = ""
    validation: str = ""
    test_count: int = 0
    objective: Objective = DEFAULT
    steps: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    is_raced: bool = False

    @property
    def seed(self) -> str:
        """The seed as text; empty if the run has none."""
        return self.settings.get(SEED, "")

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights count, as it was recorded.

        Else that with the best value of the objective, the latest of equals. None if no epoch is
        judged.
        """
        if not self.objective.by_epoch:
            return None
        curve = self.curves.get(self.objective.metric)
        if curve is None or not np.isfinite(curve).any():
            return None
        if 1 <= self.final.get(metrics.BEST_EPOCH, 0) <= len(curve):
            return int(self.final[metrics.BEST_EPOCH])
        find = np.nanargmax if self.objective.is_max else np.nanargmin
        return len(curve) - int(find(curve[::-1]))

    @property
    def judges_last(self) -> bool:
        """Whether the weights of the last epoch count, not those of the best."""
        return self.settings.get(WEIGHTS) == "last"

    @property
    def best_val(self) -> float:
        """The objective at that epoch; NaN if it was not recorded, as without validation."""
        if not self.objective.by_epoch:
            return self.final.get(self.objective.metric, math.nan)
        epoch = self.best_epoch
        return math.nan if epoch is None else float(self.curves[self.objective.metric][epoch - 1])

    @property
    def last_val(self) -> float:
        """The objective at the last epoch; NaN if it was not recorded, as without validation."""
        if not self.objective.by_epoch:
            return self.best_val
        curve = self.curves.get(self.objective.metric)
        return math.nan if curve is None or not len(curve) else float(curve[-1])

    @property
    def test(self) -> float:
        """The test metric of the objective's name, of that epoch; NaN if not recorded."""
        return self.final.get(self.objective.test_key, math.nan)

    @property
    def test_interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the test error or accuracy.

        NaN for any other metric, and if the number of examples is unknown.
        """
        counts = self.objective.tested.counts_examples
        if not counts or not self.test_count or math.isnan(self.test):
            return math.nan, math.nan
        return statistics.wilson(round(self.test * self.test_count), self.test_count)

    @property
    def seconds(self) -> float:
        """Training time; NaN if it was not recorded."""
        curve = self.curves.get(metrics.EPOCH_S)
        return math.nan if curve is None or not len(curve) else float(np.nansum(curve))
