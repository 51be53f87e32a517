"""Read and write IDX files, plain or gzip, the format of MNIST (http://yann.lecun.com/exdb/mnist).

    byte 0, 1   zero
    byte 2      type code (see TYPES)
    byte 3      number of dimensions n
    4n bytes    the dimensions, big-endian 32-bit
    then        the array, big-endian, last dimension fastest

A reader that stops after the last expected byte never reaches gzip's checksum and accepts flipped
bits, so this one reads one byte further. Every fault of a file raises a `ValueError` that names the
file, what was expected and what was found.
"""

import gzip
import hashlib
import io
import math
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from harness.data.atomic import named, write_atomically

__all__ = ["read", "write"]

TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
MAX_BYTES = 16 << 30  # a header with a larger size is assumed to be damaged
MAX_DIMENSIONS = 8
CHUNK = 1 << 20


@dataclass(frozen=True)
class Header:
    """The dtype and shape in a file's header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the header itself."""
        return 4 + 4 * len(self.shape)

    @property
    def content(self) -> int:
        """Bytes of the array."""
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def raw(self) -> bytes:
        """The header as bytes."""
        code = next(code for code, dtype in TYPES.items() if dtype == self.dtype)
        return bytes([0, 0, code, len(self.shape)]) + np.array(self.shape, ">u4").tobytes()


def read_header(path: Path, *, max_bytes: int = MAX_BYTES) -> Header:
    """Read and check the header only. Raises `ValueError`."""
    with _opened(path) as file:
        return _header(path, file, max_bytes)[0]


def read(path: Path, *, max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """Read a whole file as an array in native byte order. Raises `ValueError`."""
    content = io.BytesIO()
    header, _ = copy_content(path, content.write, max_bytes=max_bytes)
    array = np.frombuffer(content.getbuffer(), header.dtype).reshape(header.shape)
    return array.astype(header.dtype.newbyteorder("="))


def copy_content(
    path: Path, write: Callable[[bytes], object], *, max_bytes: int = MAX_BYTES
) -> tuple[Header, str]:
    """Stream the array's bytes (without the header) to `write`, in constant memory.

    Returns the header and the SHA-256 of the whole uncompressed file. Raises `ValueError` when the
    file does not match its header; what was written is then incomplete.
    """
    with _opened(path) as file:
        header, raw = _header(path, file, max_bytes)
        digest = hashlib.sha256(raw)
        left = header.content
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise ValueError(
                    f"{path}: expected {header.content:,} bytes for shape {header.shape}, found "
                    f"only {header.content - left:,}; the file is cut off, fetch it again"
                )
            digest.update(chunk)
            write(chunk)
            left -= len(chunk)
        if file.read(1):
            raise ValueError(
                f"{path}: expected {header.content:,} bytes for shape {header.shape}, found more; "
                "this is not the file its header describes"
            )
    return header, digest.hexdigest()


def extract(path: Path, target: Path) -> str:
    """Write an IDX file of uint8 as .npy. Returns the digest of the file. Raises `ValueError`."""
    header = read_header(path)

    def save(chunk: bytes) -> None:
        try:
            file.write(chunk)
        except OSError as error:  # a write error, not a read error of `path`
            raise named(error, target) from None

    try:
        with target.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": header.shape}
            )
            _, digest = copy_content(path, save)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise named(error, target) from None
    return digest


def write(path: Path, array: NDArray[Any]) -> None:
    """Write an array as IDX, gzipped if the name ends in `.gz`; equal arrays give equal bytes.

    Creates the folder if it is missing. Raises `ValueError` for a dtype that IDX has no code for.
    """
    stored = array.dtype.newbyteorder(">")
    if stored not in TYPES.values():
        names = ", ".join(dtype.newbyteorder("=").name for dtype in TYPES.values())
        raise ValueError(f"{path}: IDX stores {names}, found {array.dtype}; convert the array")
    content = Header(stored, array.shape).raw + array.astype(stored).tobytes()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(content))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open the uncompressed content; every failure to read it becomes a `ValueError`."""
    try:
        with path.open("rb") as plain:
            magic = plain.read(2)
            plain.seek(0)
            if not magic:
                raise ValueError(f"{path}: expected an IDX file, found an empty file")
            if magic == b"\x1f\x8b":
                with gzip.GzipFile(fileobj=plain) as unzipped:
                    yield unzipped  # type: ignore[misc]  # GzipFile reads as a BinaryIO does
            else:
                yield plain
    except FileNotFoundError:
        raise ValueError(f"{path}: expected an IDX file, found no such file") from None
    except EOFError:
        raise ValueError(f"{path}: the gzip stream is cut off; fetch the file again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: the gzip stream is damaged ({error}); fetch it again") from None
    except OSError as error:
        if error.filename not in (None, str(path)):
            raise  # from the file that the content is written to
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from None


def _header(path: Path, file: BinaryIO, max_bytes: int) -> tuple[Header, bytes]:
    raw = file.read(4)
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in TYPES:
        raise ValueError(
            f"{path}: expected an IDX file that begins with 00 00, a type code ("
            + ", ".join(f"{code:02x}" for code in TYPES)
            + f") and the number of dimensions, found {raw.hex(' ') or 'nothing'}"
        )
    count = raw[3]
    if not 1 <= count <= MAX_DIMENSIONS:
        raise ValueError(f"{path}: expected 1 to {MAX_DIMENSIONS} dimensions, found {count}")
    sizes = file.read(4 * count)
    if len(sizes) < 4 * count:
        raise ValueError(f"{path}: the header is cut off; fetch the file again")
    header = Header(TYPES[raw[2]], tuple(int(n) for n in np.frombuffer(sizes, ">u4")))
    if header.content > max_bytes:
        raise ValueError(
            f"{path}: its header asks for {header.content:,} bytes (shape {header.shape}), more "
            f"than the limit of {max_bytes:,}; the header is probably damaged"
        )
    return header, raw + sizes
