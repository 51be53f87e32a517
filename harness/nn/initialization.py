"""Initial weights: the half-width of a uniform distribution from a unit's inputs and outputs."""

import math
from collections.abc import Callable
from typing import Any


def glorot(inputs: int, outputs: int) -> float:
    """Half-width of the uniform distribution of Glorot and Bengio (2010): variance 2/(in + out)."""
    return math.sqrt(6 / (inputs + outputs))


def he(inputs: int, outputs: int) -> float:
    """Half-width of the uniform distribution of He et al. (2015): variance 2/in, for rectifiers."""
    return math.sqrt(6 / inputs)


INITIALIZATIONS: dict[str, Callable[[int, int], float]] = {"glorot": glorot, "he": he}


def check_initialization(place: str, name: Any) -> None:
    """Raise `ValueError` for a name that is not in the table. place: begins the message."""
    if name not in tuple(INITIALIZATIONS):
        known = " or ".join(map(repr, INITIALIZATIONS))
        raise ValueError(f"{place}: initialization={name!r}: expected {known}")
