"""Import Numba, the slowest part of starting a training that uses it."""

import gc
import importlib.util
import os
import sys
from typing import Any


def obstacle() -> str | None:
    """Why Numba cannot be used, in words; None if nothing is known to prevent it. Fast."""
    if importlib.util.find_spec("numba") is None:
        return (
            "Numba is not installed; `python -m pip install -c constraints.txt -e '.[fast]'` "
            "installs it"
        )
    if os.environ.get("NUMBA_DISABLE_JIT", "0").strip() not in ("", "0"):
        return "NUMBA_DISABLE_JIT is set, so Numba compiles nothing; unset it"
    return None


def load() -> None:
    """Import Numba and compile a trivial function, which loads the compiler; once per process.

    Numba imports SciPy, where it is installed, for linear algebra that the kernels do not use.
    Hiding SciPy meanwhile saves a third of the time. Raises `ValueError` when Numba cannot be
    used.
    """
    if reason := obstacle():
        raise ValueError(f"backend=numba: {reason}; or use backend=numpy")
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
    except Exception as error:  # such as an ImportError: it refuses this NumPy
        raise ValueError(
            f"backend=numba: Numba cannot be loaded ({type(error).__name__}: {error}); repair it "
            "or use backend=numpy"
        ) from error
    finally:
        gc.enable()
        if is_hidden:
            del sys.modules["scipy"]
