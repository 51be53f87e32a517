"""One training step: forward, loss gradient, backward, optimizer, norm limit and averaging."""

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
    """A kernel that takes all steps of a block of examples."""

    def __call__(self, inputs: Array, targets: Array, outputs: Array, lrs: Sequence[float]) -> None:
        """Take a step for each of `lrs`, as `Step` does for one batch."""


class Parts(NamedTuple):
    """The parts that a training step uses.

    limit, average: the classes to apply after the optimizer, if the options enable them.
    takes_pixels: whether the network takes inputs as they are in the data. workers: the threads
    that share all matrix products, each with single-threaded BLAS; None for one thread, or if BLAS
    uses several. augmentation: deforms the examples before the step. steps: takes all steps of a
    block of examples; None if these parts have no such kernel.
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

    batch: the largest number of examples B of a step. generator: for the layers' random numbers,
    such as dropout masks. average: the running average that each step updates, or None.
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
        """Train on `inputs` (B, D) with `targets` (B, K).

        outputs: (B, K), overwritten with the network's outputs. number: of the step, counted from
        0 over the whole training. lr: the learning rate of this step. Adversarial training changes
        `inputs` in place.
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
        """Fill `outputs` (B, K). Returns d(mean loss of the batch)/d outputs, (B, K)."""
        delta = self._delta[: len(inputs)]
        np.copyto(outputs, self._network.forward(inputs, training=True))
        self._loss.gradient(outputs, targets, delta)
        return delta
