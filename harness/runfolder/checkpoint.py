"""Arrays and their description in one safetensors file, written atomically and checksummed.

The description is JSON in the file's metadata, together with the SHA-256 of the arrays, so a
flipped bit is detected when the file is read. Nothing is pickled.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.atomic import write_atomically

Arrays = dict[str, NDArray[Any]]


def save(path: Path, arrays: Arrays, description: dict[str, Any]) -> None:
    """Write named arrays and a JSON-able description to `path`, whole or not at all.

    Creates the parent folder of `path` if it is missing, but not the run folder above it.
    """
    from safetensors.numpy import save as to_bytes

    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    # One key: safetensors writes several in random order, and equal runs must give equal files.
    text = json.dumps({"description": description, "sha256": _digest(arrays)})
    content = to_bytes(arrays, metadata={"harness": text})
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lambda file: file.write(content))


def load(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Read what `save` wrote. Raises `ValueError` naming the file if it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads(file.metadata()["harness"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        description: dict[str, Any] = metadata["description"]
        if not isinstance(description, dict):
            raise TypeError("no description")
        expected = metadata["sha256"]
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected a file written by this harness, found {error}"
        ) from error
    if expected != _digest(arrays):
        raise ValueError(f"{path}: the arrays do not match their SHA-256; the file is damaged")
    return arrays, description


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
