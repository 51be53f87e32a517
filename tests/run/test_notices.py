"""What a command says before it trains."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.data import dataset, idx
from harness.data.sources import FILES
from harness.run import notices
from harness.runfolder import config as configuration
from harness.runfolder import keys
from harness.runfolder.folder import all_runs
from tests.conftest import DATASET, Command, composed, new_run, record_training, small


@pytest.fixture(autouse=True)
def nothing_said_before() -> None:
    notices.say.cache_clear()


def trained(outputs: Path, key: str, *overrides: str) -> None:
    """A finished run of these settings with this key."""
    record_training(new_run(outputs, *overrides, run_key=key), 0.5)


def test_jobs_that_only_another_source_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, seed in (("old", 1), ("old2", 2), ("new3", 3)):
        trained(tmp_path, key, f"seed={seed}")
    trained(tmp_path, "old", "seed=4", "lr=0.1")
    reproduction = new_run(tmp_path, "seed=6", run_key="reproduction of x", reproduces="x")
    record_training(reproduction, 0.5)
    new_run(tmp_path, "seed=5", run_key="old5")  # not finished
    data = str(DATASET["sha256"])
    new = [(composed(f"seed={seed}"), data, f"new{seed}") for seed in range(1, 7)]
    notices.retraining(all_runs(tmp_path), [])
    notices.retraining(all_runs(tmp_path), [(config, "other data", key) for config, _, key in new])
    assert capsys.readouterr().err == ""
    notices.retraining(all_runs(tmp_path), new)
    told = capsys.readouterr().err
    assert told.startswith("2 of 6 new jobs were trained before by other source (commit not known")
    assert told.count("\n") == 1


def test_a_run_of_an_older_version_has_no_known_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its settings lack a key that was added since: it is not the same job."""
    run = record_training(new_run(tmp_path, run_key="old"), 0.5)
    params = dict(run.history().params)
    assert params.pop("ema") == 0
    config = replace(composed(), outputs=str(tmp_path))
    now = configuration.leaves(config)
    assert keys.subject(params, "d") != keys.subject(now, "d") == keys.subject(now, "d")
    notices.retraining(all_runs(tmp_path), [(config, "another digest", "new")])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("normalization", "top", "expected"),
    [("minmax", 16, True), ("unit", 127, True), ("minmax", 128, False), ("standard", 16, False)],
)
def test_a_narrow_range_is_told_once(
    idx_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    normalization: str,
    top: int,
    expected: bool,
) -> None:
    pixels = np.resize(np.arange(top + 1, dtype=np.uint8), (300, 6, 5))
    for name in FILES:
        array = idx.read(idx_folder / name)
        idx.write(tmp_path / name, pixels[: len(array)] if "images" in name else array)
    cache = tmp_path / "cache"
    data = dataset.load("idx", folder=str(tmp_path), cache=cache, num_val=40)
    notices.narrow_grays(normalization, data)
    notices.narrow_grays(normalization, data)
    line = (
        f"dataset idx: gray values are only 0 to {top} of 0 to 255, and normalization="
        f"{normalization} maps 0 to 255; normalization=standard adapts to them\n"
    )
    assert capsys.readouterr().err == (line if expected else "")


def test_a_run_on_a_narrow_range_says_so(
    command: Command, idx_folder: Path, tmp_path: Path
) -> None:
    for name in FILES:
        array = idx.read(idx_folder / name)
        idx.write(tmp_path / "own" / name, array // 16 if "images" in name else array)
    own = small(Path("own"), "epochs=1", "tracking=none", "backend=numpy")
    done = command("harness.run", *own)
    assert done.returncode == 0
    assert done.stderr.count("gray values are only 0 to 14 of 0 to 255") == 1
    assert "gray values" not in command("harness.run", *own, "normalization=standard").stderr
