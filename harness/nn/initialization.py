"""Initial weights: the half-width of a uniform distribution, by a unit's inputs and outputs."""

import math
from collections.abc import Callable


def glorot(inputs: int, outputs: int) -> float:
    """Half-width of the uniform distribution of Glorot and Bengio (2010): variance 2/(in + out)."""
    return math.sqrt(6 / (inputs + outputs))


def he(inputs: int, outputs: int) -> float:
    """Half-width of the uniform distribution of He et al. (2015): variance 2/in, for rectifiers."""
    return math.sqrt(6 / inputs)


INITIALIZATIONS: dict[str, Callable[[int, int], float]] = {"glorot": glorot, "he": he}
