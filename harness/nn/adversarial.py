"""Adversarial training: each input is moved to where its loss is highest nearby, then learnt.

To first order, the point of the ball |x' - x| <= r where an example's loss is highest is

    x' = x + r g / |g|        g = d loss / d x = delta_1 W_1^T

(Goodfellow et al., 2015, with the Euclidean norm, as Miyato et al., 2016, compare it.) Nothing
about images goes into it: any permutation of the pixels gives the same.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def move(inputs: Array, gradient: Array, radius: float) -> None:
    """Add `radius` times the direction of `gradient` to `inputs`, both (B, D); changes both.

    An example whose gradient is zero stays where it is.
    """
    largest = np.maximum(gradient.max(axis=1), -gradient.min(axis=1))
    np.divide(gradient, largest[:, None], out=gradient, where=largest[:, None] > 0)
    norms = np.sqrt(np.einsum("bi,bi->b", gradient, gradient))  # of tiny numbers it would be lost
    factors = np.divide(radius, norms, out=np.zeros_like(norms), where=norms > 0)
    np.multiply(gradient, factors[:, None], out=gradient)
    np.add(inputs, gradient, out=inputs)
