"""Split a user's own examples into training and test images and write them as IDX files."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data import idx, normalization
from harness.data.atomic import write_text
from harness.data.dataset import split
from harness.data.override import quoted
from harness.data.sources import FILES, measure

MAX_CLASSES = 256  # labels are bytes
CLASSES = "classes.json"
MANY = 20  # classes, whose counts are then not listed


@dataclass(frozen=True)
class Examples:
    """Labeled images.

    images: (N, rows, columns) uint8. labels: (N,) uint8. classes: names in order of label. skipped:
    one line for each file that was not used. notes: lines that say how the rest was understood.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    classes: list[str]
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_target(folder: Path, test_share: float) -> None:
    """Check where `write` will write and how much is for testing, before anything is read.

    Raises `ValueError` unless the folder can be made or has no such files, and 0 < test_share < 1.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"--test {test_share}: expected a fraction between 0 and 1, such as 0.2")
    check_folder(folder)
    names = [name for file in FILES for name in (file, f"{file}.gz")]
    for name in (*names, CLASSES):
        if (folder / name).exists():
            raise ValueError(f"{folder / name}: already exists; name an empty folder")


def check_folder(folder: Path) -> None:
    """Raise `ValueError` if a file is where the folder, or one above it, is or would be made."""
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir():
        raise ValueError(f"{above}: is a file; name a folder to write to")


def write(examples: Examples, folder: Path, *, test_share: float, seed: int = 0) -> list[str]:
    """Split into training and test images, each class in proportion, and write the four files.

    test_share: the fraction of test images. Returns the lines to print. Raises `ValueError` if the
    folder already has such files or a part would be empty.
    """
    check_target(folder, test_share)
    count = round(len(examples.labels) * test_share)
    if not 0 < count < len(examples.labels):
        raise ValueError(
            f"--test {test_share}: leaves {len(examples.labels) - count} training and {count} test "
            f"images of {len(examples.labels)}; expected at least one of each"
        )
    train, test = _divide(examples.labels, count, seed)
    if not len(test):
        raise ValueError(
            f"--test {test_share}: leaves no test image, because each class needs one "
            "for training; expected more images of a class"
        )
    _write_files(examples, folder, train, test)
    return _describe(examples, folder, train, test)


def _divide(
    labels: NDArray[np.uint8], count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The training and the test rows. Each class has a training row, if `count` is then fewer."""
    train, test = split(labels, count, seed)
    untrained = np.setdiff1d(labels[test], labels[train])
    moved = [int(np.flatnonzero(labels[test] == label)[0]) for label in untrained]
    return np.sort(np.concatenate([train, test[moved]])), np.delete(test, moved)


def _write_files(
    examples: Examples, folder: Path, train: NDArray[np.int64], test: NDArray[np.int64]
) -> None:
    """Write the four files and the names of the classes; on a failure, none of them stays."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        for rows, (images, labels) in ((train, FILES[:2]), (test, FILES[2:])):
            idx.write(folder / images, examples.images[rows])
            idx.write(folder / labels, examples.labels[rows])
        write_text(folder / CLASSES, json.dumps(examples.classes) + "\n")
    except BaseException:
        for name in (*FILES, CLASSES):
            (folder / name).unlink(missing_ok=True)
        for path in new:
            if path.is_dir():
                path.rmdir()
        raise


def _describe(
    examples: Examples, folder: Path, train: NDArray[np.int64], test: NDArray[np.int64]
) -> list[str]:
    """What was written, what is doubtful about it, and the command that trains on it."""
    sizes = measure("idx", str(folder))
    height, width = sizes.input_shape
    lines = [
        f"{folder}: {sizes.train:,} training and {sizes.test:,} test images of {height}x{width} in "
        f"{len(examples.classes)} classes",
        _counts(examples),
    ]
    known = {image.tobytes() for image in examples.images[train]}
    duplicates = sum(image.tobytes() in known for image in examples.images[test])
    if duplicates:
        lines.append(
            f"{duplicates} test images are also training images: the test error will be too low"
        )
    if grays := normalization.narrow_range(examples.images):
        lines.append(
            f"gray values are only {grays[0]} to {grays[1]} of 0 to 255: train with "
            "normalization=standard, or scale them"
        )
    lines.append(f"train:  python -m harness.run dataset=idx {_override('dataset.dir', folder)}")
    return lines


def _counts(examples: Examples) -> str:
    """The images of each class, as one line."""
    counts: Sequence[int] = np.bincount(examples.labels, minlength=len(examples.classes)).tolist()
    if len(counts) > MANY:
        return f"images per class: {min(counts):,} to {max(counts):,}"
    pairs = zip(examples.classes, counts, strict=True)
    return "images per class: " + ", ".join(f"{name} {count:,}" for name, count in pairs)


def _override(key: str, path: Path) -> str:
    """KEY=PATH as it is typed in a shell."""
    text = str(path)
    return f"{key}={text}" if re.fullmatch(r"[A-Za-z0-9_./-]+", text) else quoted(key, text)
