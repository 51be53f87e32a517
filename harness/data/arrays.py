"""Checks for data sets of arrays, in memory or in one .npz file (see npz.py).

    x_train (N, ...)  y_train (N,)     the training set
    x_test            y_test           the test set
    x_val             y_val            the validation set, optional
    classes (C,)                       the names of the classes, optional

This is the layout of the well-known `mnist.npz`. Inputs are uint8, float32 or float64. Examples
have any shape, the same in all sets. Classification labels are 0..C-1 of any integer type.
Regression targets are floats, (N,) or (N, K). Every fault raises a `ValueError` that names the
array, what was expected and what was found.
"""

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.data.atomic import named
from harness.data.override import suggest

FILE = "file"  # the only file of a data set of this kind
NAMES = ("x_train", "y_train", "x_test", "y_test", "x_val", "y_val")
REQUIRED = NAMES[:4]
CLASSES = "classes"
MAX_CLASSES = 4096
CHUNK = 1 << 20
TYPES = tuple(np.dtype(name) for name in ("uint8", "float32", "float64"))
LARGEST = float(np.finfo(np.float32).max)
LARGEST_TARGET = 1e15  # keeps the squares of errors and of gradients far below LARGEST
Array = NDArray[Any]
Arrays = Mapping[str, Array]


class Described(Protocol):
    """An array or the header of one."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""


def check_headers(headers: Mapping[str, Described]) -> None:
    """Raise `ValueError` unless arrays of these types and shapes can be a data set.

    headers: by array name; the test and validation sets are optional.
    """
    train = headers["x_train"]
    for x in [name for name in NAMES if name in headers and name.startswith("x_")]:
        y = f"y_{x[2:]}"
        if y not in headers:
            raise ValueError(f"{y}: expected the labels of {x}, found none")
        inputs, labels = headers[x], headers[y]
        if inputs.dtype.newbyteorder("=") not in TYPES:
            hint = "" if inputs.dtype.hasobject else f"; convert it, such as {x}.astype('float32')"
            raise ValueError(
                f"{x}: expected uint8, float32 or float64, found {inputs.dtype.name}{hint}"
            )
        if len(inputs.shape) < 2 or 0 in inputs.shape:
            raise ValueError(
                f"{x}: expected examples of at least one number each, (N, ...), found shape "
                f"{inputs.shape}"
            )
        if inputs.shape[1:] != train.shape[1:] or inputs.dtype.name != train.dtype.name:
            raise ValueError(
                f"{x}: expected (N, {', '.join(map(str, train.shape[1:]))}) of {train.dtype.name} "
                f"like x_train, found {inputs.shape} of {inputs.dtype.name}"
            )
        _check_label_header(y, labels, headers["y_train"])
        if labels.shape[0] != inputs.shape[0]:
            raise ValueError(
                f"{y}: expected {inputs.shape[0]:,} labels, one for each example of {x}, found "
                f"{labels.shape[0]:,}"
            )
    for name in headers:
        if name in NAMES and name.startswith("y_") and f"x_{name[2:]}" not in headers:
            raise ValueError(f"x_{name[2:]}: expected the inputs of {name}, found none")


def _check_label_header(name: str, labels: Described, train: Described) -> None:
    kind = labels.dtype.kind
    if kind not in "iuf":
        found = "text" if kind in "US" else labels.dtype.name
        hint = "" if labels.dtype.hasobject else (
            "; number the classes: `classes, labels = np.unique(names, return_inverse=True)`"
        )  # fmt: skip
        raise ValueError(
            f"{name}: expected whole numbers, or float targets of a regression, found {found}{hint}"
        )
    if len(labels.shape) not in (1, 2) or (len(labels.shape) == 2 and kind != "f") or (
        0 in labels.shape
    ):  # fmt: skip
        raise ValueError(
            f"{name}: expected labels (N,), or targets (N,) or (N, K), found {labels.shape} of "
            f"{labels.dtype.name}"
        )
    if (kind == "f") != (train.dtype.kind == "f") or labels.shape[1:] != train.shape[1:]:
        raise ValueError(
            f"{name}: expected the type and shape of y_train, {train.dtype.name} "
            f"{('N', *train.shape[1:])}, found {labels.dtype.name} {('N', *labels.shape[1:])}"
        )


def check_inputs(name: str, inputs: Array) -> None:
    """Raise `ValueError` unless all values are finite and fit in float32."""
    if inputs.dtype == np.uint8:
        return
    for begin, block in blocks(inputs):
        flat = block.reshape(len(block), -1)
        bad = ~(np.abs(flat) <= LARGEST)  # also true for NaN
        if bad.any():
            row, column = (int(index[0]) for index in np.nonzero(bad))
            found = flat[row, column]
            why = "" if not np.isfinite(found) else f"; float32 ends at {LARGEST:.2g}: scale them"
            raise ValueError(
                f"{name}: expected finite numbers, found {found} in example {begin + row} "
                f"(counted from 0){why}"
            )


def targets(name: str, given: Array) -> NDArray[np.float32]:
    """Convert targets (N,) or (N, K) to float32 (N, K). Raises `ValueError`."""
    check_inputs(name, given.reshape(len(given), -1))
    if (largest := float(np.abs(given).max())) > LARGEST_TARGET:
        raise ValueError(
            f"{name}: expected targets of at most {LARGEST_TARGET:.0e} in size, because squares "
            f"of much larger values overflow float32, found {largest:.3g}; scale them, such as to "
            "a mean of 0 and a standard deviation of 1"
        )
    return np.ascontiguousarray(given.reshape(len(given), -1), np.float32)


def labels(name: str, given: Array, classes: int) -> Array:
    """Convert labels (N,) to the smallest unsigned type for `classes`. Raises `ValueError`."""
    low, high = int(given.min()), int(given.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"{name}: expected labels 0 to {classes - 1}, found {low if low < 0 else high}; "
            "`classes`, or else the highest label in y_train, determines the number of classes"
        )
    return given.astype(np.min_scalar_type(classes - 1))


def count_classes(given: Array, names: Sequence[str] | None) -> int:
    """The number of classes C: one per name, or without names the highest training label + 1.

    given: y_train (N,). Raises `ValueError` for a label below 0, for fewer than two or more than
    MAX_CLASSES classes, and, without names, for a class that has no examples.
    """
    low, high = int(given.min()), int(given.max())
    count = high + 1 if names is None else len(names)
    if low < 0 or not 2 <= count <= MAX_CLASSES:
        found = f"{low} to {high}" if names is None else f"{count} names and {low} to {high}"
        raise ValueError(
            f"y_train: expected labels from 0 and 2 to {MAX_CLASSES} classes, found {found}; "
            "`classes, labels = np.unique(labels, return_inverse=True)` numbers any labels"
        )
    if names is None:
        missing = np.flatnonzero(np.bincount(given.astype(np.int64), minlength=count) == 0)
        if len(missing):
            raise ValueError(
                f"y_train: expected labels 0 to {high} without gaps, found none that is "
                f"{missing[0]}; number them with `np.unique(labels, return_inverse=True)`, or name "
                "all classes in `classes`"
            )
    return count


def checked_names(given: Any, where: str) -> tuple[str, ...]:
    """The names of classes as a tuple. Raises `ValueError` unless all differ and are printable."""
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise ValueError(f"{where}: expected a list of names, one for each class")
    for name in given:
        if not name or not name.isprintable() or len(name) > 200:
            raise ValueError(
                f"{where}: expected names of 1 to 200 characters that can be printed, found "
                f"{name[:80]!r}"
            )
    if len(set(given)) < len(given):
        twice = next(name for name in given if given.count(name) > 1)
        raise ValueError(f"{where}: expected different names, found {twice!r} twice")
    return tuple(given)


def digest(arrays: Arrays, classes: int) -> str:
    """The SHA-256 of the arrays that `prepared` returns and of the number of classes."""
    total = hashlib.sha256(f"arrays {classes}\n".encode())
    for name in (name for name in NAMES if name in arrays):
        array = arrays[name]
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        for _, block in blocks(array):
            total.update(np.ascontiguousarray(block).data)
    return total.hexdigest()


def prepared(given: Arrays, names: Sequence[str] | None) -> tuple[dict[str, Array], int]:
    """Check the arrays of a data set and convert them to the types that the trainer uses.

    Inputs keep their dtype and shape, but in native byte order and C order. Labels become the
    smallest unsigned type, targets (N, K) float32. Returns the arrays and the number of classes, 0
    for a regression. Raises `ValueError`.
    """
    check_headers(given)
    is_regression = given["y_train"].dtype.kind == "f"
    if is_regression and names is not None:
        raise ValueError("classes: expected none, because y_train has the targets of a regression")
    classes = 0 if is_regression else count_classes(given["y_train"], names)
    made: dict[str, Array] = {}
    for name in (name for name in NAMES if name in given):
        array = given[name]
        if name.startswith("y_"):
            made[name] = targets(name, array) if is_regression else labels(name, array, classes)
            continue
        check_inputs(name, array)
        if is_canonical(array):
            made[name] = array
        else:
            made[name] = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    return made, classes


def is_canonical(array: Array) -> bool:
    """Whether an array is in native byte order and C order."""
    return array.dtype.isnative and array.flags.c_contiguous


def names_of(given: Array) -> tuple[str, ...]:
    """The names of the classes in the array `classes`. Raises `ValueError`."""
    check_names_header(given)
    return checked_names([str(each) for each in given.tolist()], CLASSES)


def check_names_header(header: Described) -> None:
    """Raise `ValueError` unless an array of this header can be the names of the classes."""
    if len(header.shape) != 1 or header.dtype.kind not in "Uiu" or header.shape[0] > MAX_CLASSES:
        raise ValueError(
            f"{CLASSES}: expected at most {MAX_CLASSES} names (C,) as text, found "
            f"{header.shape} of {header.dtype}"
        )


def open_all(folder: Path) -> dict[str, Array]:
    """The arrays in a folder, memory-mapped. Raises `ValueError` for a damaged one."""
    return {
        name: _mapped(folder / f"{name}.npy")
        for name in NAMES
        if name in REQUIRED or (folder / f"{name}.npy").is_file()
    }


def save(path: Path, array: Array) -> None:
    """Write an array as .npy in native byte order and C order, in blocks."""
    dtype = array.dtype.newbyteorder("=")
    unfinished = path.with_suffix(".unfinished")
    try:
        with unfinished.open("wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
            np.lib.format.write_array_header_1_0(file, header | {"shape": array.shape})
            for _, block in blocks(array):
                file.write(np.ascontiguousarray(block, dtype).tobytes())
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise named(error, path) from None


def _mapped(path: Path) -> Array:
    try:
        array: np.memmap[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        end = array.offset + array.nbytes
    except OSError:
        raise
    except Exception as error:  # NumPy evaluates the header, so damage can raise any exception
        raise ValueError(f"{path}: {type(error).__name__} in its header") from error
    if path.stat().st_size != end:
        raise ValueError(f"{path}: expected {end:,} bytes, found {path.stat().st_size:,}")
    return array


def blocks(array: Array) -> Iterator[tuple[int, Array]]:
    """Yield blocks of about CHUNK bytes, each with the index of its first example."""
    size = max(1, CHUNK // max(1, array.itemsize * math.prod(array.shape[1:])))
    for begin in range(0, len(array), size):
        yield begin, array[begin : begin + size]


def check_names(stored: Sequence[str]) -> None:
    """Raise `ValueError` unless arrays of these names can be a data set."""
    missing = [name for name in REQUIRED if name not in stored]
    if missing:
        found = ", ".join(sorted(stored)[:8]) or "no array"
        raise ValueError(
            f"expected arrays {', '.join(REQUIRED)}, found no {missing[0]} but {found[:200]}"
        )
    known = (*NAMES, CLASSES)
    for name in stored:
        hint = suggest(name, known, 0.75)
        if name not in known and (hint or name.startswith(("x_", "y_"))):
            raise ValueError(f"{name[:80]}: expected only {', '.join(known)}{hint}")
