"""Data sets that a user's function makes: `dataset=mine.data:spirals dataset.noise=0.1`.

The function returns arrays by name, like an .npz file of `dataset=arrays`: x_train, y_train,
x_test, y_test, and optionally x_val, y_val and classes. Each command calls it once, because what it
reads may have changed since the last command. Checking a configuration writes nothing; freezing one
writes the arrays into the cache under the digest of their content.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data import arrays, extraction, integrity, sources
from harness.data.atomic import write_atomically
from harness.data.sources import Sizes
from harness.runfolder import own_code, parts
from harness.runfolder.kinds import DATASET
from harness.runfolder.parts import PartError
from harness.runfolder.schema import DatasetConfig

if TYPE_CHECKING:
    from harness.data.dataset import Dataset

MADE = "made"  # the folder in the cache
FIELDS = frozenset(field.name for field in dataclasses.fields(DatasetConfig))
_made: dict[str, "Made"] = {}  # of this process, by name, keys and source


@dataclass(frozen=True)
class Made:
    """What the function returned, with checked headers.

    arrays: by name; empty once they are in the cache. sizes: the sizes of the data set. names: the
    class names, or None.
    """

    name: str
    arrays: dict[str, Any]
    sizes: Sizes
    names: tuple[str, ...] | None

    @cached_property
    def digest(self) -> str:
        """The digest that extracting the data set gives. Raises `PartError`."""
        try:
            return arrays.digest(*arrays.prepared(self.arrays, self.names))
        except ValueError as error:
            raise PartError(f"dataset={self.name}: {error}") from error

    @property
    def file(self) -> str:
        """The name of its file in the cache, which depends on the arrays and the class names."""
        text = json.dumps([self.digest, self.names])
        return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"


def check_keys(name: str) -> None:
    """Raise `PartError` if a keyword of the function is a key of every data set."""
    for key in parts.keys(DATASET.name, name):
        if key.name in FIELDS:
            raise PartError(
                f"dataset={name}: its keyword {key.name!r} is a key of every data set; expected "
                f"another name than {', '.join(sorted(FIELDS))}"
            )


def measure(settings: DatasetConfig) -> Sizes:
    """The sizes of a data set; writes nothing. Raises `ValueError`."""
    if settings.is_own:
        return _of(settings).sizes
    return sources.measure(settings.name, settings.place)


def known_digest(settings: DatasetConfig, cache: Path) -> str | None:
    """The digest of a data set, None if it must be extracted first; writes nothing."""
    if settings.is_own:
        return _of(settings).digest
    return extraction.known_digest(settings.name, settings.place, cache)


def load(settings: DatasetConfig, cache: Path, digest: str | None = None) -> "Dataset":
    """Extract or make a data set in the cache, unless it is there; open and split it.

    digest: the digest that the data set must have; None accepts it as it is now. Raises
    `ValueError`, also if the data set has changed since.
    """
    from harness.data.dataset import open_dataset

    if digest is None:
        digest = extraction.prepare(*_located(settings, cache), cache)
    else:
        _restore(digest, settings, cache)
    return open_dataset(digest, cache, settings.split, label=settings.title)


def _located(settings: DatasetConfig, cache: Path) -> tuple[str, str | None]:
    """The format of a data set and where its files are, for the functions of `harness.data`.

    Writes the arrays of a user's function into the cache. Raises `PartError` or `OwnCodeError` if
    that fails.
    """
    if not settings.is_own:
        return settings.name, settings.place
    made = _of(settings)
    path = cache / MADE / made.file
    if not path.is_file() and not made.arrays:  # removed since, or in another cache
        _made.clear()
        made = _of(settings)
        path = cache / MADE / made.file
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        known = (*arrays.NAMES, arrays.CLASSES)
        kept: dict[str, Any] = {key: made.arrays[key] for key in known if key in made.arrays}
        write_atomically(path, lambda file: np.savez(file, **kept))
    made.arrays.clear()
    return "arrays", str(path)


def _restore(digest: str, settings: DatasetConfig, cache: Path) -> None:
    """Extract or make a data set again, unless the cache has it undamaged.

    Raises `ValueError` if that fails or the data set has changed since.
    """
    if settings.is_own:
        problem = integrity.check(cache / digest)
        if problem is None:
            return
        _made.clear()  # what the function reads may have been restored since
        found = _of(settings).digest
        if found != digest:
            raise ValueError(
                f"{problem}; it cannot be made again: expected dataset={settings.name} to return "
                f"the data with digest {digest[:16]}, found {found[:16]}; what it reads has "
                "changed since"
            )
    extraction.restore(digest, *_located(settings, cache), cache)


def _of(settings: DatasetConfig) -> Made:
    """The result of the function, called once. Raises `PartError` or `OwnCodeError`."""
    code = own_code.digest(own_code.sources([settings.name]))
    key = own_code.key_of(settings.name, dict(settings.options), code)
    if key not in _made:
        found = _call(settings)
        try:
            arrays.check_names(list(found))
            arrays.check_headers(found)
            names = arrays.names_of(found[arrays.CLASSES]) if arrays.CLASSES in found else None
        except ValueError as error:
            raise PartError(f"dataset={settings.name}: {error}") from error
        _made[key] = Made(settings.name, found, sources.sizes_of(found), names)
    return _made[key]


def _call(settings: DatasetConfig) -> dict[str, Any]:
    key = f"dataset={settings.name}"
    try:
        with own_code.staying():
            returned = parts.factory("dataset", settings.name)(**settings.options)
    except (PartError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PartError(f"{key}: {own_code.described(error)}") from error
    if not isinstance(returned, dict) or not all(isinstance(name, str) for name in returned):
        raise PartError(
            f"{key}: expected it to return arrays by name, {{'x_train': ..., 'y_train': ..., "
            f"'x_test': ..., 'y_test': ...}}, found {type(returned).__name__}"
        )
    found = {name: np.asarray(array) for name, array in returned.items()}
    for name, array in found.items():
        if array.dtype == object:
            raise PartError(f"{key}: {name}: expected numbers, found an array of objects")
    return found
