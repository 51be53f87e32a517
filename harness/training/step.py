"""One training step in NumPy: forward, loss gradient, backward, optimizer, and what follows it."""

import numpy as np
from numpy.typing import NDArray

from harness.nn.losses import softmax_cross_entropy_gradient
from harness.nn.network import Gradient, Network
from harness.nn.optimizers import Optimizer
from harness.nn.regularization import Average, draw_mask, limit_norms, move_uphill
from harness.training.options import Options

Array = NDArray[np.float32]


class Step:
    """Trains a network on one batch at a time; its buffers are allocated once.

    batch: the largest number of examples B of a step. generator: draws the dropout masks. average:
    the running average that each step updates, or None.
    """

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        options: Options,
        *,
        batch: int,
        generator: np.random.Generator,
        average: Average | None,
    ) -> None:
        self._network, self._optimizer, self._options = network, optimizer, options
        self._generator, self._average = generator, average
        self._workspace = network.workspace(batch, dropout=options.dropout > 0)
        self._scratch = network.parameters.zeros_like()
        inputs = network.sizes[0]
        self._uphill = np.empty((batch, inputs), np.float32) if options.adversarial else None

    def __call__(
        self, inputs: Array, targets: Array, logits: Array, number: int, lr: float
    ) -> None:
        """Train on `inputs` (B, D) with `targets` (B, C); the network's outputs go into `logits`.

        logits: (B, C), overwritten. number: of the step, counted from 0 over the whole training.
        lr: the learning rate of this step. Adversarial training moves `inputs` in place.
        """
        options, parameters = self._options, self._network.parameters
        for mask in self._workspace.masks:
            draw_mask(options.dropout, self._generator, mask)
        if self._uphill is not None:
            uphill = self._uphill[: len(inputs)]
            self._network.input_gradient(self._gradients(inputs, targets, logits), uphill)
            move_uphill(inputs, uphill, options.adversarial)
        self._optimizer.step(self._gradients(inputs, targets, logits), lr)
        if options.max_norm is not None:
            limit_norms(parameters, options.max_norm, self._scratch)
        if self._average is not None:
            self._average.update(parameters, number)

    def _gradients(self, inputs: Array, targets: Array, logits: Array) -> list[Gradient]:
        """The gradient of the mean loss of a batch, one per layer; fills `logits` (B, C)."""
        workspace = self._workspace
        deltas, row = workspace.output[: len(inputs)], workspace.row[: len(inputs)]
        self._network.forward(inputs, workspace, logits)
        softmax_cross_entropy_gradient(logits, targets, deltas, row)
        return self._network.backward(inputs, deltas, workspace)
