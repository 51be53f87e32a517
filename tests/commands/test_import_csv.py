"""`harness import-csv`: Kaggle's CSV files become a data set; a bad line is named."""

from pathlib import Path

import numpy as np
import pytest

from harness.commands.import_csv import LINES, read_csv
from harness.data import idx
from harness.data.sources import FILES
from tests.conftest import Command


def write_csv(path: Path, rows: np.ndarray, header: str = "") -> None:
    lines = [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join([header, *lines] if header else lines) + "\n")


def labeled(count: int) -> np.ndarray:
    """Lines of a label 0 to 2 and 9 pixels."""
    rows = np.random.default_rng(4).integers(0, 256, (count, 10))
    rows[:, 0] = np.arange(count) % 3
    return rows


@pytest.mark.parametrize("header", ["label," + ",".join(f"pixel{n}" for n in range(9)), ""])
@pytest.mark.parametrize("count", [50, LINES + 1])
def test_kaggle_csv(tmp_path: Path, header: str, count: int) -> None:
    rows = labeled(count)
    write_csv(tmp_path / "train.csv", rows, header)
    examples = read_csv(tmp_path / "train.csv")
    assert np.array_equal(examples.images.reshape(count, 9), rows[:, 1:])
    assert np.array_equal(examples.labels, rows[:, 0])
    assert examples.classes == ["0", "1", "2"]


def test_the_command_writes_idx_files(command: Command, tmp_path: Path) -> None:
    rows = labeled(50)
    write_csv(tmp_path / "train.csv", rows)
    done = command("harness", "import-csv", "train.csv", "idx")
    assert (done.returncode, done.stderr) == (0, "")
    assert "40 training and 10 test images of 3x3 in 3 classes" in done.stdout
    images = np.concatenate([idx.read(tmp_path / "idx" / FILES[i]) for i in (0, 2)])
    assert sorted(map(bytes, images)) == sorted(map(bytes, rows[:, 1:].astype(np.uint8)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "found none"),
        ("label,a,b,c,d\n", "found none"),
        ("1,2,3\n", "square image"),
        ("0,1,2,3,4\n1,1,2,3,256\n", "line 2: expected a label and gray values"),
        ("label,a,b,c,d\n0,1,2,3,4\n1,1,2,3,-1\n", "line 3: expected a label and gray values"),
        ("0,1,2,3,4\n1,1,2,3\n", "expected numbers"),
        ("0,1,2,3,4\n1,1,2,3,x\n", "expected numbers"),
        ("0,1,2,3,4\n0,1,2,3,4\n", "found only 0"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem) as caught:
        read_csv(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_is_one_line(command: Command) -> None:
    done = command("harness", "import-csv", "none.csv", "idx")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: none.csv: expected a text file of numbers")
