"""Decide from the metrics of each epoch whether to stop training and which weights to keep.

The built-in trainer and custom training functions use the same rules.
"""

import math
from collections.abc import Mapping
from typing import get_args

from harness.nn import metrics
from harness.training.options import Ties, Weights

__all__ = ["Diverged"]

LOSSES = {
    metrics.TRAIN_LOSS: "training", metrics.VAL_LOSS: "validation", metrics.TEST_LOSS: "test",
}  # fmt: skip


class Diverged(ArithmeticError):
    """A metric became NaN or infinite; the message names the epoch and the likely cause.

    epoch, values: the epoch's number and metrics.
    """

    def __init__(self, message: str, epoch: int, values: Mapping[str, float]) -> None:
        super().__init__(message)
        self.epoch, self.values = epoch, values


class Monitor:
    """Finds the epoch whose weights are kept: the best one by the objective, or the last one.

    objective: the metric. maximize: whether higher values are better. patience: epochs without
    improvement after which training is stale; None or 0 for never. is_validated: whether there are
    validation examples; without them the default objective has no values, and the last epoch is the
    best. weights: "best", or "last" for the last epoch, whatever its value. ties: which of several
    epochs with the best value is the best one. An epoch that only equals the best value is no
    improvement: patience counts from the earliest.

    best_epoch, best_value: the epoch whose weights are kept so far, and its value; 0 before the
    first epoch, and NaN if no epoch had a value. improved_epoch, improved_value: the earliest epoch
    with the best value, and that value; they differ from the other two only in ties and for "last".
    is_required: whether every epoch must have the objective.

    Raises `ValueError` for other `weights`.
    """

    def __init__(
        self,
        objective: str,
        *,
        maximize: bool,
        patience: int | None,
        is_validated: bool,
        weights: Weights = "best",
        ties: Ties = "latest",
    ) -> None:
        if weights not in get_args(Weights):
            raise ValueError(f"weights={weights}: expected {' or '.join(get_args(Weights))}")
        self.objective = objective
        self.is_required = is_validated or maximize or objective != metrics.VAL_ERROR
        self._maximize, self._patience = maximize, patience
        self._weights, self._ties = weights, ties
        self.best_epoch, self.best_value = 0, math.nan
        self.improved_epoch, self.improved_value = 0, math.nan

    def add(self, epoch: int, values: Mapping[str, float]) -> bool:
        """Add the metrics of an epoch. Returns whether to keep its weights so far.

        Raises `ValueError` when the objective is required and missing.
        """
        if self.is_required and self.objective not in values:
            known = ", ".join(key for key in values if not key.startswith("time/"))
            raise ValueError(
                f"objective={self.objective}: not recorded in epoch {epoch}, only {known}"
            )
        value = values.get(self.objective, math.nan)
        is_better = metrics.is_better(value, self.improved_value, maximize=self._maximize)
        is_equal = value == self.improved_value and self._ties == "latest"
        if is_better or (math.isnan(value) and math.isnan(self.improved_value)):
            self.improved_epoch, self.improved_value = epoch, value
        elif self._weights == "best" and not is_equal:
            return False
        self.best_epoch, self.best_value = epoch, value
        return True

    def is_stale(self, epoch: int) -> bool:
        """Whether the objective has not improved for `patience` epochs."""
        return 0 < (self._patience or 0) <= epoch - self.improved_epoch

    def best(self) -> dict[str, float]:
        """The final metrics: `best/epoch` and its objective; empty if it has no value."""
        if math.isnan(self.best_value):
            return {}
        return {
            metrics.BEST_EPOCH: float(self.best_epoch),
            metrics.best_key(self.objective): self.best_value,
        }


def check_finite(epoch: int, values: Mapping[str, float], lr: float | None = None) -> None:
    """Raise `Diverged` for the first value that is NaN or infinite, losses first.

    lr: the learning rate, which the message names as the likely cause of a loss. If all losses are
    finite, the message blames the metric itself.
    """
    for key in sorted(values, key=lambda key: key not in LOSSES):
        value = values[key]
        if math.isfinite(value):
            continue
        if lr is None:
            raise Diverged(f"{key} is {value} in epoch {epoch}", epoch, values)
        if key not in LOSSES:
            raise Diverged(
                f"metric {key} is {value} in epoch {epoch}: expected a finite number", epoch, values
            )
        raise Diverged(
            f"the {LOSSES[key]} loss is {value} in epoch {epoch}: the learning rate lr={lr:g} is "
            f"probably too high; try lr={lr / 10:g}",
            epoch,
            values,
        )
