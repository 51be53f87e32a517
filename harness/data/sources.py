"""The known data sets: where their files are and what they must contain.

`idx` is four IDX files in a user's folder; `arrays` is one .npz file (see arrays.py). A *place* is
the path of the user's own files: that folder or that file.

To add a data set with known files, add a row to `SOURCES` and a file `conf/dataset/NAME.yaml`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.data import arrays, idx, npz
from harness.data.override import suggest

__all__ = ["SOURCES", "Source"]

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


CLASSES = "classes.json"  # beside IDX files: the names of the classes, in order of label
OWN_VALIDATION = 0.15  # share of the training set of a user's own data


@dataclass(frozen=True)
class Sizes:
    """What the headers tell: the number of examples, their shape and their type.

    input_shape: of one example, such as (rows, columns). val: examples in the data set's own
    validation set. dtype: of the inputs. is_regression: whether the labels are targets.
    """

    train: int
    test: int
    input_shape: tuple[int, ...]
    val: int = 0
    dtype: np.dtype[Any] = np.dtype(np.uint8)
    is_regression: bool = False


@dataclass(frozen=True)
class Source:
    """What is known about a data set before its files are read.

    digests: SHA-256 of each file's uncompressed content, because distributors compress the same
    files differently; empty when any content is accepted. folder: where the files are, if they are
    on this machine. sizes: used to check a configuration if they are not. package: what installs
    the files in `folder`. num_val: validation examples to take from the training set by default,
    as a count or a fraction.
    """

    digests: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    sizes: Sizes | None = None
    package: str = ""
    num_val: float = OWN_VALIDATION


MNIST_SIZES = Sizes(60_000, 10_000, (28, 28))
SOURCES = {
    "mnist": Source(
        digests={
            FILES[0]: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            FILES[1]: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            FILES[2]: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            FILES[3]: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        folder=Path(__file__).parent / "mnist",
        sizes=MNIST_SIZES,
        num_val=5000,
    ),
    # Xiao, Rasul and Vollgraf, 2017; MIT license.
    "fashion_mnist": Source(
        digests={
            FILES[0]: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            FILES[1]: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            FILES[2]: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            FILES[3]: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        folder=Path("/usr/share/datasets/fashion-mnist"),
        sizes=MNIST_SIZES,
        package="Debian's package dataset-fashion-mnist",
        num_val=5000,
    ),
    "idx": Source(),
    "arrays": Source(),
}


def source(name: str) -> Source:
    """The row of a data set. Raises `ValueError` for an unknown name."""
    if name not in SOURCES:
        expected = f"{', '.join(SOURCES)}{suggest(name, SOURCES)}"
        raise ValueError(f"dataset {name!r}: expected {expected}")
    return SOURCES[name]


def measure(name: str, place: str | None = None) -> Sizes:
    """The sizes of a data set from its headers, or the known ones if its files are not here.

    Writes nothing. Raises `ValueError` when a file is missing, has another format, or does not fit
    the others.
    """
    paths = locate(name, place)
    if paths is None:
        sizes = source(name).sizes
        assert sizes is not None, "only a data set of known sizes may be missing"
        return sizes
    if name == "arrays":
        return sizes_of(npz.read_headers(paths[arrays.FILE]))
    headers = {file: idx.read_header(paths[file]) for file in FILES}
    for part in ("train", "t10k"):
        images, labels = (file for file in FILES if file.startswith(part))
        _check_header(paths[images], headers[images], "images", 3)
        _check_header(paths[labels], headers[labels], "labels", 1)
        if headers[images].shape[0] != headers[labels].shape[0]:
            raise ValueError(
                f"{paths[labels]}: expected {headers[images].shape[0]:,} labels, one for each "
                f"image of {paths[images].name}, found {headers[labels].shape[0]:,}"
            )
    train, test = headers[FILES[0]].shape, headers[FILES[2]].shape
    if train[1:] != test[1:]:
        raise ValueError(
            f"{paths[FILES[2]]}: expected images of {train[1]}x{train[2]} pixels like the training "
            f"images, found {test[1]}x{test[2]}"
        )
    return Sizes(train[0], test[0], (train[1], train[2]))


def sizes_of(headers: Mapping[str, arrays.Described]) -> Sizes:
    """The sizes of a data set from its checked arrays or their headers."""
    train, val = headers["x_train"], headers.get("x_val")
    return Sizes(
        train=train.shape[0],
        test=headers["x_test"].shape[0],
        input_shape=train.shape[1:],
        val=0 if val is None else val.shape[0],
        dtype=train.dtype,
        is_regression=headers["y_train"].dtype.kind == "f",
    )


def locate(name: str, place: str | None) -> Mapping[str, Path] | None:
    """The paths of a data set's files by name; None when a known one is not on this machine.

    place: the user's own files, which take precedence. Raises `ValueError` for an unknown data set
    or a missing file.
    """
    known = source(name)
    if name == "arrays":
        return {arrays.FILE: _npz(place)}
    if place:
        return _in_folder(Path(place))
    if known.folder is None:
        raise ValueError(
            f"dataset={name}: expected dataset.dir=FOLDER with the four IDX files, found none"
        )
    is_missing = known.sizes is not None and not known.folder.is_dir()
    return None if is_missing else _in_folder(known.folder)


def class_names(name: str, place: str | None) -> tuple[str, ...] | None:
    """The names of the classes that come with the user's own files; None if there are none.

    They are read from `classes.json` beside IDX files, or from the array `classes`. Raises
    `ValueError`.
    """
    if name == "arrays":
        return npz.read_names(_npz(place))
    path = Path(place or "", CLASSES)
    if not place or not path.is_file():
        return None
    try:
        return arrays.checked_names(json.loads(path.read_text(encoding="utf-8")), str(path))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: expected a JSON list of names, found {error}") from None


def _npz(place: str | None) -> Path:
    if not place:
        raise ValueError("dataset=arrays: expected dataset.file=FILE.npz, found none")
    path = Path(place)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise ValueError(f"dataset.file={place}: expected an .npz file, found {found}")
    return path


def _in_folder(folder: Path) -> Mapping[str, Path]:
    if not folder.is_dir():
        raise ValueError(f"dataset.dir={folder}: expected a folder with four IDX files, found none")
    paths = {}
    for file in FILES:
        candidates = [folder / file, folder / f"{file}.gz"]
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            raise ValueError(f"{candidates[0]}: expected this file or {file}.gz, found neither")
        paths[file] = path
    return paths


def _check_header(path: Path, header: idx.Header, what: str, dimensions: int) -> None:
    if header.dtype != np.uint8 or len(header.shape) != dimensions:
        raise ValueError(
            f"{path}: expected {what} as uint8 with {dimensions} dimension(s), found "
            f"{header.dtype} with {len(header.shape)}"
        )
    if 0 in header.shape:
        raise ValueError(f"{path}: expected at least one of the {what}, found shape {header.shape}")
