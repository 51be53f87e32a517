"""A running average of the weights: evaluated in their place, it takes no part in the training."""

import numpy as np

from harness.nn.network import Network, Parameters


class Average:
    """The exponential moving average of a network's parameters, itself a network.

    decay: its limit, in (0, 1). Early on it is smaller, min(decay, (1 + t) / (10 + t)) at step t,
    as in TensorFlow's ExponentialMovingAverage: what counts is the training, not its start.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.decay = decay
        average = Parameters(network.sizes, network.parameters.flat.copy())
        self.network = Network(average, network.activation.name)
        self._change = np.empty_like(average.flat)

    def update(self, now: Parameters, step: int) -> None:
        """Take the parameters after a step in. step: counted from 0 over the whole training."""
        decay = min(self.decay, (1 + step) / (10 + step))
        average = self.network.parameters.flat
        np.subtract(now.flat, average, out=self._change)
        np.multiply(self._change, 1 - decay, out=self._change)
        np.add(average, self._change, out=average)
