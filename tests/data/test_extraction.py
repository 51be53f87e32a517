"""Extraction: one digest for one content, races, kills, and files that do not fit together."""

import multiprocessing
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from harness.data import dataset, extraction, idx, integrity
from harness.data.sources import FILES
from harness.data.split import Split
from tests.conftest import write_idx_folder
from tests.data.test_integrity import flip as flip_with_old_times


def test_gzip_and_plain_have_one_digest(idx_folder: Path, tmp_path: Path) -> None:
    zipped = write_idx_folder(tmp_path / "zipped", suffix=".gz")
    digests = {extraction.prepare("idx", str(f), tmp_path / "cache") for f in (idx_folder, zipped)}
    assert len(digests) == 1


def test_changed_files_are_read_again(tmp_path: Path) -> None:
    folder = write_idx_folder(tmp_path / "own")
    first = extraction.prepare("idx", str(folder), tmp_path / "cache")
    assert extraction.prepare("idx", str(folder), tmp_path / "cache") == first
    write_idx_folder(folder, train=304)
    assert extraction.prepare("idx", str(folder), tmp_path / "cache") != first


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        digests = pool.map(partial(extraction.prepare, "mnist", None), [tmp_path] * 2)
    assert digests[0] == digests[1]
    assert not list(tmp_path.glob(".extracting-*"))
    assert dataset.open_dataset(digests[0], tmp_path, Split(5000)).classes == 10


def test_a_killed_extraction_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    code = (
        "from harness.data import extraction, idx\n"
        "import os, signal, sys\n"
        "copy = idx.copy_content\n"
        "def killed(path, write, **more):\n"
        "    if 't10k-images' in str(path): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return copy(path, write, **more)\n"
        "idx.copy_content = killed\n"
        "extraction.prepare('mnist', cache=sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    assert not list(tmp_path.glob("*/meta.json"))
    digest = extraction.prepare("mnist", cache=tmp_path)
    assert len(dataset.open_dataset(digest, tmp_path, Split(5000)).test) == 10_000


def damaged(tmp_path: Path, change: str) -> str:
    folder = write_idx_folder(tmp_path / "own")
    if change == "missing":
        (folder / FILES[3]).unlink()
    elif change == "counts":
        idx.write(folder / FILES[1], np.zeros(299, np.uint8))
    elif change == "shapes":
        idx.write(folder / FILES[2], np.zeros((100, 5, 6), np.uint8))
    elif change == "type":
        idx.write(folder / FILES[0], np.zeros((300, 6, 5), np.int16))
    elif change == "dimensions":
        idx.write(folder / FILES[0], np.zeros((300, 30), np.uint8))
    elif change == "no images":
        idx.write(folder / FILES[2], np.zeros((0, 6, 5), np.uint8))
        idx.write(folder / FILES[3], np.zeros(0, np.uint8))
    elif change == "labels":
        idx.write(folder / FILES[3], np.full(100, 9, np.uint8))
    return str(folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("missing", "t10k-labels-idx1-ubyte: expected this file or"),
        ("counts", "expected 300 labels, .* found 299"),
        ("shapes", "expected images of 6x5 .* found 5x6"),
        ("type", "found >i2 with 3"),
        ("dimensions", "found >?[|]?u.* with 2"),
        ("no images", "expected at least one"),
        ("labels", "a highest of 3 in training and 9 in the test set"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, change: str, expected: str) -> None:
    folder = damaged(tmp_path, change)
    with pytest.raises(ValueError, match=expected) as caught:
        dataset.load("idx", folder=folder, cache=tmp_path / "cache", num_val=0)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("*/meta.json"))


def flip(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_what_was_damaged_in_the_cache_is_extracted_again(tmp_path: Path) -> None:
    folder, cache = write_idx_folder(tmp_path / "own"), tmp_path / "cache"
    digest = extraction.prepare("idx", str(folder), cache)
    files = {path.name: path.read_bytes() for path in (cache / digest).glob("*.[nj]*")}
    mapped = np.load(cache / digest / f"{FILES[1]}.npy", mmap_mode="r")
    before = mapped.copy()
    for name in files:
        if not name.startswith(".verified"):
            (cache / digest / name).unlink()  # the mapped file stays as it was
            (cache / digest / name).write_bytes(files[name][:-1] + b"\7")
            with pytest.raises(ValueError, match=digest):
                dataset.open_dataset(digest, cache, Split(5000))
            assert extraction.prepare("idx", str(folder), cache) == digest
            assert (cache / digest / name).read_bytes() == files[name]
            dataset.open_dataset(digest, cache, Split(0))
    np.testing.assert_array_equal(mapped, before)
    (index,) = (cache / "index").iterdir()
    for rotten in (b"", b"[]", b"\xff", b'{"digest": "00"}'):
        index.write_bytes(rotten)
        assert extraction.prepare("idx", str(folder), cache) == digest


def test_a_lost_data_set_is_restored_from_its_own_files_only(tmp_path: Path) -> None:
    folder, cache = write_idx_folder(tmp_path / "own"), tmp_path / "cache"
    digest = extraction.prepare("idx", str(folder), cache)
    shutil.rmtree(cache)
    extraction.restore(digest, "idx", str(folder), cache)
    assert len(dataset.open_dataset(digest, cache, Split(0)).train) == 300
    shutil.rmtree(cache)
    write_idx_folder(folder, train=304)
    with pytest.raises(ValueError, match="they have changed since") as caught:
        extraction.restore(digest, "idx", str(folder), cache)
    assert "\n" not in str(caught.value)
    shutil.rmtree(folder)
    with pytest.raises(ValueError, match=r"cannot be extracted again: dataset\.dir="):
        extraction.restore(digest, "idx", str(folder), cache)
    with pytest.raises(ValueError, match="they have changed since"):
        extraction.restore(digest, "mnist", None, tmp_path / "other")
    assert not (tmp_path / "other").exists(), "another data set is not extracted for nothing"


def test_verify_repairs_what_it_can_and_names_the_rest(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert extraction.verify(cache) == []
    folders = [write_idx_folder(tmp_path / "a"), write_idx_folder(tmp_path / "b", train=304)]
    first, second = (cache / extraction.prepare("idx", str(f), cache) for f in folders)
    dataset.open_dataset(first.name, cache, Split(40))
    assert extraction.verify(cache) == []
    stamp = integrity.stamp_of(first).read_text()
    for path in (first / f"{FILES[0]}.npy", second / f"{FILES[0]}.npy"):
        flip(path)
    integrity.stamp_of(first).write_text(stamp)
    shutil.rmtree(folders[1])
    lines = sorted(extraction.verify(cache), key=lambda line: str(second) in line)
    assert len(lines) == 2
    assert lines[0] == f"the arrays in {first} do not match its SHA-256; extracted again"
    assert f"the arrays in {second} do not match its SHA-256; it cannot be" in lines[1]
    assert extraction.verify(cache) == lines[1:]


def test_files_that_are_replaced_while_they_are_read_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else their paths would lead to the data set of the old files forever."""
    folder, extract = write_idx_folder(tmp_path / "own"), extraction._extract

    def replaced(*arguments: object) -> str:
        digest = extract(*arguments)  # type: ignore[arg-type]  # as it was called
        write_idx_folder(folder, train=304)
        return digest

    monkeypatch.setattr(extraction, "_extract", replaced)
    with pytest.raises(ValueError, match=r"own: its files were changed while they were read"):
        extraction.prepare("idx", str(folder), tmp_path / "cache")
    monkeypatch.setattr(extraction, "_extract", extract)
    digest = extraction.prepare("idx", str(folder), tmp_path / "cache")
    assert len(dataset.open_dataset(digest, tmp_path / "cache", Split(0)).train) == 304


def test_files_that_are_replaced_with_the_old_times_are_read_again(tmp_path: Path) -> None:
    folder = write_idx_folder(tmp_path / "own")
    first = extraction.prepare("idx", str(folder), tmp_path / "cache")
    flip_with_old_times(folder / FILES[0], -1)
    assert extraction.prepare("idx", str(folder), tmp_path / "cache") != first


def test_a_damaged_data_set_is_extracted_once_however_many_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = write_idx_folder(tmp_path / "own"), tmp_path / "cache"
    digest = extraction.prepare("idx", str(folder), cache)
    before = (cache / digest).stat().st_ino
    flip(cache / digest / f"{FILES[0]}.npy")
    installed, install = [], extraction._install
    monkeypatch.setattr(
        extraction, "_install", lambda *paths: (installed.append(paths), install(*paths))
    )
    with ThreadPoolExecutor(4) as pool:
        with FileLock(cache / ".lock"):
            waiting = [pool.submit(extraction.prepare, "idx", str(folder), cache) for _ in range(4)]
            time.sleep(0.2)  # all have found the damage
        assert {each.result() for each in waiting} == {digest}
    assert len(installed) == 1
    assert (cache / digest).stat().st_ino != before, "moved in as a whole"
    assert not list(cache.glob(".extracting-*"))
