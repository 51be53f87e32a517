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

def from_file(*, scale: float = 1.0):
    with open("calls.txt", "a") as file:
        print("called", file=file)
    x = np.loadtxt("own.csv", delimiter=",", dtype=np.float32) * np.float32(scale)
    y = np.arange(len(x)) % 2
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y}

def takes_dir(*, dir: str = "x"): return bands()
def takes_name(*, name: str = "x"): return bands()
def not_finite(): return bands() | {"x_test": np.full((60, 3), np.nan, np.float32)}
def misspelled(): return bands() | {"x_vall": np.zeros((4, 3), np.float32)}
def fails(): raise KeyError("no file")
def exits(): raise SystemExit(4)
def returns_list(): return [1, 2]
def objects(): return {"x_train": [{}], "y_train": [1], "x_test": [1], "y_test": [1]}
def incomplete(): return {"x_train": np.zeros((4, 2)), "y_train": np.arange(4) % 2}
"""
SMALL = ("epochs=2", "batch=8", "width=4", "tracking=none", "normalization=standard")


LEAVES = """
import os
from harness.nn.activations import ReLU
from own_data import bands

{at_import}

def data():
    {in_data}
    return bands()

class Act(ReLU):
    def __init__(self):
        {in_part}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "own_data.py").write_text(SOURCE)
    return tmp_path


@pytest.mark.parametrize("place", ["at_import", "in_data", "in_part"])
def test_code_that_leaves_the_working_directory(
    command: Command, project: Path, place: str
) -> None:
    """What a command writes stays where it was typed."""
    (project / "elsewhere").mkdir()
    calls = dict.fromkeys(("at_import", "in_data", "in_part"), "pass")
    calls[place] = f"os.chdir({str(project / 'elsewhere')!r})"
    (project / "leaves.py").write_text(LEAVES.format(**calls))
    done = command(RUN, "dataset=leaves:data", "activation=leaves:Act", *SMALL)
    assert done.returncode == 0, done.stderr
    assert [run.status for run in histories(project)] == ["FINISHED"]
    assert list((project / "elsewhere").iterdir()) == []


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
        (("dataset=own_data:incomplete",), "dataset=own_data:incomplete: expected arrays x_train"),
        (("dataset=own_data:misspelled",), "did you mean 'x_val'?"),
        (("dataset=own_data:not_finite",), "x_test: expected finite numbers, found nan"),
        (("dataset=own_data:takes_dir",), "its keyword 'dir' is a key of every data set"),
        (("dataset=own_data:takes_name",), "'name' cannot be a key, it names the part"),
        (("dataset=own_data:bands", "dataset.dir=x"), "dataset.dir=x: dataset=own_data:bands make"),
        (("dataset=own_data:bands", "dataset.file=x"), "itself and ignores it; leave dataset.file"),
        (("dataset=own_data:bands", "batch=999"), "batch=999: expected 1 to 51"),
    ],
)
def test_what_is_wrong_is_one_line(
    command: Command, project: Path, overrides: tuple[str, ...], expected: str
) -> None:
    done = command(RUN, *SMALL, *overrides)
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (project / "outputs").exists()


def write_csv(project: Path, first: float) -> None:
    rows = [f"{first + each},{each % 2}" for each in range(40)]
    (project / "own.csv").write_text("\n".join(rows) + "\n")


def calls(project: Path) -> int:
    """How often the function was called since the last question."""
    path = project / "calls.txt"
    count = len(path.read_text().splitlines()) if path.is_file() else 0
    path.unlink(missing_ok=True)
    return count


def test_dry_run_writes_nothing(command: Command, project: Path) -> None:
    write_csv(project, 0)
    arguments = ("-m", "dataset=own_data:from_file", "seed=1,2", *SMALL)
    done = command(RUN, *arguments, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "2 job(s): 2 new" in done.stdout
    assert not (project / "outputs").exists()
    assert calls(project) == 1
    assert command(RUN, *arguments).returncode == 0
    assert "2 job(s): 2 done" in command(RUN, *arguments, "--dry-run").stdout


def test_a_command_calls_the_function_once_and_notices_other_content(
    command: Command, project: Path
) -> None:
    arguments = ("-m", "dataset=own_data:from_file", "seed=1,2", *SMALL)
    digests = []
    for first in (0, 5):
        write_csv(project, first)
        done = command(RUN, *arguments)
        assert done.returncode == 0, done.stderr
        assert calls(project) == 1, "by the command, and by none of its jobs"
        digests.append({run.create["dataset"]["sha256"] for run in histories(project)})
    assert len(digests[0]) == 1
    assert len(digests[1]) == 2
    made = list(project.glob("outputs/cache/made/*.npz"))
    assert len(made) == 2
    shutil.rmtree(project / "outputs/cache")
    done = command("harness", "evaluate", "last")
    assert done.returncode == 0, done.stderr
    assert calls(project) == 1
    shutil.rmtree(project / "outputs/cache")
    write_csv(project, 9)
    done = command("harness", "evaluate", "last")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "it cannot be made again: expected dataset=own_data:from_file to return" in done.stderr
