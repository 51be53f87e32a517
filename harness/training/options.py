"""How to train: everything the loop can be told."""

from dataclasses import dataclass

from harness.data.augmentation import Augmentation
from harness.nn.schedules import Schedule, constant


@dataclass(frozen=True)
class Options:
    """How to train.

    lr: base learning rate, multiplied by `schedule` (a function of the time in epochs). dropout and
    input_dropout: rates in [0, 1). max_norm: largest norm of a hidden unit's incoming weights.
    label_smoothing: the share of the target spread evenly over the classes. adversarial: how far
    each input is moved uphill before it is learnt, a Euclidean norm. ema: decay per step of the
    running average of the weights that is evaluated instead of the weights. patience: stop after so
    many epochs without a better validation error. backend: "numpy", or "numba" for the
    compiled epoch of `nn/ink.py`, which knows one hidden layer, plain SGD and label smoothing only.
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
    patience: int | None = None
    augmentation: Augmentation | None = None
    backend: str = "numpy"
