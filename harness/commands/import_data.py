"""Own data: a folder of pictures per class, or a CSV of pixels, becomes four IDX files.

The result is what `dataset=idx dataset.dir=FOLDER` trains on. Pictures go through the recognizer's
preprocessing, so that training and prediction see the same.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data import idx
from harness.data.atomic import write_text
from harness.data.dataset import split
from harness.data.sources import FILES, measure
from harness.recognizer import picture, preprocess

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_CLASSES = 256  # labels are bytes
LINES = 2000
Images = NDArray[np.uint8]
Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Examples:
    """images (n, rows, columns) uint8, labels (n,) uint8, the classes' names in order of label.

    skipped: what could not be used, one line each.
    """

    images: Images
    labels: Labels
    classes: list[str]
    skipped: list[str]


def from_folder(folder: Path, *, as_is: bool = False) -> Examples:
    """The pictures of `folder/<class>/*.png` (or JPEG), prepared as 28x28.

    as_is: take the pictures as they are, bright on dark and all of one size. Raises `ValueError`.
    """
    names = (
        sorted(each.name for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
    )
    if not 2 <= len(names) <= MAX_CLASSES:
        raise ValueError(
            f"{folder}: expected a folder with 2 to {MAX_CLASSES} folders of pictures, one for "
            f"each class, found {len(names)}"
        )
    if all(name.isdecimal() for name in names):
        names.sort(key=int)
    images, labels, skipped = [], [], []
    for label, name in enumerate(names):
        for path in sorted((folder / name).iterdir()):
            if path.suffix.lower() not in SUFFIXES:
                continue
            try:
                images.append(_prepared(path, as_is=as_is))
                labels.append(label)
            except ValueError as error:
                skipped.append(f"{path}: {error}")
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise ValueError(f"{folder}: expected pictures of one size, found {sorted(shapes)[:5]}")
    missing = [name for label, name in enumerate(names) if label not in set(labels)]
    if missing:
        raise ValueError(f"{folder}: no picture could be used of class {', '.join(missing[:10])}")
    return Examples(np.stack(images), np.array(labels, np.uint8), names, skipped)


def _prepared(path: Path, *, as_is: bool) -> Images:
    gray = picture.read(path)
    if as_is:
        return gray
    seen = preprocess.find(gray)
    if seen.image is None:
        raise ValueError(seen.problem)
    return seen.image


def from_csv(path: Path) -> Examples:
    """One image per line: the label, then its pixels, row by row (Kaggle's train.csv).

    A first line of names is passed over. Images are square. Raises `ValueError` naming the line.
    """
    pixels, labels = [], []
    for first, rows in _numbers(path):
        bad = np.flatnonzero((rows.min(axis=1) < 0) | (rows.max(axis=1) > 255))
        if len(bad):
            raise ValueError(
                f"{path}, line {first + int(bad[0])}: expected a label and gray values, all from 0 "
                f"to 255, found {rows[bad[0]].min()} to {rows[bad[0]].max()}"
            )
        labels.append(rows[:, 0].astype(np.uint8))
        pixels.append(rows[:, 1:].astype(np.uint8))
    if not labels:
        raise ValueError(f"{path}: expected lines of a label and its pixels, found none")
    width = pixels[0].shape[1]
    side = math.isqrt(width)
    if side * side != width or not width:
        raise ValueError(
            f"{path}: expected a label and the pixels of a square image in each line, such as 785 "
            f"numbers for 28x28, found {width + 1}; Kaggle's test.csv has no labels"
        )
    everything = np.concatenate(labels)
    if everything.max() < 1:
        raise ValueError(f"{path}: expected labels 0 to at least 1, found only 0")
    images = np.concatenate(pixels).reshape(-1, side, side)
    return Examples(images, everything, [str(n) for n in range(int(everything.max()) + 1)], [])


def _numbers(path: Path) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Blocks of lines as numbers, each with the number of its first line."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            number, width = 1, 0
            while lines := list(islice(file, LINES)):
                start = 1 if number == 1 and not lines[0][:1].strip('"').isdigit() else 0
                if lines[start:]:
                    rows = np.loadtxt(lines[start:], np.int64, delimiter=",", ndmin=2)
                    width = width or rows.shape[1]
                    if rows.shape[1] != width:
                        raise ValueError(f"{rows.shape[1]} numbers in a line instead of {width}")
                    yield number + start, rows
                number += len(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a text file of numbers, found {error}") from None
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}, after line {number}: expected numbers, found {error}") from None


def write(found: Examples, folder: Path, *, test_share: float, seed: int = 0) -> list[str]:
    """Divide into training and test images, each class in proportion, and write the four files.

    Returns what there is to say. Raises `ValueError` when the folder has such files already.
    """
    there = [name for name in FILES for each in (name, f"{name}.gz") if (folder / each).exists()]
    if there:
        raise ValueError(f"{folder / there[0]}: exists already; name an empty folder")
    count = round(len(found.labels) * test_share)
    if not 0 < count < len(found.labels):
        raise ValueError(
            f"--test {test_share}: leaves {len(found.labels) - count} training and {count} test "
            f"images of {len(found.labels)}; expected at least one of each"
        )
    train, test = split(found.labels, count, seed)
    for part, (images, labels) in ((train, FILES[:2]), (test, FILES[2:])):
        idx.write(folder / images, found.images[part])
        idx.write(folder / labels, found.labels[part])
    write_text(folder / "classes.json", json.dumps(found.classes) + "\n")
    sizes = measure("idx", str(folder))
    known = {image.tobytes() for image in found.images[train]}
    twice = sum(image.tobytes() in known for image in found.images[test])
    rows, columns = sizes.image_shape
    said = [
        f"{folder}: {sizes.train:,} training and {sizes.test:,} test images of {rows}x{columns} in "
        f"{len(found.classes)} classes"
    ]
    if twice:
        said.append(f"{twice} test images are also among the training images: the error will lie")
    said.append(f"train:  python -m harness.run dataset=idx dataset.dir={folder}")
    return said
