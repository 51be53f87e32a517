"""`harness import-csv`: a CSV file becomes a data set, and says what was understood."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness.data import idx
from harness.data.sources import FILES
from harness.runfolder.status import ExitStatus
from tests.conftest import Command, wait_for


def write_csv(path: Path, count: int = 50) -> np.ndarray:
    """Write and return lines of a label 0 to 2 and 9 pixels."""
    rows = np.random.default_rng(4).integers(0, 256, (count, 10))
    rows[:, 0] = np.arange(count) % 3
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return rows


def test_the_command_writes_idx_files(command: Command, tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "train.csv")
    done = command("harness", "import-csv", "train.csv", "my data/idx")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "train.csv: 50 rows of 3x3 pixels, no header; the label is in cell 1 of 10; --label-column "
        "names another",
        "my data/idx: 40 training and 10 test images of 3x3 in 3 classes",
        "images per class: 0 17, 1 17, 2 16",
        "train:  python -m harness.run dataset=idx 'dataset.dir=\"my data/idx\"' dataset.label=idx",
    ]
    folder = tmp_path / "my data/idx"
    images = np.concatenate([idx.read(folder / FILES[i]) for i in (0, 2)])
    assert sorted(map(bytes, images)) == sorted(map(bytes, rows[:, 1:].astype(np.uint8)))
    options = ["dataset=idx", 'dataset.dir="my data/idx"', "dataset.num_val=5", "epochs=1"]
    done = command("harness.run", *options, "batch=5", "tracking=none")
    assert done.returncode == 0, done.stderr


def test_the_printed_command_trains_a_regression(command: Command, tmp_path: Path) -> None:
    rows = np.random.default_rng(4).integers(0, 9, (50, 3))
    lines = [f"{a / 2},{b},{a - b}\n" for a, b, _ in rows]
    (tmp_path / "houses.csv").write_text("rooms,age,price\n" + "".join(lines))
    done = command("harness", "import-csv", "houses.csv", "houses", "--target", "price", "--floats")
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()[-1].partition("python -m ")[2]
    done = command(*shlex.split(printed), "epochs=1", "batch=8", "tracking=none")
    assert done.returncode == 0, done.stderr
    assert "test loss" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["none.csv", "idx"], "none.csv: No such file or directory; expected a text file"),
        (["own.csv", "own.csv"], "own.csv: is a file; name a folder to write to"),
        (["own.csv", "own.csv/idx"], "own.csv: is a file; name a folder"),
        (["own.csv", "idx", "--test", "nan"], "--test nan: expected a fraction between 0 and 1"),
        (["own.csv", "idx", "--test", "-1"], "--test -1.0: expected a fraction between 0 and 1"),
        (["own.csv", "idx", "--label-column", "12"], "--label-column 12: expected first, last"),
    ],
)
def test_bad_arguments_are_one_line(
    command: Command, tmp_path: Path, arguments: list[str], problem: str
) -> None:
    write_csv(tmp_path / "own.csv")
    done = command("harness", "import-csv", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: ")
    assert problem in done.stderr
    assert os.listdir(tmp_path) == ["own.csv"]  # noqa: PTH208


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_pipe_that_says_nothing_can_be_interrupted(tmp_path: Path, number: int) -> None:
    os.mkfifo(tmp_path / "pipe")
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "import-csv", "pipe", "idx"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    # Opening succeeds once the command has opened its end.
    write = os.open(tmp_path / "pipe", os.O_WRONLY)
    assert wait_for(lambda: process.poll() is None, 1)
    time.sleep(0.2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    os.close(write)
    assert process.returncode == ExitStatus.INTERRUPTED
    assert "Traceback" not in errors
    assert not (tmp_path / "idx").exists()
