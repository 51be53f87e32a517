"""Split a user's own examples into training and test images and write them as IDX files."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data import idx
from harness.data.atomic import write_text
from harness.data.dataset import split
from harness.data.sources import FILES, measure

MAX_CLASSES = 256  # labels are bytes


@dataclass(frozen=True)
class Examples:
    """Labeled images.

    images: (N, rows, columns) uint8. labels: (N,) uint8. classes: names in order of label. skipped:
    one line for each picture that could not be used.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    classes: list[str]
    skipped: list[str] = field(default_factory=list)


def write(examples: Examples, folder: Path, *, test_share: float, seed: int = 0) -> list[str]:
    """Split into training and test images, each class in proportion, and write the four files.

    test_share: the fraction of test images. Returns the lines to print. Raises `ValueError` if the
    folder already has such files or a part would be empty.
    """
    existing = [name for file in FILES for name in (file, f"{file}.gz") if (folder / name).exists()]
    if existing:
        raise ValueError(f"{folder / existing[0]}: already exists; name an empty folder")
    count = round(len(examples.labels) * test_share)
    if not 0 < count < len(examples.labels):
        raise ValueError(
            f"--test {test_share}: leaves {len(examples.labels) - count} training and {count} test "
            f"images of {len(examples.labels)}; expected at least one of each"
        )
    train, test = split(examples.labels, count, seed)
    for rows, (images, labels) in ((train, FILES[:2]), (test, FILES[2:])):
        idx.write(folder / images, examples.images[rows])
        idx.write(folder / labels, examples.labels[rows])
    write_text(folder / "classes.json", json.dumps(examples.classes) + "\n")
    sizes = measure("idx", str(folder))
    height, width = sizes.image_shape
    lines = [
        f"{folder}: {sizes.train:,} training and {sizes.test:,} test images of {height}x{width} in "
        f"{len(examples.classes)} classes"
    ]
    known = {image.tobytes() for image in examples.images[train]}
    duplicates = sum(image.tobytes() in known for image in examples.images[test])
    if duplicates:
        lines.append(
            f"{duplicates} test images are also training images: the test error will be too low"
        )
    lines.append(f"train:  python -m harness.run dataset=idx dataset.dir={folder}")
    return lines
