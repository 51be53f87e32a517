"""Dropout: in training, each unit is silenced at random (Srivastava et al., 2014).

The surviving ones are scaled up by 1 / (1 - rate), so that nothing changes on average and
evaluation needs no dropout at all ("inverted" dropout).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def draw_mask(rate: float, generator: np.random.Generator, out: Array) -> None:
    """Fill `out` with 0 at probability `rate` and 1 / (1 - rate) elsewhere."""
    generator.random(out=out, dtype=out.dtype)
    np.greater_equal(out, rate, out=out)
    np.multiply(out, 1 / (1 - rate), out=out)
