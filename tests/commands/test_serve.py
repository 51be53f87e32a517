"""`harness serve`: which networks it offers, and its errors.

The page and the API are tested in tests/recognizer.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.nn import metrics
from harness.runfolder.run import Run
from tests.conftest import command_in, run_folders
from tests.recognizer.test_server import ask, encoded_png, port, post, served  # noqa: F401

# ruff: noqa: F811


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_runs_of_a_tracking_store_can_be_selected(outputs: Path, tmp_path: Path) -> None:
    done = command_in(tmp_path)("harness.run", "epochs=1", "width=16")
    assert done.returncode == 0, done.stderr
    (folder,) = run_folders(tmp_path / "outputs")
    uri = f"sqlite:///{tmp_path}/outputs/mlflow.db"
    with served("--outputs", str(outputs), "--uri", uri) as number:
        models = json.loads(ask(number, "GET", "/api/models")[2])["models"]
        assert len(models) == 2
        error = Run(folder).history().final[metrics.BEST_VAL_ERROR]
        name = f"epochs=1,width=16, validation error {error:.2%}"
        assert models[1] == {"id": folder.name, "name": name}
        status, answer = post(number, encoded_png(), "image/png", f"?model={folder.name}")
        assert (status, answer["model"]) == (200, folder.name)
    again = command_in(tmp_path)(
        "harness", "predict", "--uri", uri, "--run", "last", str(tmp_path / "none.png")
    )
    assert "'last'" in again.stderr
    (tmp_path / "digit.png").write_bytes(encoded_png())
    again = command_in(tmp_path)(
        "harness", "predict", "--uri", uri, "--run", folder.name[:6], "digit.png"
    )
    assert (again.returncode, again.stderr) == (0, "")
    assert f"run {folder.name}" in again.stdout


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:///none.db"])
@pytest.mark.parametrize("words", [("serve",), ("predict", "--run", "abc", "x.png")])
def test_a_missing_store_is_one_line(
    outputs: Path, tmp_path: Path, uri: str, words: tuple[str, ...]
) -> None:
    more = ("--outputs", str(outputs), "--uri", uri)
    done = command_in(tmp_path)("harness", *words, *more, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: ")
    assert uri.removeprefix("sqlite:///") in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_one_line(port: int, outputs: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "serve", "--outputs", outputs, "--port", str(port)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert f"--port {port}: already in use" in done.stderr
