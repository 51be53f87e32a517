"""Regularization inside the training step: dropout, adversarial inputs, norm limits, averaging.

Dropout zeroes each unit with probability r and scales the others by 1 / (1 - r), so that the
expectation is unchanged and evaluation needs no dropout ("inverted" dropout; Srivastava et al.,
2014).

Adversarial training replaces each input by the nearby point where its loss is highest. To first
order, in the ball |x' - x| <= r, that is

    x' = x + r g / |g|        g = d loss / d x = delta_1 W_1^T

(Goodfellow et al., 2015, with the Euclidean norm, as Miyato et al., 2016, compare it.) It assumes
nothing about images: any permutation of the pixels gives the same.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.nn.network import Network, Parameters

Array = NDArray[np.floating[Any]]


def draw_mask(rate: float, generator: np.random.Generator, out: Array) -> None:
    """Fill `out`, of any shape, with 0 at probability `rate` and 1 / (1 - rate) elsewhere."""
    generator.random(out=out, dtype=out.dtype)
    np.greater_equal(out, rate, out=out)
    np.multiply(out, 1 / (1 - rate), out=out)


def move_uphill(inputs: Array, gradient: Array, radius: float) -> None:
    """Add `radius` times the direction of `gradient` to `inputs`, both (B, D); changes both.

    An example whose gradient is zero stays where it is.
    """
    largest = np.maximum(gradient.max(axis=1), -gradient.min(axis=1))
    np.divide(gradient, largest[:, None], out=gradient, where=largest[:, None] > 0)
    # The squares of tiny gradients would underflow without the division above.
    norms = np.sqrt(np.einsum("bi,bi->b", gradient, gradient))
    factors = np.divide(radius, norms, out=np.zeros_like(norms), where=norms > 0)
    np.multiply(gradient, factors[:, None], out=gradient)
    np.add(inputs, gradient, out=inputs)


def limit_norms(parameters: Parameters, max_norm: float, scratch: Parameters) -> None:
    """Scale the incoming weights of each hidden unit down to a Euclidean norm of `max_norm`.

    (Srivastava et al., 2014, section 5.1.) `scratch` has the layout of the parameters.
    """
    for layer, room in zip(parameters.layers[:-1], scratch.layers, strict=False):
        norms = room.bias
        np.einsum("ih,ih->h", layer.weights, layer.weights, out=norms)
        if norms.max() <= max_norm * max_norm:
            continue
        np.sqrt(norms, out=norms)
        np.divide(max_norm, np.maximum(norms, max_norm), out=norms)
        np.multiply(layer.weights, norms, out=layer.weights)


class Average:
    """The exponential moving average of a network's parameters, itself a network.

    It is evaluated instead of the weights and does not affect training. decay: in (0, 1), the
    limit of the decay per step. Step t uses min(decay, (1 + t) / (10 + t)), as TensorFlow's
    ExponentialMovingAverage does, so that the initial weights are soon forgotten.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.decay = decay
        average = Parameters(network.sizes, network.parameters.flat.copy())
        self.network = Network(average, network.activation.name)
        self._change = np.empty_like(average.flat)

    def update(self, parameters: Parameters, step: int) -> None:
        """Average in the parameters after a step. step: from 0, over the whole training."""
        decay = min(self.decay, (1 + step) / (10 + step))
        average = self.network.parameters.flat
        np.subtract(parameters.flat, average, out=self._change)
        np.multiply(self._change, 1 - decay, out=self._change)
        np.add(average, self._change, out=average)
