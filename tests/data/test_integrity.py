"""Whether an extracted data set is what its digest says, and the stamp that remembers it."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from harness.data import extraction, integrity
from harness.data.sources import FILES

ARRAYS = tuple(f"{file}.npy" for file in FILES)


@pytest.fixture
def extracted(tmp_path: Path, idx_folder: Path) -> Path:
    """The folder of a small data set in a cache, with its stamp."""
    folder = tmp_path / extraction.prepare("idx", str(idx_folder), tmp_path)
    assert integrity.check(folder) is None
    return folder


def flip(path: Path, at: int) -> None:
    """Change one byte of a file and give it the old size and modification time."""
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("name", ARRAYS)
def test_a_changed_byte_is_found_whatever_the_times_of_the_file(extracted: Path, name: str) -> None:
    flip(extracted / name, -1)
    assert integrity.check(extracted) == f"the arrays in {extracted} do not match its SHA-256"
    flip(extracted / name, -1)
    assert integrity.check(extracted) is None


def test_a_wrong_description_is_found(extracted: Path) -> None:
    meta = extracted / integrity.META
    text = meta.read_text()
    for wrong in ('"classes": 5', '"classes": "4"'):
        meta.write_text(text.replace('"classes": 4', wrong))
        assert "does not describe" in str(integrity.check(extracted))
    for rotten in ("", "[]", "null", text[:-9]):
        meta.write_text(rotten)
        assert "cannot be read" in str(integrity.check(extracted))
    meta.unlink()
    assert "meta.json is missing" in str(integrity.check(extracted))


@pytest.mark.parametrize("change", ["cut off", "longer", "empty", "missing"])
def test_a_file_of_another_size_is_found(extracted: Path, change: str) -> None:
    path = extracted / ARRAYS[0]
    content = path.read_bytes()
    path.write_bytes({"cut off": content[:-1], "longer": content + b"\0"}.get(change, b""))
    if change == "missing":
        path.unlink()
    assert integrity.check(extracted) is not None


def test_any_damage_of_a_header_is_found_or_harmless(extracted: Path) -> None:
    path = extracted / ARRAYS[2]
    good, array = path.read_bytes(), np.load(path)
    generator = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(good)
        content[generator.integers(0, 128)] = generator.integers(0, 256)
        path.write_bytes(content)
        if integrity.damage(extracted) is None:
            np.testing.assert_array_equal(np.load(path), array)


def test_the_files_are_read_once_until_a_boot_or_a_change(
    extracted: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read = []
    monkeypatch.setattr(integrity, "damage", lambda folder: read.append(folder))
    assert integrity.check(extracted) is None
    assert read == []
    os.utime(extracted / ARRAYS[1])
    for _ in range(2):
        integrity.check(extracted)
    assert len(read) == 1
    monkeypatch.setattr(integrity, "BOOT_ID", tmp_path / "boot_id")
    (tmp_path / "boot_id").write_text("another boot\n")
    for _ in range(2):
        integrity.check(extracted)
    assert len(read) == 2
    monkeypatch.undo()
    monkeypatch.setattr(integrity, "damage", lambda folder: read.append(folder))
    integrity.check(extracted)
    assert len(read) == 2, "another machine that shares the cache keeps its stamp"
    os.utime(integrity.stamp_of(extracted), (0, 0))
    (tmp_path / "boot_id").write_text("a third\n")
    monkeypatch.setattr(integrity, "BOOT_ID", tmp_path / "boot_id")
    integrity.check(extracted)
    assert len(read) == 3
    assert len(list(extracted.glob(".verified-*"))) == 2, "the oldest is removed"
    integrity.stamp_of(extracted).write_bytes(b"\xff rotten")
    integrity.check(extracted)
    assert len(read) == 4


def test_a_check_of_unchanged_files_is_cheap(extracted: Path) -> None:
    begin = time.process_time()
    for _ in range(100):
        integrity.check(extracted)
    assert time.process_time() - begin < 0.5  # about 0.03 s
