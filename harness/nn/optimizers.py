"""Optimizers: rules that turn the gradients of a batch into a change of the parameters.

An optimizer is made for one set of parameters, whose layout its state shares. `state` is its
complete memory as named arrays, so that a checkpoint can keep it; `step` changes the parameters in
place and allocates nothing.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.nn.network import Gradient, Parameters

Array = NDArray[np.floating[Any]]


class Optimizer(Protocol):
    """What the trainer asks of an optimizer."""

    @property
    def state(self) -> dict[str, Array]:
        """Named arrays that `step` changes; writing into them restores an earlier state."""

    def step(self, gradients: list[Gradient], lr: float) -> None:
        """Change the parameters by one step along `gradients`, one per layer, at learning rate
        `lr`."""


class SGD:
    """Stochastic gradient descent: w -= lr dw."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._change = parameters.zeros_like()

    @property
    def state(self) -> dict[str, Array]:
        """Plain gradient descent remembers nothing."""
        return {}

    def step(self, gradients: list[Gradient], lr: float) -> None:
        """w -= lr dw. The small factor of each gradient is scaled, not the large product."""
        for gradient, change in zip(gradients, self._change.layers, strict=True):
            np.multiply(gradient.deltas, -lr, out=gradient.deltas)
            gradient.write(change)
        np.add(self._parameters.flat, self._change.flat, out=self._parameters.flat)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"sgd": SGD}
