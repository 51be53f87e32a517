"""Import Numba, the slowest part of starting a training that uses it."""

import gc
import sys
from typing import Any


def load() -> None:
    """Import Numba and compile a trivial function, which loads the compiler; once per process.

    Numba imports SciPy, where it is installed, for linear algebra that the kernels do not use.
    Hiding SciPy meanwhile saves a third of the time.
    """
    if "numba" in sys.modules:
        return
    is_hidden = "scipy" not in sys.modules
    if is_hidden:
        sys.modules["scipy"] = None  # type: ignore[assignment]  # makes the import fail
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
