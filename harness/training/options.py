"""How to train: the options of the training loop."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from numbers import Integral, Real
from typing import Any, Literal

from harness.data.augmentation import Augmentation
from harness.nn import metrics as keys
from harness.nn.losses import CrossEntropy, Loss
from harness.nn.metrics import Metric
from harness.nn.schedules import Schedule, constant

__all__ = ["Options"]

Weights = Literal["best", "last"]
Ties = Literal["latest", "earliest"]


@dataclass(frozen=True)
class Options:
    """The options of the training loop.

    batch: examples per step. lr: base learning rate, multiplied by `schedule`, a function of the
    time in epochs. epochs: passes over the training examples. loss: the loss to minimize; it also
    defines the predictions. metrics: further metrics by name, recorded beside the loss. seed: for
    the order of examples, dropout and augmentation. input_dropout: share of inputs set to zero, in
    [0, 1). max_norm: largest Euclidean norm of a hidden unit's incoming weights; None for no limit.
    label_smoothing: share of each target spread evenly over the classes, in [0, 1). adversarial:
    Euclidean norm, in normalized units, of the perturbation that raises the loss of each example
    before the step; 0 for none. ema: decay per step of a running average of the weights, which is
    evaluated instead of the weights; 0 for no average. objective: the metric that chooses the best
    epoch. maximize: whether higher values of it are better; None means lower, but `train` rejects
    it for a metric whose name says the opposite. weights: which weights to test, those of the best
    or of the last epoch. ties: which of several epochs with the best value is the best epoch;
    "earliest" is the rule of runs up to schema 2. patience: stop after this many epochs without
    improvement; None or 0 to train all epochs. augmentation: deforms the training images; None for
    none. backend: "numpy", or "numba" for the kernels of `nn/compiled`, in every part that has one.
    With "auto", `train` uses "numba" if Numba is installed, and a `Trainer` used directly NumPy.
    threads: of the compiled kernels; the caller sets the threads of BLAS. Raises `ValueError` for
    values that are not allowed.
    """

    batch: int
    lr: float
    epochs: int
    loss: Loss = field(default_factory=CrossEntropy)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    seed: int = 1
    schedule: Schedule = constant(0)
    input_dropout: float = 0.0
    max_norm: float | None = None
    label_smoothing: float = 0.0
    adversarial: float = 0.0
    ema: float = 0.0
    objective: str = keys.VAL_ERROR
    maximize: bool | None = None
    weights: Weights = "best"
    ties: Ties = "latest"
    patience: int | None = None
    augmentation: Augmentation | None = None
    backend: str = "auto"
    threads: int = 1

    def __post_init__(self) -> None:
        """Raise `ValueError` for the first value that is not allowed."""
        for name, least in (("batch", 1), ("epochs", 0), ("seed", 0), ("threads", 1)):
            self._check(name, _is_whole(getattr(self, name), least), f"a whole number from {least}")
        for name in ("input_dropout", "label_smoothing", "ema"):
            value = getattr(self, name)
            self._check(name, _is_finite(value) and 0 <= value < 1, "a number from 0 to below 1")
        self._check("lr", _is_finite(self.lr) and self.lr > 0, "a finite number above 0")
        value = self.adversarial
        self._check("adversarial", _is_finite(value) and value >= 0, "a finite number from 0")
        norm, patience = self.max_norm, self.patience
        self._check(
            "max_norm", norm is None or (_is_finite(norm) and norm > 0), "a number above 0, or None"
        )
        self._check(
            "patience", patience is None or _is_whole(patience, 0), "a whole number from 0, or None"
        )
        known = ("auto", "numpy", "numba")
        self._check("backend", self.backend in known, ", ".join(map(repr, known)))
        is_metric = isinstance(self.objective, str) and "/" in self.objective
        self._check("objective", is_metric, "the key of a metric such as 'val/error'")

    def _check(self, name: str, is_allowed: bool, expected: str) -> None:
        if not is_allowed:
            raise ValueError(f"{name}={getattr(self, name)!r}: expected {expected}")

    def changed(self) -> dict[str, Any]:
        """The options that differ from their defaults or have none, by name."""
        return {
            each.name: value
            for each in dataclasses.fields(self)
            if (value := getattr(self, each.name)) != _default(each)
        }


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _default(option: "dataclasses.Field[Any]") -> Any:
    return option.default if option.default_factory is MISSING else option.default_factory()
