"""Data sets as the trainer reads them: inputs and labels, divided into parts.

The arrays are memory-mapped from the cache, or are in memory if the user passes arrays.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.data import arrays, integrity
from harness.data.extraction import DEFAULT_CACHE, prepare
from harness.data.sources import OWN_VALIDATION, Sizes, measure, source
from harness.data.split import Split

__all__ = ["Dataset", "Part", "load"]

SAMPLE = 10_000  # examples used to measure the share of ink


@dataclass(frozen=True)
class Part:
    """The examples of a training, validation or test set.

    inputs: (N, D) uint8, float32 or float64, every example flattened. labels: (N,) whole numbers,
    or (N, K) float32 targets of a regression. Both cover the whole file. rows: (n,) uint32, the
    examples of this part; None for all in file order.
    """

    inputs: NDArray[Any]
    labels: NDArray[Any]
    rows: NDArray[np.uint32] | None = None

    def __repr__(self) -> str:
        dtype, size = self.inputs.dtype, self.inputs.shape[1]
        return f"Part({len(self)} examples of {size} numbers, {dtype})"

    def __len__(self) -> int:
        return len(self.inputs) if self.rows is None else len(self.rows)

    @cached_property
    def ink_share(self) -> float:
        """The share of nonzero inputs in the first SAMPLE examples of the file."""
        some = self.inputs[:SAMPLE]
        return np.count_nonzero(some) / some.size

    def arrays(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The part's own inputs (n, D) and labels (n,) or (n, K); a copy where it has `rows`."""
        if self.rows is None:
            return self.inputs, self.labels
        return self.inputs[self.rows], self.labels[self.rows]


@dataclass(frozen=True)
class Dataset:
    """A data set and its parts; `val` is None without validation examples.

    sha256: the digest of its content. input_shape: of one example, such as (rows, columns).
    classes: the number of classes C, 0 for a regression. class_names: C names; "0", "1", ... if
    none are given. duplicates: a line for each pair of parts that share examples (see
    duplicates.py); only for extracted data sets of the user's own files. `test` has no examples if
    `from_arrays` got none.
    """

    name: str
    sha256: str
    input_shape: tuple[int, ...]
    classes: int
    train: Part
    val: Part | None
    test: Part
    class_names: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = self.class_names or default_names(self.classes)
        assert len(names) == self.classes, "one name for each class"
        object.__setattr__(self, "class_names", names)

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{name}={0 if part is None else len(part)}"
            for name, part in (("train", self.train), ("val", self.val), ("test", self.test))
        )
        shape, what = self.input_shape, f"classes={self.classes}"
        if not self.classes:
            what = f"targets={self.outputs}"
        return f"Dataset({self.name!r}, input_shape={shape}, {what}, {sizes})"

    @property
    def outputs(self) -> int:
        """The number of network outputs: the classes C, or the targets K of a regression."""
        return self.classes or int(self.train.labels.shape[1])

    @property
    def is_image(self) -> bool:
        """Whether an example is a picture: (rows, columns) or (rows, columns, 3) of uint8."""
        return is_image(self.input_shape, self.train.inputs.dtype)

    @classmethod
    def from_arrays(
        cls,
        x_train: ArrayLike,
        y_train: ArrayLike,
        *,
        x_test: ArrayLike | None = None,
        y_test: ArrayLike | None = None,
        x_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        classes: Sequence[str] | None = None,
        num_val: float = OWN_VALIDATION,
        split_seed: int = 0,
        name: str = "arrays",
    ) -> "Dataset":
        """Make a data set of arrays in memory, to train without files.

        x_train: (N, ...) uint8, float32 or float64, of any shape. y_train: (N,) labels 0..C-1, or
        float targets (N,) or (N, K) of a regression. classes: names of the classes. num_val:
        examples to take from the training set if no validation set is given, as a count or a
        fraction; 0 for none. Inputs in C order are not copied. Raises `ValueError` as
        `harness.data.arrays` describes.
        """
        given = {
            "x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test,
            "x_val": x_val, "y_val": y_val,
        }  # fmt: skip
        found = {key: np.asarray(value) for key, value in given.items() if value is not None}
        names = None if classes is None else arrays.checked_names(list(classes), "classes")
        made, count = arrays.prepared(found, names)
        train, val = made["x_train"], made.get("x_val", ())
        split = Split(num_val, seed=split_seed)
        split.check(Sizes(len(train), 0, train.shape[1:], len(val)))
        return _divided(name, arrays.digest(made, count), made, count, names or (), split)


def default_names(classes: int) -> tuple[str, ...]:
    """ "0", "1", ...: the names of classes without given names."""
    return tuple(map(str, range(classes)))


def is_image(shape: Sequence[int], dtype: np.dtype[Any]) -> bool:
    """Whether examples of this shape and type are gray or color pictures."""
    return dtype == np.uint8 and (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3))


def load(
    name: str = "mnist",
    *,
    folder: str | None = None,
    file: str | None = None,
    cache: str | Path = DEFAULT_CACHE,
    num_val: float | None = None,
    num_train: int | None = None,
    split_seed: int = 0,
) -> Dataset:
    """Find, extract (once) and open a data set.

    name: a key of `sources.SOURCES`: "mnist", "fashion_mnist", "idx" with a folder, or "arrays"
    with a file. num_val: validation examples to take from the training set, as a count or a
    fraction below 1; None for 5000 of a known data set or 15% of your own. num_train: training
    examples; None for all that are left. split_seed: seed of both draws. Raises `ValueError` for
    bad files, unknown names and impossible counts.
    """
    place = folder if file is None else file
    split = Split(source(name).num_val if num_val is None else num_val, num_train, split_seed)
    split.check(measure(name, place))
    return open_dataset(prepare(name, place, cache), cache, split)


def open_dataset(
    digest: str, cache: str | Path, split: Split, *, label: str | None = None
) -> Dataset:
    """Map an extracted data set and divide it into parts; takes milliseconds.

    label: the name of the data set; None for the name it was extracted under. Raises `ValueError`
    if the data set is not in the cache or no longer matches its digest.
    """
    extracted = Path(cache) / digest
    try:
        if problem := integrity.check(extracted):
            raise ValueError(problem)
        meta = json.loads((extracted / integrity.META).read_text())
        found = integrity.open_parts(extracted, meta["name"])
        names = tuple(meta.get("class_names", ()))
        made = _divided(label or meta["name"], digest, found, meta["classes"], names, split)
        return replace(made, duplicates=tuple(meta.get("duplicates", ())))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{extracted}: expected an extracted data set, found {error}; delete the folder and "
            "start the run again from its data set's files"
        ) from error


def _divided(
    name: str,
    digest: str,
    found: arrays.Arrays,
    classes: int,
    names: tuple[str, ...],
    split: Split,
) -> Dataset:
    """Divide the arrays, given by name, into the parts of a data set."""
    labels, shape = np.asarray(found["y_train"]), found["x_train"].shape[1:]
    own = "x_val" in found
    kept, val_rows = split.rows(labels, own)
    inputs = flatten(found["x_train"])
    val = Part(inputs, labels, val_rows) if len(val_rows) else None
    if own and split.num_val:
        val = Part(flatten(found["x_val"]), np.asarray(found["y_val"]))
    test = Part(inputs[:0], labels[:0])
    if "x_test" in found:
        test = Part(flatten(found["x_test"]), np.asarray(found["y_test"]))
    return Dataset(name, digest, shape, classes, Part(inputs, labels, kept), val, test, names)


def flatten(inputs: NDArray[Any]) -> NDArray[Any]:
    """(N, ...) -> (N, D), such as D = rows x columns, row by row, without copying."""
    return inputs.reshape(len(inputs), math.prod(inputs.shape[1:]))
