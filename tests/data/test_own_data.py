"""A user's examples are split by class and written as a data set."""

import json
from pathlib import Path

import numpy as np
import pytest

from harness.data import idx, own_data
from harness.data.own_data import Examples
from harness.data.sources import FILES


def examples(count: int = 50) -> Examples:
    """Different 2x3 images in classes a (four fifths) and b."""
    grays = np.random.default_rng(1).permutation(256)[:count].astype(np.uint8)
    pixels = np.repeat(grays, 6).reshape(count, 2, 3)
    labels = (np.arange(count) % 5 == 0).astype(np.uint8)
    return Examples(pixels, labels, ["a", "b"])


def test_every_image_is_written_once_and_classes_in_proportion(tmp_path: Path) -> None:
    own = examples()
    lines = own_data.write(own, tmp_path, test_share=0.2)
    train, train_labels, test, test_labels = (idx.read(tmp_path / name) for name in FILES)
    assert lines == [
        f"{tmp_path}: 40 training and 10 test images of 2x3 in 2 classes",
        f"train:  python -m harness.run dataset=idx dataset.dir={tmp_path}",
    ]
    assert [np.bincount(part).tolist() for part in (train_labels, test_labels)] == [
        [32, 8],
        [8, 2],
    ]
    label_of = {image.tobytes(): n for image, n in zip(own.images, own.labels, strict=True)}
    written = [*zip(train, train_labels, strict=True), *zip(test, test_labels, strict=True)]
    assert {image.tobytes(): n for image, n in written} == label_of
    assert json.loads((tmp_path / "classes.json").read_text()) == ["a", "b"]


def test_the_split_is_repeatable(tmp_path: Path) -> None:
    own = examples()
    for name, seed in (("first", 0), ("second", 0), ("other", 1)):
        own_data.write(own, tmp_path / name, test_share=0.2, seed=seed)
    first, second, other = (
        idx.read(tmp_path / name / FILES[2]) for name in ("first", "second", "other")
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_duplicates_across_the_split_are_reported(tmp_path: Path) -> None:
    own = examples()
    own.images[:] = 7
    lines = own_data.write(own, tmp_path, test_share=0.2)
    assert lines[1].startswith("10 test images are also training images")


@pytest.mark.parametrize("share", [0.0, 1.0, 0.001])
def test_an_empty_part_is_rejected(tmp_path: Path, share: float) -> None:
    with pytest.raises(ValueError, match="expected at least one of each"):
        own_data.write(examples(), tmp_path, test_share=share)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [FILES[0], f"{FILES[3]}.gz"])
def test_existing_files_are_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"kept")
    with pytest.raises(ValueError, match="already exists"):
        own_data.write(examples(), tmp_path, test_share=0.2)
    assert (tmp_path / name).read_bytes() == b"kept"
