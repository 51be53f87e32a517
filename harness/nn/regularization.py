"""Regularization inside the training step: dropout, adversarial inputs, norm limits, averaging.

Dropout zeroes each unit with probability r and scales the others by 1 / (1 - r). The expectation is
unchanged, so evaluation needs no dropout ("inverted" dropout; Srivastava et al., 2014).

Adversarial training replaces each input by the nearby point where its loss is highest. To first
order, in the ball |x' - x| <= r, that is

    x' = x + r g / |g|        g = d loss / d x

(Goodfellow et al., 2015, with the Euclidean norm, as Miyato et al., 2016, compare it.) It assumes
nothing about images: any permutation of the pixels gives the same result.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.nn.parameters import Parameters

Array = NDArray[np.floating[Any]]
LEVELS = 1 << 24  # different values of a random float32


def draw_bits(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.uint32]:
    """32 random bits u for each element; `generator.random` makes the float32 (u >> 8) / 2^24.

    Reading them from the raw words of a PCG64 takes a third of the time of the floats. A PCG64 uses
    the lower half of a word first; after an odd count it keeps the upper half of the last word.
    """
    count = math.prod(shape)
    source = generator.bit_generator
    if count % 2 == 0 and sys.byteorder == "little" and not source.state.get("has_uint32", 1):
        return source.random_raw(count // 2).view(np.uint32).reshape(shape)
    numbers = generator.random(shape, dtype=np.float32)
    return (numbers * np.float32(LEVELS)).astype(np.uint32) << np.uint32(8)


def threshold(rate: float) -> int:
    """The least u with (u >> 8) / 2^24 >= rate, for a rate in [0, 1): such a unit is kept."""
    return min(math.ceil(float(np.float32(rate)) * LEVELS), LEVELS - 1) << 8


def draw_mask(rate: float, generator: np.random.Generator, out: Array) -> None:
    """Fill `out`, of any shape, with 0 with probability `rate` and 1 / (1 - rate) elsewhere."""
    np.greater_equal(draw_bits(out.shape, generator), threshold(rate), out=out)
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
    ExponentialMovingAverage does, so the influence of the initial weights fades quickly.
    """

    def __init__(self, parameters: Parameters, decay: float) -> None:
        self.decay = decay
        self.flat = parameters.flat.copy()
        self._change = np.empty_like(self.flat)

    def update(self, parameters: Parameters, step: int) -> None:
        """Add the parameters after a step to the average. step: from 0, over the whole training."""
        decay = min(self.decay, (1 + step) / (10 + step))
        np.subtract(parameters.flat, self.flat, out=self._change)
        np.multiply(self._change, 1 - decay, out=self._change)
        np.add(self.flat, self._change, out=self.flat)
