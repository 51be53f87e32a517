"""Loading Numba: without SciPy, which can be imported afterwards."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from harness.job import build
from harness.nn.compiled import numba_loading
from tests.conftest import ROOT, composed, python_path

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


def test_a_broken_numba_is_one_line_each_time(tmp_path: Path) -> None:
    """As one that refuses the installed NumPy. A job server loads it before any job needs it."""
    (tmp_path / "numba.py").write_text(
        "def njit(function):\n    raise ImportError('other NumPy')\n"
    )
    code = (
        "from harness.job import parent\n"
        "from harness.nn.compiled import numba_loading\n"
        "parent.preload()\n"
        "try:\n    numba_loading.load()\nexcept ValueError as error:\n    print(error)"
    )
    path = python_path(tmp_path)["PYTHONPATH"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([path, str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == (
        "backend=numba: Numba cannot be loaded (ImportError: other NumPy); reinstall Numba; or use "
        "backend=numpy\n"
    )


@pytest.mark.parametrize("versions", [{"numpy": "99.1"}, {"llvmlite": None}])
def test_a_numba_that_does_not_fit_the_other_packages_is_not_chosen(
    versions: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = metadata.version

    def other(package: str) -> str:
        found = versions.get(package, version(package))
        if found is None:
            raise metadata.PackageNotFoundError
        return found

    monkeypatch.setattr(metadata, "version", other)
    numba_loading._unmet.cache_clear()
    config = replace(composed(), backend="auto")
    (package,) = versions
    assert build.backend(config) == "numpy"
    assert f"Numba requires {package}" in str(numba_loading.obstacle())
    monkeypatch.undo()
    numba_loading._unmet.cache_clear()
    assert numba_loading.obstacle() is None


def test_compiling_is_told_once_and_loading_from_the_cache_is_not(tmp_path: Path) -> None:
    code = """
from harness.nn.compiled import numba_loading
numba_loading.load()
numba_loading.when_compiling(lambda: print("compiling"))
import numba
import numpy as np
numba.njit(lambda values: 1)(np.zeros(1))  # the user's own
from harness.nn.compiled import dense
from harness.nn import activations
from harness.training import compiled
compiled._compile(compiled.mlp((16,), 2, width=(2, 2)), compiled.SGD(
    compiled.Network(compiled.mlp((16,), 2), 16).parameters), None, np.dtype(np.float32))
"""
    environ = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    told = [
        subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True,
                       check=True).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert told == ["compiling\n", ""]
