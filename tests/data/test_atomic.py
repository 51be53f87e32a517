"""Atomic writing: old content or new content, and errors that name the file."""

import errno
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

import pytest

from harness.data.atomic import link, write_atomically, write_text

OTHER = Path("/dev/shm")  # another file system


def test_a_folder_that_was_removed_does_not_come_back(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "b.txt"
    with pytest.raises(FileNotFoundError, match=r"'.*/runs/b\.txt'"):
        write_text(path, "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_mode_follows_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "b.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "b.txt").stat().st_mode & 0o777 == mode


def test_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    write_text(path, "é")
    write_text(path, "new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_content(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "b.txt"
    write_text(path, "old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    def full(file: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*b\.txt'"):
        write_atomically(tmp_path / "b.txt", full)


def test_a_folder_in_the_place_of_the_file_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(IsADirectoryError, match=r"Is a directory: '[^']*b\.txt'$"):
        write_text(tmp_path / "b.txt", "x")


def test_an_error_that_is_not_of_the_system_keeps_its_message(tmp_path: Path) -> None:
    def fail(file: BinaryIO) -> None:
        raise OSError("the stream is damaged")

    with pytest.raises(OSError, match=r"^the stream is damaged$"):
        write_atomically(tmp_path / "b.txt", fail)


def test_a_second_name_of_a_file(tmp_path: Path) -> None:
    """Made again after a kill; writing one file then leaves the other as it is."""
    first, path = tmp_path / "first", tmp_path / "second"
    write_text(first, "weights")
    path.write_text("earlier")
    (tmp_path / ".second.link").write_text("of a process that was killed")
    for _ in range(2):
        assert link(first, path)
        assert path.samefile(first)
        assert sorted(tmp_path.iterdir()) == [first, path]
    write_text(first, "other")
    assert path.read_text() == "weights"


def test_where_there_can_be_no_link_everything_stays(tmp_path: Path) -> None:
    path = tmp_path / "second"
    path.write_text("earlier")
    assert not link(tmp_path / "missing", path)
    if OTHER.is_dir() and OTHER.stat().st_dev != tmp_path.stat().st_dev:
        with tempfile.NamedTemporaryFile(dir=OTHER) as file:
            assert not link(Path(file.name), path)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]
