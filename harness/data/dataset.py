"""Data sets as the trainer reads them: memory-mapped images and labels, divided into parts."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data import integrity
from harness.data.extraction import DEFAULT_CACHE, prepare
from harness.data.sources import FILES, Sizes, measure


@dataclass(frozen=True)
class Part:
    """The examples of a training, validation or test set.

    images: (N, D) uint8 and labels: (N,) uint8, of the whole file. rows: (n,) uint32, the examples
    of this part, None for all in file order. images and labels are memory-mapped.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    rows: NDArray[np.uint32] | None = None

    def __len__(self) -> int:
        return len(self.images) if self.rows is None else len(self.rows)


@dataclass(frozen=True)
class Dataset:
    """A data set and its parts; `val` is None without validation images.

    sha256: the digest of its files. image_shape: (rows, columns). classes: their number C.
    """

    name: str
    sha256: str
    image_shape: tuple[int, int]
    classes: int
    train: Part
    val: Part | None
    test: Part


def load(
    name: str = "mnist",
    *,
    folder: str | None = None,
    cache: str | Path = DEFAULT_CACHE,
    num_val: int = 5000,
    num_train: int | None = None,
    split_seed: int = 0,
) -> Dataset:
    """Find, extract (once) and open a data set.

    name: of `sources.SOURCES`: "mnist", "fashion_mnist", or "idx" with a folder. num_val:
    validation images taken from the training set. num_train: training images, None for all that
    are left. split_seed: draws both. Raises `ValueError` for bad files, unknown names and
    impossible counts.
    """
    check_counts(measure(name, folder), num_val, num_train)
    digest = prepare(name, folder, cache)
    return open_dataset(digest, cache, num_val=num_val, num_train=num_train, split_seed=split_seed)


def check_counts(sizes: Sizes, num_val: int, num_train: int | None) -> None:
    """Raise `ValueError` unless the counts leave at least one training image."""
    if not 0 <= num_val < sizes.train:
        raise ValueError(
            f"dataset.num_val={num_val}: expected 0 to {sizes.train - 1}, because there are "
            f"{sizes.train} training images and at least one must stay"
        )
    if num_train is not None and not 1 <= num_train <= sizes.train - num_val:
        raise ValueError(
            f"dataset.num_train={num_train}: expected 1 to {sizes.train - num_val}, the training "
            f"images left beside {num_val} for validation"
        )


def open_dataset(
    digest: str,
    cache: str | Path = DEFAULT_CACHE,
    *,
    num_val: int = 5000,
    num_train: int | None = None,
    split_seed: int = 0,
) -> Dataset:
    """Map an extracted data set and divide it into parts; takes milliseconds.

    The validation images are drawn from the training set, each class in proportion, by `split_seed`
    alone, so that runs of different seeds share them. Raises `ValueError` when the data set is not
    in the cache, or is not the one with this digest anymore.
    """
    extracted = Path(cache) / digest
    try:
        if problem := integrity.check(extracted):
            raise ValueError(problem)
        meta = json.loads((extracted / integrity.META).read_text())
        arrays = {file: np.load(extracted / f"{file}.npy", mmap_mode="r") for file in FILES}
        labels = np.asarray(arrays[FILES[1]])
        kept, val_rows = _divide(labels, num_val, num_train, split_seed)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{extracted}: expected an extracted data set, found {error}; delete the folder and "
            "start the run again from its data set's files"
        ) from error
    train_images, test_images = flatten(arrays[FILES[0]]), flatten(arrays[FILES[2]])
    return Dataset(
        name=meta["name"],
        sha256=digest,
        image_shape=(meta["image_shape"][0], meta["image_shape"][1]),
        classes=meta["classes"],
        train=Part(train_images, labels, kept),
        val=Part(train_images, labels, val_rows) if num_val else None,
        test=Part(test_images, np.asarray(arrays[FILES[3]])),
    )


def flatten(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, rows, columns) -> (N, D) with D = rows x columns, row by row, without copying."""
    return images.reshape(len(images), -1)


def _divide(
    labels: NDArray[np.uint8], num_val: int, num_train: int | None, seed: int
) -> tuple[NDArray[np.uint32] | None, NDArray[np.uint32]]:
    """The rows of the training part, (n,) or None for all, and of the validation part (num_val,).

    Drawing them takes about 5 ms for 60,000 labels.
    """
    if num_val == 0 and num_train in (None, len(labels)):
        return None, np.zeros(0, np.uint32)
    kept, val_rows = split(labels, num_val, seed)
    if num_train is not None:
        kept = kept[split(labels[kept], num_train, seed + 1)[1]]
    return kept.astype(np.uint32), val_rows.astype(np.uint32)


def split(
    labels: NDArray[np.uint8], count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw `count` rows of `labels` (N,), every class in proportion.

    Returns the other rows (N - count,) and the drawn ones (count,), both sorted. Classes with the
    largest remainders take the examples that rounding leaves over.
    """
    generator = np.random.default_rng(seed)
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * count / len(labels)
    shares = np.floor(exact).astype(np.int64)
    shares[np.argsort(shares - exact, kind="stable")[: count - shares.sum()]] += 1
    drawn = np.zeros(len(labels), bool)
    for label, share in zip(classes, shares, strict=True):
        drawn[generator.permutation(np.flatnonzero(labels == label))[:share]] = True
    return np.flatnonzero(~drawn), np.flatnonzero(drawn)
