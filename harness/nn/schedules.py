"""Learning-rate schedules: functions from the time in training to a factor of the base rate.

Time is a real number of epochs, step / steps per epoch, so a schedule does not depend on the batch
size. An optional linear warm-up multiplies any of them.

    constant  1
    step      gamma^floor(t / every)
    cosine    (1 + cos(pi t / T)) / 2                             (Loshchilov and Hutter, 2017)
    onecycle  linearly from 1/start to 1, then a cosine from 1 to 1/end      (Smith and Topin, 2018)
"""

import math
from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge, Gt, Lt

__all__ = ["SCHEDULES", "constant", "cosine", "onecycle", "step", "with_warmup"]

Schedule = Callable[[float], float]


def constant(epochs: int) -> Schedule:
    """1 at all times."""
    return lambda time: 1.0


def step(
    epochs: int,
    *,
    every: Annotated[float, Gt(0), "epochs between two drops of the learning rate"] = 10,
    gamma: Annotated[float, Gt(0), "factor of the learning rate at each drop"] = 0.3,
) -> Schedule:
    """1, multiplied by `gamma` after every `every` epochs."""
    return lambda time: gamma ** math.floor(time / every)


def cosine(epochs: int) -> Schedule:
    """Half a cosine from 1 to 0."""
    return lambda time: (1 + math.cos(math.pi * min(time / epochs, 1))) / 2


def onecycle(
    epochs: int,
    *,
    rise: Annotated[float, Gt(0), Lt(1), "share of the time spent rising"] = 0.2,
    start: Annotated[float, Ge(1), "the first learning rate is lr / start"] = 10,
    end: Annotated[float, Ge(1), "the last learning rate is lr / end"] = 1000,
) -> Schedule:
    """Up from 1/start to 1 during the fraction `rise` of the time, then down to 1/end."""

    def factor(time: float) -> float:
        part = min(time / epochs, 1)
        if part < rise:
            return 1 / start + (1 - 1 / start) * part / rise
        fall = (1 + math.cos(math.pi * (part - rise) / (1 - rise))) / 2
        return 1 / end + (1 - 1 / end) * fall

    return factor


def with_warmup(schedule: Schedule, warmup: float) -> Schedule:
    """`schedule`, multiplied by a line from 0 to 1 during the first `warmup` epochs."""
    return lambda time: schedule(time) * (min(time / warmup, 1) if warmup else 1)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "step": step,
    "cosine": cosine,
    "onecycle": onecycle,
}
