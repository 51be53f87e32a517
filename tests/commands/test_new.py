"""A project of one's own: every command of its README runs as it is.

Covers: harness/commands/project/mine/parts.py, harness/commands/project/mine/train.py
"""

import re
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from harness.commands import new
from harness.commands.project.mine.parts import Swish, top3_error
from tests.conftest import ROOT, Command, bash, histories

FAST = " tracking=none dataset.num_train=2000 dataset.num_val=500"


@pytest.mark.service
def test_the_commands_of_its_readme(command: Command, tmp_path: Path) -> None:
    done = command("harness", "new", "project")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "project: README.md, conf, mine"
    folder = tmp_path / "project"
    text = (folder / "README.md").read_text()
    (block,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for line in block.splitlines() if "harness.run" in line]
    assert len(lines) == 4
    for line in lines:
        assert bash(folder, line + FAST).returncode == 0, line
    runs = histories(folder)
    assert [run.status for run in runs] == ["FINISHED"] * 11
    assert runs[0].params["optimizer.name"] == "mine.parts:Lion"
    assert runs[0].params["activation"] == "mine.parts:Swish"
    assert {"train/top3_error", "val/top3_error"} <= set(runs[0].epochs[0]["metrics"])
    assert "test/top3_error" in runs[0].final
    assert "code/mine/parts.py" in runs[0].artifacts


def test_an_existing_folder_is_not_overwritten(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert command("harness", "new", "empty").returncode == 0
    for name in ("empty", "empty/README.md"):
        done = command("harness", "new", name)
        assert done.returncode == 2
        assert "expected a new or an empty folder" in done.stderr


def test_the_files_of_a_read_only_installation_can_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder = tmp_path / "installed", tmp_path / "project"
    shutil.copytree(new.PROJECT, source, ignore=shutil.ignore_patterns("__pycache__"))
    names = {path.relative_to(source) for path in source.rglob("*")}
    (source / "mine/__pycache__").mkdir()
    (source / "mine/__pycache__/parts.pyc").touch()
    every = [source, *source.rglob("*")]
    for path in every:
        path.chmod(path.stat().st_mode & 0o555)
    monkeypatch.setattr(new, "PROJECT", source)
    done = CliRunner().invoke(new.new, [str(folder)])
    for path in every:
        path.chmod(0o755)
    assert (done.exit_code, done.output.splitlines()[0]) == (0, f"{folder}: README.md, conf, mine")
    assert {path.relative_to(folder) for path in folder.rglob("*")} == names
    assert all(path.stat().st_mode & stat.S_IWUSR for path in [folder, *folder.rglob("*")])


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_the_derivative_of_swish(beta: float) -> None:
    swish = Swish(beta=beta)
    z = np.linspace(-8, 8, 33)
    a, up, down, slope = (np.empty_like(z) for _ in range(4))
    swish.forward(z, a)
    swish.derivative(z, a, slope)
    swish.forward(z + 1e-6, up)
    swish.forward(z - 1e-6, down)
    np.testing.assert_allclose(slope, (up - down) / 2e-6, rtol=1e-7, atol=1e-9)


def test_top3_error() -> None:
    probabilities = np.array([[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]], np.float32)
    assert top3_error(probabilities, np.array([3, 2])) == 0.5


def test_its_sources_are_in_the_package() -> None:
    assert (ROOT / "harness/commands/project/conf/sweep/mine.yaml").is_file()
