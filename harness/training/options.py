"""How to train: the options of the training loop."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from harness.data.augmentation import Augmentation
from harness.nn import metrics
from harness.nn.schedules import Schedule, constant


@dataclass(frozen=True)
class Options:
    """The options of the training loop.

    batch: examples per step. lr: base learning rate, multiplied by `schedule`, a function of the
    time in epochs. epochs: passes over the training examples. seed: of the order of examples,
    dropout and augmentation. dropout, input_dropout: share of hidden units and of inputs that are
    zeroed, in [0, 1). max_norm: largest Euclidean norm of a hidden unit's incoming weights, None
    for no limit. label_smoothing: share of each target spread evenly over the classes, in [0, 1).
    adversarial: Euclidean norm of the perturbation that raises the loss of each example before it
    is trained on, in normalized units; 0 for none. ema: decay per step of the running average of
    the weights that is evaluated instead of the weights; 0 for no average. objective: the metric
    that chooses the best epoch. maximize: higher values of it are better. patience: stop after this
    many epochs without a better one, None to train all epochs. augmentation: deforms the training
    images, None for none. backend: "numpy", or "numba" for the compiled epoch of `nn/compiled`,
    which supports what `nn/compiled/supports.py` lists.
    """

    batch: int
    lr: float
    epochs: int
    seed: int = 1
    schedule: Schedule = constant(0)
    dropout: float = 0.0
    input_dropout: float = 0.0
    max_norm: float | None = None
    label_smoothing: float = 0.0
    adversarial: float = 0.0
    ema: float = 0.0
    objective: str = metrics.VAL_ERROR
    maximize: bool = False
    patience: int | None = None
    augmentation: Augmentation | None = None
    backend: str = "numpy"

    def changed(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name; those without one are included."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value != defaults[name]}
