"""Every command and every example of docs/own-data.md works as it is printed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.runfolder.folder import all_runs
from tests.conftest import ROOT, Command

PAGE = (ROOT / "docs/own-data.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The files of a user that the page names."""
    generator = np.random.default_rng(1)
    for name, shape in (("pictures", (40, 30)), ("photos", (48, 40, 3))):
        for label, kind in enumerate(("A", "B b", "Ü")):
            (tmp_path / name / kind).mkdir(parents=True)
            for number in range(10):
                pixels = np.full(shape, 250, np.uint8)
                top, left = generator.integers(4, 10, 2)
                pixels[top : top + 20, left : left + 3 + 5 * label] = 10 * number
                Image.fromarray(pixels).save(tmp_path / name / kind / f"{number}.png")
    rows = generator.integers(0, 256, (60, 17))
    rows[:, 0] = np.arange(60) % 3
    np.savetxt(tmp_path / "train.csv", rows, "%d", delimiter=",")
    rows = np.roll(rows % 17, -1, axis=1)
    rows[:, -1] = np.arange(60) % 3
    np.savetxt(tmp_path / "gray16.csv", rows, "%d", delimiter=",")
    table = "\n".join(f"{n / 7},{n % 5},{100 * n + 0.5}" for n in range(50))
    (tmp_path / "houses.csv").write_text(f"size,rooms,price\n{table}\n")
    (tmp_path / "iris.csv").write_text((ROOT / "tests/iris.csv").read_text())
    return tmp_path


@pytest.mark.service
def test_every_command_and_example(files: Path, command: Command) -> None:
    python, shell = blocks("python"), blocks("sh")
    assert (len(python), len(shell)) == (2, 3)
    code = "\n".join(python)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=files, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"test error \d+\.\d\d%\n", done.stdout)
    lines = [line for block in shell for line in block.splitlines()]
    for line in lines:
        words = shlex.split(line, comments=True)
        assert words[:2] == ["python", "-m"]
        short = ["epochs=1", "batch=8", "tracking=none"] if words[2] == "harness.run" else []
        done = command(*words[2:], *short)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert len(lines) >= 9
    records = [run.create["dataset"] for run in all_runs(files / "outputs")]
    found = {record["name"]: record for record in records}
    assert {name: data["class_names"] for name, data in found.items()} == {
        "letters": ["A", "B b", "Ü"],
        "iris": ["setosa", "versicolor", "virginica"],
        "houses": [],
        "spirals": ["one", "other"],
    }
    assert [found[name]["val"] for name in ("letters", "iris", "spirals")] == [4, 18, 120]
    assert found["iris"]["dtype"] == "float32"
