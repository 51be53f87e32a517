"""Loading Numba: without SciPy, which can be imported afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.nn.compiled import numba_loading
from tests.conftest import ROOT, python_path

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


def test_a_numba_that_compiles_nothing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a run that was frozen before the variable was set."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    with pytest.raises(ValueError, match=r"backend=numba: NUMBA_DISABLE_JIT is set.*backend=numpy"):
        numba_loading.load()


def test_a_broken_numba_is_one_line(tmp_path: Path) -> None:
    """As one that refuses the installed NumPy."""
    (tmp_path / "numba.py").write_text("raise ImportError('needs another NumPy')\n")
    code = (
        "from harness.nn.compiled import numba_loading\n"
        "try:\n    numba_loading.load()\nexcept ValueError as error:\n    print(error)"
    )
    path = python_path(tmp_path)["PYTHONPATH"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([path, str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == (
        "backend=numba: Numba cannot be loaded (ImportError: needs another NumPy); repair it or "
        "use backend=numpy\n"
    )
