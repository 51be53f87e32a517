"""A trained network and its weights files: of sizes or of parts, and what does not fit."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.atomic import write_bytes
from harness.job import scratch, trained
from harness.runfolder import checkpoint
from harness.runfolder.run import WEIGHTS
from tests.conftest import RUN, Command, command_in, only_folder, small, write_idx_folder

OWN = """
import numpy as np

class Scale:
    def __init__(self, *, clip: float = 2.0):
        self.clip = clip
    def fit(self, inputs, rows=None):
        chosen = inputs if rows is None else inputs[rows]
        self.mean = chosen.mean(axis=0).astype(np.float32)
    @property
    def state(self):
        return {"mean": self.mean}
    def restore(self, state):
        self.mean = state["mean"]
    def apply(self, inputs, out):
        np.clip((inputs - self.mean) / 64, -self.clip, self.clip, out=out)
"""
SHARED = Path("/dev/shm")  # another file system
CASES = {
    "plain": (),
    "parts": ("model=conv", "model.channels=[4]", "model.pool=1", "activation=gelu"),
    "own": ("normalization=own_scale:Scale", "normalization.clip=1.5"),
}


@pytest.fixture(scope="module", params=CASES)
def weights(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """The working directory and the run folder of a small training."""
    cwd = tmp_path_factory.mktemp(request.param)
    (cwd / "own_scale.py").write_text(OWN)
    folder = write_idx_folder(cwd / "idx")
    settings = small(folder, "epochs=2", "tracking=none", *CASES[request.param])
    done = command_in(cwd)(RUN, *settings)
    assert done.returncode == 0, done.stderr
    return cwd, only_folder(cwd)


def restored(folder: Path) -> Any:
    arrays, description = checkpoint.load(folder / WEIGHTS)
    return trained.restore(arrays, description, own=True)


def test_it_predicts_what_the_training_did(
    weights: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.runfolder.run import Run
    from harness.training.evaluation import evaluate

    cwd, folder = weights
    monkeypatch.chdir(cwd)
    network, normalization, loss = restored(folder)
    _, probabilities = evaluate(network, Run(folder).dataset().test, normalization, loss)
    with np.load(folder / "predictions/test.npz") as saved:
        np.testing.assert_allclose(probabilities, saved["probabilities"], atol=1e-6)


def test_arrays_that_do_not_fit_are_named(
    weights: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cwd, folder = weights
    monkeypatch.chdir(cwd)
    arrays, description = checkpoint.load(folder / WEIGHTS)
    for wrong in (arrays["layer1.bias"][:-1], arrays["layer1.bias"].astype(np.float64)):
        with pytest.raises(ValueError, match=r"layer1\.bias: expected \(\d+,\) of float32, found"):
            trained.restore(arrays | {"layer1.bias": wrong}, description, own=True)
    nan = np.full_like(arrays["layer1.bias"], np.nan)
    with pytest.raises(ValueError, match=r"layer1\.bias: expected finite numbers"):
        trained.restore(arrays | {"layer1.bias": nan}, description, own=True)


def test_own_modules_are_imported_only_where_that_is_asked_for(
    weights: tuple[Path, Path],
) -> None:
    arrays, description = checkpoint.load(weights[1] / WEIGHTS)
    names = [node["name"] for node in description.get("parts", {}).values()]
    if not any(":" in name for name in names):
        trained.restore(arrays, description)
        return
    with pytest.raises(ValueError, match="modules of the user's are not imported here"):
        trained.restore(arrays, description)


@pytest.mark.parametrize(
    ("more", "is_one"), [("weights=last", True), ("objective=val/loss:max", False)]
)
def test_equal_weights_are_one_file(
    command: Command, tmp_path: Path, idx_folder: Path, more: str, is_one: bool
) -> None:
    done = command(RUN, *small(idx_folder, "epochs=3", "tracking=none", more))
    assert done.returncode == 0, done.stderr
    weights = only_folder(tmp_path) / "weights"
    best, last = (weights / f"{name}.safetensors" for name in ("best", "last"))
    assert sorted(weights.iterdir()) == [best, last]
    assert best.samefile(last) == (best.read_bytes() == last.read_bytes()) == is_one
    assert checkpoint.load(best)[1]["epoch"] == (3 if is_one else 1)
    assert checkpoint.load(last)[1]["epoch"] == 3


def test_equal_weights_are_copied_where_there_are_no_hard_links(tmp_path: Path) -> None:
    if not SHARED.is_dir() or SHARED.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip(f"{SHARED} is no file system of its own here")
    path = tmp_path / "second"
    with tempfile.NamedTemporaryFile(dir=SHARED) as first:
        write_bytes(Path(first.name), b"weights")
        scratch._same(Path(first.name), path)
        write_bytes(Path(first.name), b"other")
        assert path.read_bytes() == b"weights"
    assert list(tmp_path.iterdir()) == [path]
