"""Data sets that a function of the user's makes: `dataset=mine.data:spirals dataset.noise=0.1`.

The function returns arrays by name, as an .npz file of `dataset=arrays` has them: x_train, y_train,
x_test, y_test, and if there are some x_val, y_val and classes. It is called once; the arrays are
kept in the cache, by the digest of its name, its keys and its source.
"""

from pathlib import Path
from typing import Any

import numpy as np

from harness.data.atomic import write_atomically
from harness.runfolder import own_code, parts
from harness.runfolder.parts import PartError
from harness.runfolder.schema import DatasetConfig

MADE = "made"  # the folder in the cache


def located(settings: DatasetConfig, cache: Path) -> tuple[str, str | None]:
    """The format of a data set and where its files are, for the functions of `harness.data`.

    The arrays of the user's function are made when the cache does not have them. Raises
    `PartError`, or `OwnCodeError`, when that fails.
    """
    if not settings.is_own:
        return settings.name, settings.place
    code = own_code.digest(own_code.sources([settings.name]))
    key = own_code.key_of(settings.name, dict(settings.options), code)
    path = cache / MADE / f"{key}.npz"
    if not path.is_file():
        arrays = _call(settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: np.savez(file, **arrays))
    return "arrays", str(path)


def _call(settings: DatasetConfig) -> dict[str, Any]:
    key = f"dataset={settings.name}"
    try:
        arrays = parts.factory("dataset", settings.name)(**settings.options)
    except PartError:
        raise
    except (Exception, SystemExit) as error:
        raise PartError(f"{key}: {own_code.described(error)}") from error
    if not isinstance(arrays, dict) or not all(isinstance(name, str) for name in arrays):
        raise PartError(
            f"{key}: expected it to return arrays by name, {{'x_train': ..., 'y_train': ..., "
            f"'x_test': ..., 'y_test': ...}}, found {type(arrays).__name__}"
        )
    found = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in found.items():
        if array.dtype == object:
            raise PartError(f"{key}: {name}: expected numbers, found an array of objects")
    return found
