"""Data sets that a function of the user's makes: made once, verified, made again when lost."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import RUN, Command, histories

SOURCE = """
import numpy as np

def bands(*, noise: float = 0.1, count: int = 60):
    generator = np.random.default_rng(1)
    y = np.arange(count) % 2
    x = (y[:, None] + noise * generator.standard_normal((count, 3))).astype(np.float32)
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y, "classes": ["low", "high"]}

def fails(): raise KeyError("no file")
def exits(): raise SystemExit(4)
def returns_list(): return [1, 2]
def objects(): return {"x_train": [{}], "y_train": [1], "x_test": [1], "y_test": [1]}
def incomplete(): return {"x_train": np.zeros((4, 2)), "y_train": np.arange(4) % 2}
"""
SMALL = ("epochs=2", "batch=8", "width=4", "tracking=none", "normalization=standard")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "own_data.py").write_text(SOURCE)
    return tmp_path


def test_a_sweep_over_an_own_data_set(command: Command, project: Path) -> None:
    arguments = ("-m", "dataset=own_data:bands", "dataset.noise=0.1,0.2", *SMALL)
    done = command(RUN, *arguments)
    assert done.returncode == 0, done.stderr
    runs = histories(project)
    assert [run.params["dataset.noise"] for run in runs] == [0.1, 0.2]
    assert runs[0].create["dataset"]["name"] == "bands"
    assert runs[0].create["dataset"]["class_names"] == ["low", "high"]
    assert runs[0].create["dataset"]["sha256"] != runs[1].create["dataset"]["sha256"]
    assert [each["path"] for each in runs[0].code] == ["own_data.py"]
    shutil.rmtree(project / "outputs/cache")
    scored = command("harness", "evaluate", "last")
    assert scored.returncode == 0, scored.stderr
    assert "on bands: error" in scored.stdout
    again = command(RUN, *arguments)
    assert again.stdout.count("finished before as") == 2
    (project / "own_data.py").write_text(SOURCE.replace("default_rng(1)", "default_rng(2)"))
    shutil.rmtree(project / "outputs/cache")
    changed = command("harness", "evaluate", "last")
    assert changed.returncode == 2
    assert "own_data.py: was changed after the run was frozen" in changed.stderr


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("dataset=own_data:bands", "dataset.nois=1"), "did you mean 'dataset.noise'?"),
        (("dataset=own_data:bands", "dataset.count=x"), "dataset.count=x: expected a whole number"),
        (("dataset=own_data:missing",), "own_data has no missing; it has "),
        (("dataset=own_data:fails",), "dataset=own_data:fails: KeyError: 'no file' ("),
        (("dataset=own_data:exits",), "dataset=own_data:exits: SystemExit: 4"),
        (("dataset=own_data:returns_list",), "expected it to return arrays by name"),
        (("dataset=own_data:objects",), "x_train: expected numbers, found an array of objects"),
        (("dataset=own_data:incomplete",), "x_test"),
    ],
)
def test_what_is_wrong_is_one_line(
    command: Command, project: Path, overrides: tuple[str, ...], expected: str
) -> None:
    done = command(RUN, *SMALL, *overrides)
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(project.glob("outputs/runs/*"))
