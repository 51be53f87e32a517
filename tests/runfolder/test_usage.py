"""Room on disk: by kind and by run, each file once, whatever vanishes meanwhile."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.data.atomic import write_text
from harness.runfolder import delivered
from harness.runfolder.run import Run
from harness.runfolder.usage import ARTIFACTS, KINDS, OTHER, Meter, measure
from tests.conftest import new_run, record_training

KB = 1024


def fill(path: Path, size: int) -> Path:
    """A file of random bytes, which no file system leaves out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))
    return path


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Two runs, one with checkpoints and weights that the store shares; other files beside."""
    made = [record_training(new_run(tmp_path), 0.5) for _ in range(2)]
    folder = made[0].folder
    fill(folder / "checkpoints/epoch-000001/state.safetensors", 300 * KB)
    weights = fill(folder / "weights/best.safetensors", 200 * KB)
    fill(folder / "predictions/test.npz", 100 * KB)
    stored = tmp_path / "artifacts/mnist/abc/artifacts"
    fill(stored / "config.yaml", 50 * KB)
    (stored / "best.safetensors").hardlink_to(weights)
    write_text(folder / delivered.FILE_NAME, '{"mlflow_id": "abc"}')
    fill(tmp_path / "artifacts/mnist/def/artifacts/theirs", 60 * KB)
    fill(tmp_path / "mlflow.db", 70 * KB)
    fill(tmp_path / "cache/x/train.npy", 80 * KB)
    fill(tmp_path / "removed/runs/zzz/weights", 90 * KB)
    fill(tmp_path / "reports/index.html", 40 * KB)
    fill(tmp_path / "runs/.half/state", 30 * KB)
    return made


def test_every_kind_and_the_sum_is_that_of_du(tmp_path: Path, runs: list[Run]) -> None:
    usage = measure(tmp_path, runs, everything=True)
    folders = 64 * KB  # at most, of the blocks of the folders and small files themselves
    for kind, size in {
        "checkpoints": 300, "weights": 200, "predictions": 100, ARTIFACTS: 110,
        "MLflow's database": 70, "cache": 80, "removed": 90, OTHER: 70,
    }.items():  # fmt: skip
        assert size * KB <= usage.kinds[kind] <= size * KB + folders, kind
    assert list(usage.kinds) == [kind for kind in KINDS if kind in usage.kinds]
    assert usage.unreadable == ()
    if shutil.which("du") and os.name != "nt":
        done = subprocess.run(["du", "-sk", tmp_path], capture_output=True, text=True, check=True)
        assert abs(sum(usage.kinds.values()) - int(done.stdout.split()[0]) * KB) < KB


def test_what_selected_runs_take(tmp_path: Path, runs: list[Run]) -> None:
    """Their files in the store count, and nothing else of it."""
    usage = measure(tmp_path, runs[:1], everything=False)
    assert list(usage.runs) == [runs[0].id]
    assert usage.kinds == usage.runs[runs[0].id]
    assert 50 * KB <= usage.kinds[ARTIFACTS] < 110 * KB
    assert "cache" not in usage.kinds
    (only,) = measure(tmp_path, runs[1:], everything=False).runs.values()
    assert ARTIFACTS not in only
    assert "weights" not in only


def test_what_vanishes_takes_no_room(tmp_path: Path) -> None:
    """A file and a folder vanish between being listed and being looked at."""
    for name in ("a", "b", "c/d", "e/f"):
        fill(tmp_path / name, 8 * KB)
    meter = Meter()
    sizes = meter.sizes(tmp_path)
    seen = [next(sizes), next(sizes)]
    (tmp_path / "a").unlink()
    (tmp_path / "b").unlink()
    shutil.rmtree(tmp_path / "e")
    seen += sizes
    left = {name: size for name, size in seen if size >= 8 * KB}
    assert left == {"c": 8 * KB}
    assert meter.unreadable == []
    assert meter.size(tmp_path / "gone") == 0


def test_runs_that_vanish_take_no_room(tmp_path: Path, runs: list[Run]) -> None:
    shutil.rmtree(runs[0].folder)
    usage = measure(tmp_path, runs, everything=True)
    assert usage.runs[runs[0].id] == {}
    assert usage.unreadable == ()


@pytest.mark.skipif(os.name == "nt", reason="POSIX links")
def test_a_link_is_not_followed(tmp_path: Path) -> None:
    fill(tmp_path / "large", 500 * KB)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/link").symlink_to(tmp_path / "large")
    assert Meter().size(tmp_path / "run") < 100 * KB
