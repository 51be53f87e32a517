"""Split a user's own examples into training and test examples and write them as a data set.

Gray images are written as IDX files with `classes.json`, everything else as one .npz file.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data import arrays, duplicates, idx, normalization
from harness.data.atomic import write_atomically, write_text
from harness.data.dataset import is_image
from harness.data.override import quoted
from harness.data.sources import CLASSES, FILES
from harness.data.split import draw

MAX_CLASSES = 256  # labels of IDX files are bytes
ARRAYS = "arrays.npz"
MANY = 30  # with more classes, their counts are not listed


@dataclass(frozen=True)
class Examples:
    """Labeled examples.

    images: (N, rows, columns) uint8, or other examples (N, ...) of uint8 or float32. labels: (N,)
    class numbers, or float32 targets of a regression. classes: names in order of label, empty for a
    regression. skipped: one line for each file that was not used. notes: lines that tell how the
    rest was read.
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    classes: list[str]
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_idx(self) -> bool:
        """Whether the examples are written as IDX files: gray images in at most 256 classes."""
        is_gray = self.images.ndim == 3 and self.images.dtype == np.uint8
        return is_gray and 0 < len(self.classes) <= MAX_CLASSES

    @property
    def what(self) -> str:
        """The kind of examples in words: `images of 28x28`, `examples of 4 numbers`."""
        shape = self.images.shape[1:]
        if is_image(shape, self.images.dtype):
            color = " in color" if len(shape) == 3 else ""
            return f"images of {shape[0]}x{shape[1]}{color}"
        return f"examples of {' x '.join(map(str, shape))} numbers"


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that orders numbers within names by value: a2 before a10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def check_target(folder: Path, test_share: float) -> None:
    """Check the folder and the test share for `write`, before anything is read.

    Raises `ValueError` unless 0 < test_share < 1 and the folder can be created or has no data set.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"--test {test_share}: expected a fraction between 0 and 1, such as 0.2")
    check_folder(folder)
    names = [name for file in FILES for name in (file, f"{file}.gz")]
    for name in (*names, CLASSES, ARRAYS):
        if (folder / name).exists():
            raise ValueError(f"{folder / name}: already exists; name an empty folder")


def check_folder(folder: Path) -> None:
    """Raise `ValueError` if a file has the path of the folder or of one of its parents."""
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir():
        raise ValueError(f"{above}: is a file; name a folder to write to")


def check_file(path: Path) -> None:
    """Like `check_folder`, for a file to be written; raises `ValueError` if it is a folder."""
    check_folder(path.parent)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name a file to write to")


def write(examples: Examples, folder: Path, *, test_share: float, seed: int = 0) -> list[str]:
    """Split into training and test examples, each class in proportion, and write the files.

    test_share: the fraction of test examples. Returns the lines to print. Raises `ValueError` if
    the folder already has such files or a part would be empty.
    """
    check_target(folder, test_share)
    count = round(len(examples.labels) * test_share)
    if not 0 < count < len(examples.labels):
        raise ValueError(
            f"--test {test_share}: leaves {len(examples.labels) - count} training and {count} test "
            f"examples of {len(examples.labels)}; expected at least one of each"
        )
    train, test = _divide(examples.labels, count, seed)
    if not len(test):
        raise ValueError(
            f"--test {test_share}: leaves no test examples, because each class needs one "
            "for training; add more examples per class"
        )
    _write_files(examples, folder, train, test)
    return _describe(examples, folder, train, test)


def _divide(
    labels: NDArray[Any], count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The training rows and at most `count` test rows; each class keeps a training row."""
    if labels.dtype.kind == "f":
        return draw(labels[:, None], count, seed)
    train, test = draw(labels, count, seed)
    untrained = np.setdiff1d(labels[test], labels[train])
    moved = [int(np.flatnonzero(labels[test] == label)[0]) for label in untrained]
    return np.sort(np.concatenate([train, test[moved]])), np.delete(test, moved)


def _write_files(
    examples: Examples, folder: Path, train: NDArray[np.int64], test: NDArray[np.int64]
) -> None:
    """Write the files and the names of the classes; on failure, remove all of them."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        if not examples.is_idx:
            folder.mkdir(parents=True, exist_ok=True)
            _write_arrays(examples, folder / ARRAYS, train, test)
            return
        for rows, (images, labels) in ((train, FILES[:2]), (test, FILES[2:])):
            idx.write(folder / images, examples.images[rows])
            idx.write(folder / labels, examples.labels[rows])
        write_text(folder / CLASSES, json.dumps(examples.classes) + "\n")
    except BaseException:
        for name in (*FILES, CLASSES, ARRAYS):
            (folder / name).unlink(missing_ok=True)
        for path in new:
            if path.is_dir():
                path.rmdir()
        raise


def _write_arrays(
    examples: Examples, path: Path, train: NDArray[np.int64], test: NDArray[np.int64]
) -> None:
    """Write the .npz file. Raises `ValueError` when it would not be a data set."""
    content: dict[str, NDArray[Any]] = {}
    for part, rows in (("train", train), ("test", test)):
        content[f"x_{part}"] = np.ascontiguousarray(examples.images[rows])
        content[f"y_{part}"] = examples.labels[rows]
    arrays.prepared(content, examples.classes or None)
    if examples.classes:
        content[arrays.CLASSES] = np.array(examples.classes)
    write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **content))


def _describe(
    examples: Examples, folder: Path, train: NDArray[np.int64], test: NDArray[np.int64]
) -> list[str]:
    """Lines that tell what was written, any doubts about it, and the command to train on it."""
    path = folder if examples.is_idx else folder / ARRAYS
    kind = f"in {len(examples.classes)} classes" if examples.classes else "each with a target"
    lines = [f"{path}: {len(train):,} training and {len(test):,} test {examples.what} {kind}"]
    if examples.classes:
        lines.append(_counts(examples))
    parts = {
        f"{name}_{part}": values[rows]
        for name, values in (("x", examples.images), ("y", examples.labels))
        for part, rows in (("train", train), ("test", test))
    }
    lines += [f"{line}: the test error will be too low" for line in duplicates.lines(parts)]
    if grays := normalization.narrow_range(examples.images):
        lines.append(
            f"gray values are only {grays[0]} to {grays[1]} of 0 to 255: train with "
            "normalization=standard, or scale them"
        )
    key, name = ("dataset.dir", "idx") if examples.is_idx else ("dataset.file", "arrays")
    words = f"{_override(key, str(path))} {_override('dataset.label', folder.resolve().name)}"
    loss = "" if examples.classes else " loss=squared_error"
    lines.append(f"train:  python -m harness.run dataset={name} {words}{loss}")
    return lines


def _counts(examples: Examples) -> str:
    """The examples of each class, as one line."""
    counts: Sequence[int] = np.bincount(examples.labels, minlength=len(examples.classes)).tolist()
    noun = examples.what.partition(" ")[0]
    if len(counts) > MANY:
        return f"{noun} per class: {min(counts):,} to {max(counts):,}"
    pairs = zip(examples.classes, counts, strict=True)
    return f"{noun} per class: " + ", ".join(f"{name} {count:,}" for name, count in pairs)


def _override(key: str, text: str) -> str:
    """KEY=TEXT as typed in a shell; text that Hydra would read as another type gets quotes."""
    is_plain = re.fullmatch(r"[A-Za-z0-9_./-]+", text) and re.match(r"[/.]*[A-Za-z_]", text)
    is_word = text.lower() not in ("null", "true", "false", "nan", "inf")
    return f"{key}={text}" if is_plain and is_word else quoted(key, text)
