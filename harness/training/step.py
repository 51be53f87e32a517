"""One training step in NumPy: forward, loss gradient, backward, optimizer, and what follows it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.data.augmentation import Augmentation
from harness.nn.loss_checks import check
from harness.nn.losses import Loss
from harness.nn.network import Network
from harness.nn.optimizers import Optimizer
from harness.nn.regularization import Average, NormLimit, move_uphill
from harness.training.options import Options
from harness.training.pace import Workers

Array = NDArray[np.float32]


class Steps(Protocol):
    """Takes the steps of a block."""

    def __call__(self, inputs: Array, targets: Array, outputs: Array, lrs: Sequence[float]) -> None:
        """Take a step for each of `lrs`, as `Step` does for one batch."""


class Parts(NamedTuple):
    """What a training step calls.

    limit, average: the classes of what follows a step, if the options ask for it. takes_pixels:
    whether the network takes inputs as they are in the data. workers: the threads that share all of
    its products, each of which calls BLAS with one; None for one thread, or where BLAS has several.
    augmentation: deforms the examples before. steps: takes all steps of a block of examples, if
    there is one for these parts.
    """

    network: Network
    optimizer: Optimizer
    loss: Loss
    limit: type[NormLimit] = NormLimit
    average: type[Average] = Average
    takes_pixels: bool = False
    workers: Workers | None = None
    augmentation: Augmentation | None = None
    steps: Steps | None = None


class Step:
    """Trains a network on one batch at a time; its buffers are allocated once.

    batch: the largest number of examples B of a step. generator: of the layers' random numbers, as
    the masks of dropout. average: the running average that each step updates, or None.
    """

    def __init__(
        self,
        parts: Parts,
        options: Options,
        *,
        batch: int,
        generator: np.random.Generator,
        average: Average | None,
    ) -> None:
        network, self._options = parts.network, options
        self._network, self._optimizer, self._loss = network, parts.optimizer, parts.loss
        self._batch, self._generator, self._average = batch, generator, average
        self._delta = np.empty((batch, network.outputs), np.float32)
        check(parts.loss, network.outputs)
        self._limit = (
            None
            if options.max_norm is None
            else parts.limit(network.hidden_weights, options.max_norm)
        )

    def __call__(
        self, inputs: Array, targets: Array, outputs: Array, number: int, lr: float
    ) -> None:
        """Train on `inputs` (B, D) with `targets` (B, K); the network's outputs go into `outputs`.

        outputs: (B, K), overwritten. number: of the step, counted from 0 over the whole training.
        lr: the learning rate of this step. Adversarial training moves `inputs` in place.
        """
        network = self._network
        network.draw(self._batch, self._generator)
        if self._options.adversarial:
            uphill = network.input_gradient(self._forward(inputs, targets, outputs))
            move_uphill(inputs, uphill, self._options.adversarial)
        gradient = network.backward(self._forward(inputs, targets, outputs))
        self._optimizer.step(gradient, lr)
        if self._limit is not None:
            self._limit()
        if self._average is not None:
            self._average.update(network.parameters, number)

    def _forward(self, inputs: Array, targets: Array, outputs: Array) -> Array:
        """Fill `outputs` (B, K). Returns the gradient of the batch's mean loss to them, (B, K)."""
        delta = self._delta[: len(inputs)]
        np.copyto(outputs, self._network.forward(inputs, training=True))
        self._loss.gradient(outputs, targets, delta)
        return delta
