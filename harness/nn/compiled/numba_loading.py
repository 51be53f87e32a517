"""Loading Numba, which takes longer than anything else at the start of a training that uses it."""

import gc
import sys
from typing import Any


def load() -> None:
    """Load Numba and its machinery, once; in two thirds of the time without what is never used.

    Where SciPy is installed, Numba imports it for functions of linear algebra.
    """
    if "numba" in sys.modules:
        return
    is_hidden = "scipy" not in sys.modules
    if is_hidden:
        sys.modules["scipy"] = None  # type: ignore[assignment]  # Python's mark for "cannot import"
    gc.disable()
    try:
        import numba
        import numpy as np

        compiled: Any = numba.njit(lambda values: 0)
        compiled(np.zeros(1))
    finally:
        gc.enable()
        if is_hidden:
            del sys.modules["scipy"]
