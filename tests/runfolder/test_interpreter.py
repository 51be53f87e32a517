"""Console scripts: files of the user's in the working directory hide no module of theirs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, histories, python_path, small

SCRIPT = "import sys; sys.path.pop(0); from harness.{} import {}; sys.exit({}())"


def script(cwd: Path, module: str, function: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the function of a console script, for which Python does not search the folder."""
    code = SCRIPT.format(module, function, function)
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=cwd, env=os.environ | python_path(ROOT), capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    "names", ["harness/__init__.py", "types.py numpy.py mlflow.py", "queue.py sqlalchemy.py"]
)
def test_what_is_in_the_working_directory_hides_nothing(
    tmp_path: Path, idx_folder: Path, names: str
) -> None:
    for name in names.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    (tmp_path / "mine.py").write_text("from harness.nn.activations import ReLU as Mine\n")
    words = small(idx_folder, "epochs=1", "activation=mine:Mine")
    done = script(tmp_path, "run.__main__", "main", *words)
    assert done.returncode == 0, done.stderr
    assert [run.status for run in histories(tmp_path)] == ["FINISHED"]
    done = script(tmp_path, "__main__", "console_script", "evaluate", "last")
    assert done.returncode == 0, done.stderr
