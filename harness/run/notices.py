"""What a command says about its jobs before it trains them, one line each on standard error."""

import sys
from functools import cache

from harness.data.dataset import Dataset
from harness.data.normalization import narrow_range

FIXED_RANGE = ("minmax", "unit")  # normalizations of the range of uint8, not of the values


@cache
def say(line: str) -> None:
    """Print a line, once in a command."""
    print(line, file=sys.stderr)


def narrow_grays(normalization: str, data: Dataset) -> None:
    """Say that a normalization leaves bytes near one end of its range, if it does."""
    if normalization not in FIXED_RANGE:
        return
    grays = narrow_range(data.train.inputs, data.train.rows)
    if grays is not None:
        values = "gray values" if data.is_image else "values"
        say(
            f"dataset {data.name}: {values} are only {grays[0]} to {grays[1]} of 0 to 255, and "
            f"normalization={normalization} maps 0 to 255; normalization=standard adapts to them"
        )
