"""IDX files: round trips, and every kind of damage as one clear line under a memory limit."""

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.data import idx
from harness.data.sources import FILES, SOURCES

# Reads argv[1] with half a gigabyte to spare; a reader that trusts a header dies here.
READ_UNDER_LIMIT = """
import resource, sys
from pathlib import Path
from harness.data import idx
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20),) * 2)
try:
    idx.read(Path(sys.argv[1]), max_bytes=1 << 30)
except ValueError as error:
    print(error)
"""


def read_under_limit(path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", READ_UNDER_LIMIT, str(path)], capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.stdout


def image_file(count: int = 10) -> bytes:
    content = np.random.default_rng(0).integers(0, 256, count * 784).astype(np.uint8)
    return struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28) + content.tobytes()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_the_real_files() -> None:
    folder = SOURCES["mnist"].folder
    assert folder is not None
    labels = idx.read(folder / f"{FILES[1]}.gz")
    images = idx.read(folder / f"{FILES[2]}.gz")
    assert images.shape == (10_000, 28, 28)
    assert images.dtype == np.uint8
    assert list(labels[:5]) == [5, 0, 4, 1, 9]
    assert np.bincount(labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a", "a.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_round_trip(tmp_path: Path, name: str, dtype: str) -> None:
    generator = np.random.default_rng(3)
    for dimensions in range(1, 5):
        shape = tuple(generator.integers(0, 5, dimensions))
        array = (generator.normal(size=shape) * 100).astype(dtype)
        idx.write(tmp_path / name, array)
        back = idx.read(tmp_path / name)
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


def test_equal_arrays_give_equal_files(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        idx.write(tmp_path / name, np.arange(5, dtype=np.uint8))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_refuses_a_type_without_a_code(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found int64"):
        idx.write(tmp_path / "a", np.arange(3))
    assert list(tmp_path.iterdir()) == []


DAMAGE = {
    "empty": (b"", "empty"),
    "truncated": (image_file()[:-1], "only 7,839"),
    "header cut": (image_file()[:9], "header is cut off"),
    "too long": (image_file() + b"x", "found more"),
    "wrong magic": (b"\x89PNG" + image_file()[4:], "found 89 50 4e 47"),
    "type code": (b"\0\0\x07\x03" + image_file()[4:], "found 00 00 07 03"),
    "no dimensions": (b"\0\0\x08\x00" + image_file()[4:], "found 0"),
    "huge": (struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "limit"),
    "more than memory": (struct.pack(">4B3I", 0, 0, 8, 3, 1_000_000, 32, 32), "only 0"),
    "gzip empty": (gzip.compress(b""), "nothing"),
    "gzip cut": (gzip.compress(image_file())[:-9], "cut off"),
    "gzip trailer cut": (gzip.compress(image_file())[:-8], "cut off"),
    "gzip checksum": (flipped(gzip.compress(image_file()), -60), "damaged"),
    "gzip bomb": (gzip.compress(image_file() + bytes(1 << 30), 1), "found more"),
    "gzip bit": (flipped(gzip.compress(image_file()), 8 * 3000), "damaged"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_line_under_a_memory_limit(tmp_path: Path, kind: str) -> None:
    content, expected = DAMAGE[kind]
    path = tmp_path / "some-file"
    path.write_bytes(content)
    said = read_under_limit(path)
    assert said.count("\n") == 1
    assert said.startswith(f"{path}: ")
    assert expected in said


def test_every_flipped_bit_of_a_gzip_file_is_detected(tmp_path: Path) -> None:
    """Except in the parts of gzip's own header that say nothing about the content."""
    path = tmp_path / "file.gz"
    content = gzip.compress(image_file(1), mtime=0)
    harmless = {bit for byte in (4, 5, 6, 7, 8, 9) for bit in range(8 * byte, 8 * byte + 8)}
    truth = image_file(1)
    for bit in range(0, 8 * len(content), 7):
        path.write_bytes(flipped(content, bit))
        read = bytearray()
        try:
            idx.copy_content(path, read.extend)
        except ValueError as error:
            unnoticed = str(path) not in str(error)
        else:
            unnoticed = bit not in harmless and bytes(read) != truth[16:]
        assert not unnoticed, f"bit {bit}"


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        idx.read_header(tmp_path / "nothing")
    with pytest.raises(ValueError, match="cannot be read"):
        idx.read_header(tmp_path)
