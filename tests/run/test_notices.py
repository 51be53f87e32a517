"""What a command says before it trains."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.data import dataset, idx
from harness.data.sources import FILES
from harness.run import notices
from tests.conftest import Command, bash, small


@pytest.fixture(autouse=True)
def nothing_said_before() -> None:
    notices.say.cache_clear()


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
    words = " ".join(own)
    together = bash(tmp_path, f"'{sys.executable}' -m harness.run {words} 2>&1 | cat").stdout
    assert together.index("gray values are only") < together.index("epoch 1/1"), "before it trains"
    assert "gray values" not in command("harness.run", *own, "normalization=standard").stderr


def test_doubtful_data_is_told_recorded_and_noted_in_the_report(
    command: Command, tmp_path: Path
) -> None:
    """A run trains on it nevertheless."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 2
    own = {"x_train": x, "y_train": y, "x_test": x[:30], "y_test": y[:30]}
    np.savez(tmp_path / "own.npz", **own, classes=np.array(["a", "b", "zebra"]))
    words = ["dataset=arrays", "dataset.file=own.npz", "epochs=1", "width=4", "tracking=none",
             "backend=numpy"]  # fmt: skip
    done = command("harness.run", "-m", *words, "seed=1,2")
    assert done.returncode == 0
    lines = [
        "30 of 30 test examples are also training examples",
        "1 of 3 classes have no training examples: zebra",
    ]
    for line in lines:
        assert done.stderr.count(f"dataset=arrays: {line}\n") == 1
    (report,) = (tmp_path / "outputs" / "reports").glob("*/report.json")
    assert [f"data set arrays: {line}" for line in lines] == json.loads(report.read_text())["notes"]
