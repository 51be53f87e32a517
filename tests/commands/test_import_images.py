"""`harness import-images`: folders of pictures become a data set that can be trained on."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.commands.import_images import read_folder
from harness.data import idx
from harness.data.sources import FILES
from tests.conftest import Command


def test_own_pictures_become_a_data_set(
    command: Command, digits: list[Path], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    for name, paths in (("cat", digits[:5]), ("dog", digits[5:])):
        (own / name).mkdir(parents=True)
        for path in paths:
            path.rename(own / name / path.name)
    (own / "cat/bad.png").write_text("no picture")
    (own / "cat/notes.txt").write_text("ignored")
    done = command("harness", "import-images", str(own), str(tmp_path / "idx"), "--test", "0.4")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"skipped: {own / 'cat/bad.png'}: ")
    assert "6 training and 4 test images of 28x28 in 2 classes" in done.stdout
    assert json.loads((tmp_path / "idx/classes.json").read_text()) == ["cat", "dog"]
    labels = idx.read(tmp_path / "idx" / FILES[3])
    assert sorted(labels) == [0, 0, 1, 1]
    train = [
        "dataset=idx",
        f"dataset.dir={tmp_path / 'idx'}",
        "epochs=1",
        "batch=2",
        "tracking=none",
    ]
    assert command("harness.run", *train).returncode == 0
    again = command("harness", "import-images", str(own), str(tmp_path / "idx"))
    assert again.returncode == 2
    assert "already exists" in again.stderr


def write_pictures(folder: Path, sizes: dict[str, tuple[int, int]]) -> None:
    """One gray picture of this size (rows, columns) in each class folder, of gray value 7."""
    for name, size in sizes.items():
        (folder / name).mkdir()
        Image.fromarray(np.full(size, 7, np.uint8)).save(folder / name / "x.png")


def test_numbers_are_in_numeric_order_and_pictures_unchanged(tmp_path: Path) -> None:
    write_pictures(tmp_path, dict.fromkeys(("10", "9", "2"), (5, 4)))
    examples = read_folder(tmp_path, as_is=True)
    assert examples.classes == ["2", "9", "10"]
    assert examples.labels.tolist() == [0, 1, 2]
    assert np.array_equal(examples.images, np.full((3, 5, 4), 7))


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected 2 to 256 folders of pictures.* found 0"):
        read_folder(tmp_path / "none")
    write_pictures(tmp_path, {"a": (5, 4)})
    with pytest.raises(ValueError, match="found 1"):
        read_folder(tmp_path)
    write_pictures(tmp_path, {"b": (5, 5)})
    with pytest.raises(ValueError, match="expected pictures of one size"):
        read_folder(tmp_path, as_is=True)
    with pytest.raises(ValueError, match="no usable picture of class a, b"):
        read_folder(tmp_path)  # they are empty
