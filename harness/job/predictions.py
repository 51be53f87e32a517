"""Check a training function's predictions of the test set, and compare them with its metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.data.dataset import Dataset
from harness.nn.loss_checks import check_probabilities
from harness.nn.metrics import METRICS, OF_REGRESSION

TIED = 1e-6  # closer probabilities can change order in another precision
DETERMINED = ("error", "accuracy", *METRICS)  # the test metrics that predictions determine


@dataclass(frozen=True)
class Predictions:
    """Predictions of the test set, in its order.

    labels: (N,). values: the probabilities (N, C). For a regression, both are (N, K): targets and
    predictions. class_names: C names; empty for a regression, or if C is not the data set's number
    of classes.
    """

    labels: NDArray[Any]
    values: NDArray[np.float32]
    is_regression: bool
    class_names: tuple[str, ...]

    @classmethod
    def checked(cls, labels: ArrayLike, values: ArrayLike, dataset: Dataset) -> "Predictions":
        """Check predictions of a data set's test part. Raises `ValueError` if they are invalid."""
        truth, predicted = np.asarray(labels), np.asarray(values, np.float32)
        if predicted.ndim != 2 or len(truth) != len(predicted) or not len(truth):
            raise ValueError(
                f"run.predictions: expected (N,) labels and (N, C) probabilities, found shapes "
                f"{truth.shape} and {predicted.shape}"
            )
        if not np.isfinite(predicted).all():
            raise ValueError("run.predictions: the probabilities are not all finite")
        _check_labels(truth, dataset.test.arrays()[1])
        if dataset.classes:
            check_probabilities("run.predictions", predicted)
        names = dataset.class_names
        names = names if len(names) == predicted.shape[1] else ()
        return cls(truth, predicted, not dataset.classes, names)

    def save(self, file: IO[bytes]) -> None:
        """Write the arrays `labels`, `probabilities` and, if the classes have names, `classes`."""
        arrays = {"labels": self.labels, "probabilities": self.values}
        if self.class_names:
            arrays["classes"] = np.array(self.class_names, np.str_)
        np.savez(file, **arrays)  # type: ignore[arg-type]  # none is a bool

    def check_agreement(self, final: Mapping[str, float]) -> None:
        """Raise `ValueError` if the predictions contradict a metric of the test set."""
        for key, value in final.items():
            name = key.removeprefix("test/")
            found = self.measured(name)
            if found is None:
                continue
            least, most, rounding = found
            if least - rounding <= value <= most + rounding:
                continue
            what = f"the predictions give {least:.4g}"
            if name == "error":
                count = len(self.labels)
                what = (
                    "the most probable classes of the predictions are wrong for "
                    f"{round(least * count)} of {count} test examples, an error of {least:.4g}"
                )
            raise ValueError(
                f"{key} is {value:.4g}, and {what}; expected both of the same predictions"
            )

    def measured(self, name: str) -> tuple[float, float, float] | None:
        """A metric of the predictions as (least, most, rounding); ties make least and most differ.

        None if predictions alone do not determine it, such as a loss, or if it is unknown.
        """
        labels, values = self.labels, self.values
        if name not in DETERMINED or self.is_regression != (name in OF_REGRESSION):
            return None
        if self.is_regression:
            value = METRICS[name](values.astype(np.float64), labels)
            return value, value, 1e-4 * value + TIED * float(np.abs(values).max())
        rounding = 0.5 / len(labels)
        if name in METRICS:
            if labels.max() >= values.shape[1]:  # labels without a column
                return None
            own = np.zeros(values.shape)
            own[np.arange(len(labels)), labels.astype(np.intp)] = TIED
            both = [float(METRICS[name](values + sign * own, labels)) for sign in (1, -1)]
            return min(both), max(both), rounding
        least, most = self._errors()
        return (least, most, rounding) if name == "error" else (1 - most, 1 - least, rounding)

    def _errors(self) -> tuple[float, float]:
        """The fraction of wrong most probable classes, with ties broken for and against it."""
        rows, labels = np.arange(len(self.labels)), self.labels.astype(np.intp)
        is_most = self.values >= self.values.max(axis=1, keepdims=True) - TIED
        is_known = labels < self.values.shape[1]
        right = is_known & is_most[rows, np.where(is_known, labels, 0)]
        alone = right & (is_most.sum(axis=1) == 1)
        least, most = (len(labels) - int(each.sum()) for each in (right, alone))
        return least / len(labels), most / len(labels)


def _check_labels(found: NDArray[Any], expected: NDArray[Any]) -> None:
    """Raise `ValueError` unless labels or targets are those of the test set in its order."""
    is_alike = found.shape == expected.shape and found.dtype.kind in "biuf"
    if is_alike and np.allclose(found, expected):
        return
    what = f"shape {found.shape} of {found.dtype}"
    if is_alike:
        row = int(np.argmin(np.isclose(found, expected).reshape(len(found), -1).all(axis=1)))
        what = f"{found[row]} instead of {expected[row]} for example {row}"
    raise ValueError(
        f"run.predictions: expected the labels of the test set in its order, shape "
        f"{expected.shape}, as run.dataset.test.arrays() returns them; found {what}"
    )
