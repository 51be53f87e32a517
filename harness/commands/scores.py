"""The scores of a run on the test set of some data, for classification and regression."""

import math
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis.statistics import mean_interval
from harness.data.dataset import default_names


@dataclass(frozen=True)
class Evaluation:
    """The score of a run on the test set of some data; `images` is its number of examples.

    error and both calibration errors are fractions. interval: the 95 % interval of the error.
    loss: the mean of the run's own loss; loss_unit: nats or none. raw_calibration_error: that of
    the probabilities behind the loss. calibration_error: that of the probabilities calibrated with
    the temperature, as `predict` gives them; uncalibrated: why there are none. confusion: (C, C)
    counts of examples by true class (row) and predicted class (column). class_names: the names of
    the C classes. metrics: the run's additional metrics by name.
    """

    run: str
    dataset: str
    images: int
    error: float
    interval: tuple[float, float]
    loss: float
    calibration_error: float
    confusion: NDArray[np.int64]
    class_names: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    loss_unit: str = "nats"
    raw_calibration_error: float | None = None
    temperature: float = 1.0
    uncalibrated: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON can hold; None for a metric that is not finite."""
        changed = {"confusion": self.confusion.tolist(), "metrics": _finite(self.metrics)}
        return self.__dict__ | changed

    def text(self) -> str:
        """The scores in two or more lines, then the confusion matrix.

        The matrix numbers its classes; the names follow the rows if they fit.
        """
        low, high = self.interval
        lines = [
            f"run {self.run} on {self.dataset}: error {self.error:.2%} "
            f"(95 % interval {low:.2%} to {high:.2%}) of {self.images:,} test examples",
            f"{f'loss {self.loss:.4f} {self.loss_unit}'.strip()}, "
            f"expected calibration error {self._calibration_text()}",
            *(f"{name} {value:.4g}" for name, value in self.metrics.items()),
            "",
            "rows: true class; columns: predicted class",
        ]
        counts = self.confusion
        numbers = default_names(len(counts))
        names = self.class_names if self.class_names != numbers else ()
        width = max(4, len(str(counts.max())) + 1, len(numbers[-1]) + 1)
        lines.append("    " + "".join(f"{number:>{width}}" for number in numbers))
        for number, row, name in zip_longest(numbers, counts, names, fillvalue=""):
            cells = "".join(f"{n or '.':>{width}}" for n in row)
            lines.append(f"{number:>4}{cells}  {name}".rstrip())
        return "\n".join(lines)

    def _calibration_text(self) -> str:
        calibrated, raw = self.calibration_error, self.raw_calibration_error
        if raw is None or self.temperature == 1:
            why = f": {self.uncalibrated}" if self.uncalibrated else ""
            return f"{calibrated:.2%} (not calibrated{why})"
        return (
            f"{raw:.2%}, calibrated {calibrated:.2%} (temperature {self.temperature:.2f}, as "
            "`predict` answers)"
        )


@dataclass(frozen=True)
class Regression:
    """The score of a run that predicts numbers, on the test set of some data.

    loss: the mean of the run's own loss. mean_squared_error, mean_absolute_error: over all examples
    and targets; each has a 95 % interval, None for a single example. r2: the coefficient of
    determination, 1 - sum (t - p)^2 / sum (t - mean t)^2; with several targets, the mean over those
    that vary (scikit-learn's "uniform_average"); None if no target varies. metrics: the run's
    additional metrics by name.
    """

    run: str
    dataset: str
    examples: int
    loss: float
    mean_squared_error: float
    squared_interval: tuple[float, float] | None
    mean_absolute_error: float
    absolute_interval: tuple[float, float] | None
    r2: float | None
    metrics: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, run: str, dataset: str, loss: float, predictions: NDArray[np.float32],
        targets: NDArray[np.float32], metrics: dict[str, float],
    ) -> "Regression":  # fmt: skip
        """The score of predictions (N, K) for targets (N, K)."""
        wanted = targets.astype(np.float64)
        differences = predictions - wanted
        squared, absolute = (differences**2).mean(axis=1), np.abs(differences).mean(axis=1)
        spread = ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
        explained = 1 - (differences**2).sum(axis=0)[spread > 0] / spread[spread > 0]
        return cls(
            run=run,
            dataset=dataset,
            examples=len(wanted),
            loss=loss,
            mean_squared_error=float(squared.mean()),
            squared_interval=mean_interval(squared),
            mean_absolute_error=float(absolute.mean()),
            absolute_interval=mean_interval(absolute),
            r2=float(explained.mean()) if len(explained) else None,
            metrics=metrics,
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON can hold; None for a metric that is not finite."""
        return self.__dict__ | {"metrics": _finite(self.metrics)}

    def text(self) -> str:
        """The scores in two or more lines."""
        mean_squared = _spelled(self.mean_squared_error, self.squared_interval)
        mean_absolute = _spelled(self.mean_absolute_error, self.absolute_interval)
        r2 = "" if self.r2 is None else f", R^2 {self.r2:.3f}"
        further = {"loss": self.loss} | self.metrics
        shown = {"mean_absolute_error"}
        if math.isclose(self.loss, self.mean_squared_error, rel_tol=1e-5):
            shown.add("loss")
        return "\n".join(
            [
                f"run {self.run} on {self.dataset}: mean squared error {mean_squared} of "
                f"{self.examples:,} test examples",
                f"mean absolute error {mean_absolute}{r2}",
                *(f"{name} {value:.4g}" for name, value in further.items() if name not in shown),
            ]
        )


def _finite(metrics: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _spelled(value: float, interval: tuple[float, float] | None) -> str:
    if interval is None:
        return f"{value:.4g}"
    low, high = interval
    return f"{value:.4g} (95 % interval {low:.4g} to {high:.4g})"
