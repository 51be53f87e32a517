"""Regularization inside the training step: dropout, adversarial inputs, norm limits, averaging.

Dropout zeroes each unit with probability r and scales the others by 1 / (1 - r), so that the
expectation is unchanged and evaluation needs no dropout ("inverted" dropout; Srivastava et al.,
2014).

Adversarial training replaces each input by the nearby point where its loss is highest. To first
order, in the ball |x' - x| <= r, that is

    x' = x + r g / |g|        g = d loss / d x

(Goodfellow et al., 2015, with the Euclidean norm, as Miyato et al., 2016, compare it.) It assumes
nothing about images: any permutation of the pixels gives the same.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.nn.parameters import Parameters

Array = NDArray[np.floating[Any]]
LEVELS = 1 << 16


def draw_bits(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.uint16]:
    """16 random bits for each element of an array of this shape."""
    count = math.prod(shape)
    words: NDArray[np.uint64] = generator.bit_generator.random_raw(-(-count // 4))
    return words.view(np.uint16)[:count].reshape(shape)


def threshold(rate: float) -> tuple[int, float]:
    """The number of 16 bits below which a unit is zeroed, and the factor of the others.

    The probability is the multiple of 2^-16 nearest to `rate`, which is in [0, 1).
    """
    count = min(max(round(rate * LEVELS), 1 if rate else 0), LEVELS - 1)
    return count, LEVELS / (LEVELS - count)


def draw_mask(rate: float, generator: np.random.Generator, out: Array) -> None:
    """Fill `out`, of any shape, with 0 at probability `rate` and 1 / (1 - rate) elsewhere."""
    limit, factor = threshold(rate)
    np.greater_equal(draw_bits(out.shape, generator), limit, out=out)
    np.multiply(out, factor, out=out)


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


class NormLimit:
    """Scales the incoming weights of each unit down to a Euclidean norm of `max_norm`.

    (Srivastava et al., 2014, section 5.1.) weights: arrays (..., units), changed in place.
    """

    def __init__(self, weights: Sequence[Array], max_norm: float) -> None:
        self._max_norm = max_norm
        matrices = [array.reshape(-1, array.shape[-1]) for array in weights]
        self._pairs = [(matrix, np.empty_like(matrix[0])) for matrix in matrices]

    def __call__(self) -> None:
        """Apply the limit."""
        for matrix, norms in self._pairs:
            np.einsum("ih,ih->h", matrix, matrix, out=norms)
            if norms.max() <= self._max_norm * self._max_norm:
                continue
            np.sqrt(norms, out=norms)
            np.divide(self._max_norm, np.maximum(norms, self._max_norm), out=norms)
            np.multiply(matrix, norms, out=matrix)


class Average:
    """The exponential moving average of parameters, in `flat` (P,).

    It is evaluated instead of the weights and does not affect training. decay: in (0, 1), the
    limit of the decay per step. Step t uses min(decay, (1 + t) / (10 + t)), as TensorFlow's
    ExponentialMovingAverage does, so that the initial weights are soon forgotten.
    """

    def __init__(self, parameters: Parameters, decay: float) -> None:
        self.decay = decay
        self.flat = parameters.flat.copy()
        self._change = np.empty_like(self.flat)

    def update(self, parameters: Parameters, step: int) -> None:
        """Average in the parameters after a step. step: from 0, over the whole training."""
        decay = min(self.decay, (1 + step) / (10 + step))
        np.subtract(parameters.flat, self.flat, out=self._change)
        np.multiply(self._change, 1 - decay, out=self._change)
        np.add(self.flat, self._change, out=self.flat)
