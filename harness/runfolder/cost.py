"""The costs of a setting besides its objective: parameters, time, memory, or another metric.

`objective=[val/error,parameters]` compares the settings of a sweep by both. A setting is on the
Pareto front unless another one is at least as good in all and better in one. Costs do not change a
run, so they belong to the sweep or to the comparison.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.data.override import suggest
from harness.nn import metrics
from harness.runfolder.objective import MAX, check_direction, directed

PARAMETERS = "model/parameters"  # the metric with the number of a network's parameters
ENERGY = "machine/energy_j"  # only if the machine reports it
SHORT = {"parameters": PARAMETERS}
# What every run of the built-in trainer records besides the metrics of each part of the data.
RECORDED = (
    PARAMETERS, metrics.EPOCH_S, metrics.EXAMPLES_PER_S, "machine/cpu_s", "machine/peak_memory_mb",
    ENERGY,
)  # fmt: skip
TIME = "time/"


@dataclass(frozen=True)
class Cost:
    """A metric; lower values are better unless `is_max`. Its `str` is what a user types.

    metric: its key, or `parameters` for `PARAMETERS`.
    """

    metric: str
    is_max: bool = False

    @classmethod
    def typed(cls, text: str, *, option: str = "") -> "Cost":
        """The cost that a user types after `option`, see `check_direction`.

        Raises `ValueError`, one line.
        """
        check_direction(text, option=option)
        return cls.parse(text, option=option)

    @classmethod
    def parse(cls, text: str, *, option: str = "") -> "Cost":
        """Parse METRIC, METRIC:min or METRIC:max. Raises `ValueError`, one line."""
        metric, is_max = directed(text)
        if not metric or set(metric) & set(" :"):
            raise ValueError(
                f"{option}{text}: expected a metric such as parameters or time/epoch_s (lower is "
                "better), or NAME:max (higher is better)"
            )
        if metric.startswith("test/"):
            raise ValueError(
                f"{option}{text}: the test set is read once, after training, so it cannot choose; "
                f"expected val/{metric.partition('/')[2]}"
            )
        return cls(metric, bool(is_max))

    def __str__(self) -> str:
        return f"{self.metric}{MAX}" if self.is_max else self.metric

    @property
    def key(self) -> str:
        """The key under which it is recorded."""
        return SHORT.get(self.metric, self.metric)

    @property
    def by_epoch(self) -> bool:
        """Whether it is recorded at every epoch, rather than once per run."""
        return self.metric.startswith(("val/", "train/", TIME))

    def of(
        self,
        final: Mapping[str, float],
        curves: Mapping[str, NDArray[np.float64]],
        epoch: int | None,
    ) -> float:
        """The cost of a run; NaN if it was not recorded.

        A metric of every epoch counts at the judged `epoch`, but a time counts as its mean over the
        epochs. final: the metrics with one value per run. curves: metric -> (epochs,).
        """
        if not self.by_epoch:
            return final.get(self.key, math.nan)
        curve = curves.get(self.metric, np.empty(0))
        if self.metric.startswith(TIME) and len(curve):
            return float(np.mean(curve))
        return float(curve[epoch - 1]) if epoch is not None and epoch <= len(curve) else math.nan

    def check(self, known: Collection[str]) -> None:
        """Raise `ValueError`, one line, unless it is one of `known`, the recorded metrics."""
        if self.key not in known:
            names = ["parameters" if each == PARAMETERS else each for each in known]
            raise ValueError(
                f"{self}: expected one of {', '.join(names)}{suggest(self.metric, names)}"
            )

    def order(self, value: float) -> float:
        """A key that sorts the best value first, and NaN last."""
        if value != value:
            return float("inf")
        return -value if self.is_max else value


def front(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """Whether each point is on the Pareto front: no other is as low in all and lower in one.

    A point with an infinite coordinate, which stands for an unknown value, is never on it.
    """
    return [
        math.inf not in point
        and not any(
            other != point and all(a <= b for a, b in zip(other, point, strict=True))
            for other in points
        )
        for point in points
    ]


def spelled(value: float) -> str:
    """A value as displayed: whole numbers as they are, else four significant digits."""
    return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"
