"""Loading Numba: without SciPy, which can be imported afterwards."""

import subprocess
import sys

SCRIPT = """
import sys
from harness.nn.compiled import numba_loading
numba_loading.load()
loaded = sorted(name for name in sys.modules if name.split(".")[0] == "scipy")
assert "numba" in sys.modules
assert not loaded, loaded
import numpy
import scipy.ndimage
assert scipy.ndimage.shift(numpy.eye(2), 0, order=0).tolist() == [[1, 0], [0, 1]]
"""


def test_numba_is_loaded_without_scipy() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
