"""Read a data set of arrays from one .npz file, as np.savez writes it.

A file is never unpickled. Every fault raises a `ValueError` that names the file.
"""

import math
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from harness.data import arrays
from harness.data.atomic import named

MAX_BYTES = 16 << 30  # uncompressed; a file that declares more is assumed to be damaged


class Header(NamedTuple):
    """The dtype and shape in an array's header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def read_headers(path: Path) -> dict[str, Header]:
    """The headers of the arrays in an .npz file, checked. Raises `ValueError`."""
    with _opened(path) as archive:
        headers = _headers(archive)
        arrays.check_headers(headers)
        return headers


def read_names(path: Path) -> tuple[str, ...] | None:
    """The names of the classes in an .npz file; None if it has none. Raises `ValueError`."""
    with _opened(path) as archive:
        if f"{arrays.CLASSES}.npy" not in archive.namelist():
            return None
        arrays.check_names_header(_header(archive, arrays.CLASSES))
        with archive.open(f"{arrays.CLASSES}.npy") as file:
            found = np.lib.format.read_array(file, allow_pickle=False)
            file.read()  # to the end, where the checksum is compared
        return arrays.names_of(found)


def extract(path: Path, folder: Path) -> int:
    """Check the arrays of an .npz file and write them to `folder` as .npy files.

    Returns the number of classes. Memory does not grow with the file, except for labels. Raises
    `ValueError` naming the file.
    """
    names = read_names(path)
    with _opened(path) as archive:
        headers = _headers(archive)
        arrays.check_headers(headers)
        for name in headers:
            _copy(archive, f"{name}.npy", folder / f"{name}.npy")
        given = arrays.open_all(folder)
        for name, array in given.items():
            if name.startswith("x_") and not arrays.is_canonical(array):
                arrays.save(folder / f"{name}.npy", array)
        made, classes = arrays.prepared(arrays.open_all(folder), names)
        for name in made:
            if name.startswith("y_"):
                arrays.save(folder / f"{name}.npy", made[name])
    return classes


def _headers(archive: zipfile.ZipFile) -> dict[str, Header]:
    """The headers of the arrays of a data set. Raises `ValueError`."""
    stored = [name.removesuffix(".npy") for name in archive.namelist()]
    arrays.check_names(stored)
    headers = {name: _header(archive, name) for name in arrays.NAMES if name in stored}
    total = sum(header.dtype.itemsize * math.prod(header.shape) for header in headers.values())
    if total > MAX_BYTES:
        raise ValueError(
            f"its headers ask for {total:,} bytes, more than the limit of {MAX_BYTES:,}; the file "
            "is probably damaged"
        )
    return headers


def _header(archive: zipfile.ZipFile, name: str) -> Header:
    """The header of an array, compared with the size of its entry. Raises `ValueError`."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(
            f"{name}: expected a file written by np.savez, found an unsupported compression"
        )
    with archive.open(entry) as file:
        try:
            shape, dtype = _read_header(file)
        except Exception as error:  # NumPy evaluates the header, so damage can raise any exception
            raise ValueError(
                f"{name}: expected an array written by np.savez, found {_line(error)}"
            ) from None
        begin = file.tell()
    if dtype.hasobject:
        raise ValueError(
            f"{name}: expected an array of numbers, found one of Python objects, which would need "
            "pickle; give it a type, such as .astype('float32')"
        )
    content = dtype.itemsize * math.prod(shape)
    if begin + content != entry.file_size:
        raise ValueError(
            f"{name}: expected {content:,} bytes for shape {shape}, found "
            f"{entry.file_size - begin:,}; the file is damaged"
        )
    return Header(dtype, shape)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version} of the format")
    shape, _, dtype = read(file)
    return tuple(shape), dtype


def _copy(archive: zipfile.ZipFile, name: str, target: Path) -> None:
    """Copy an entry to a file; reading it to its end compares the checksum."""
    try:
        with archive.open(name) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, arrays.CHUNK)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise named(error, target) from None


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an .npz file; every failure to read it becomes a `ValueError` that names it."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"{path}: expected an .npz file as np.savez writes it, found a damaged or other file "
            f"({_line(error)})"
        ) from None
    except ValueError as error:
        text = str(error)
        raise ValueError(text if str(path) in text else f"{path}: {text}") from None
    except OSError as error:
        if error.filename not in (None, str(path)):
            raise  # from the file that is being written
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from None


def _line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
