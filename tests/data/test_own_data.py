"""A user's examples are split by class and written as a data set."""

import json
import math
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.data import idx, own_data
from harness.data.own_data import Examples
from harness.data.sources import FILES
from harness.run import overrides


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
        "images per class: a 40, b 10",
        f"train:  python -m harness.run dataset=idx dataset.dir={tmp_path} "
        f"dataset.label={tmp_path.name}",
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
    lines = own_data.write(own, tmp_path / "all", test_share=0.2)
    assert lines[2].startswith("10 of 10 test examples are also training examples: ")
    numbers = np.arange(len(own.labels))
    own.labels[:] = numbers % 2
    own.images[:] = (numbers // 2)[:, None, None]  # equal images have different labels
    lines = own_data.write(own, tmp_path / "none", test_share=0.2)
    assert not any("are also training" in line for line in lines)


def test_a_narrow_range_of_gray_is_reported(tmp_path: Path) -> None:
    own = examples()
    own.images[:] %= 17
    lines = own_data.write(own, tmp_path, test_share=0.2)
    assert (
        "gray values are only 0 to 16 of 0 to 255: train with normalization=standard, or scale "
        "them" in lines
    )


def test_every_class_has_a_training_image(tmp_path: Path) -> None:
    """Or the highest label could be in the test images only, which no run accepts."""
    own = examples(10)
    own.labels[:] = np.arange(10) // 2
    own.labels[9] = 5
    classes = [str(label) for label in range(6)]
    own_data.write(replace(own, classes=classes), tmp_path, test_share=0.8)
    train, test = idx.read(tmp_path / FILES[1]), idx.read(tmp_path / FILES[3])
    assert set(train.tolist()) == set(range(6))
    assert sorted([*train, *test]) == own.labels.tolist()
    own.labels[:] = np.arange(10)
    with pytest.raises(ValueError, match="leaves no test examples, because each class needs one"):
        own_data.write(replace(own, classes=list("abcdefghij")), tmp_path / "o", test_share=0.2)


def test_many_classes_are_counted_in_short(tmp_path: Path) -> None:
    own = Examples(np.zeros((90, 2, 2), np.uint8), np.arange(90, dtype=np.uint8) % 30,
                   [str(n) for n in range(31)])  # fmt: skip
    assert "images per class: 0 to 3" in own_data.write(own, tmp_path, test_share=0.2)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the last file cannot be written; the folder may hold other things."""

    def fail(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(own_data, "write_text", fail)
    (tmp_path / "README").write_text("kept")
    for folder in (tmp_path, tmp_path / "new/idx"):
        with pytest.raises(OSError, match="No space left"):
            own_data.write(examples(), folder, test_share=0.2)
        assert [path.name for path in tmp_path.iterdir()] == ["README"]


@pytest.mark.parametrize(
    "name",
    [
        "a/b-1.c_d", "a b", "a=1,2", "it's", 'a"b', "a\\b", 'a\\"b', "a b\\", "ü", "[x]{y}",
        "2024", "1e5", ".5", "null", "True", "inf", "/2024",
    ],
)  # fmt: skip
def test_a_path_is_quoted_for_shell_and_parser(name: str) -> None:
    (text,) = shlex.split(own_data._override("k", name))
    (override,) = overrides.parse_each([text])
    assert override.value() == name


@pytest.mark.parametrize("share", [0.0, 1.0, 0.001, math.nan, math.inf, -0.2])
def test_an_empty_part_is_rejected(tmp_path: Path, share: float) -> None:
    with pytest.raises(ValueError, match=r"expected (at least one of each|a fraction between)"):
        own_data.write(examples(), tmp_path, test_share=share)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [FILES[0], f"{FILES[3]}.gz"])
def test_existing_files_are_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"kept")
    with pytest.raises(ValueError, match="already exists"):
        own_data.write(examples(), tmp_path, test_share=0.2)
    assert (tmp_path / name).read_bytes() == b"kept"


def test_other_examples_are_written_as_arrays(tmp_path: Path) -> None:
    own = examples()
    color = np.repeat(own.images[..., None], 3, axis=3)
    lines = own_data.write(replace(own, images=color), tmp_path / "color", test_share=0.2)
    assert lines[:2] == [
        f"{tmp_path / 'color/arrays.npz'}: 40 training and 10 test images of 2x3 in color in 2 "
        "classes",
        "images per class: a 40, b 10",
    ]
    words = f"dataset=arrays dataset.file={tmp_path / 'color/arrays.npz'} dataset.label=color"
    assert lines[-1].endswith(words)
    with np.load(tmp_path / "color/arrays.npz") as content:
        assert content["x_train"].shape == (40, 2, 3, 3)
        assert content["classes"].tolist() == ["a", "b"]
        assert np.bincount(content["y_test"]).tolist() == [8, 2]
    table = Examples(own.images.reshape(50, 6).astype(np.float32) / 7, own.labels + 0.5, [])
    (line, _) = own_data.write(table, tmp_path / "table", test_share=0.2)
    assert line.endswith("40 training and 10 test examples of 6 numbers each with a target")
    assert [path.name for path in (tmp_path / "table").iterdir()] == ["arrays.npz"]
    with pytest.raises(ValueError, match=r"arrays\.npz: already exists"):
        own_data.write(own, tmp_path / "table", test_share=0.2)
