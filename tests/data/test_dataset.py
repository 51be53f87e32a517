"""Data sets: extraction, cache, races, splits, and files that do not fit together."""

import json
import multiprocessing
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from harness.commands import export
from harness.data import dataset, idx
from harness.data.sources import FILES, measure
from tests.conftest import write_idx_folder


@pytest.fixture(scope="session")
def mnist_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    dataset.prepare("mnist", cache=cache)
    return cache


def test_mnist_is_what_it_should_be(mnist_cache: Path) -> None:
    data = dataset.load(cache=mnist_cache)
    assert (len(data.train), len(data.val or ()), len(data.test)) == (55_000, 5_000, 10_000)
    assert data.image_shape == (28, 28)
    assert data.classes == 10
    assert data.train.images.shape == (60_000, 784)
    assert isinstance(data.train.images, np.memmap)
    assert list(data.test.labels[:4]) == [7, 2, 1, 0]


def test_no_validation(mnist_cache: Path) -> None:
    data = dataset.load(cache=mnist_cache, num_val=0)
    assert data.val is None
    assert data.train.rows is None
    assert len(data.train) == 60_000


def test_rows_are_drawn_once_then_mapped(mnist_cache: Path) -> None:
    def opened() -> dataset.Dataset:
        return dataset.load(cache=mnist_cache, num_val=700, num_train=900, split_seed=3)

    first = opened()
    (path,) = mnist_cache.glob("*/rows-700-900-3.npy")
    written = path.stat().st_mtime_ns
    again = opened()
    assert path.stat().st_mtime_ns == written
    kept, drawn = dataset.split(first.train.labels, 700, 3)
    kept = kept[dataset.split(first.train.labels[kept], 900, 4)[1]]
    for data in (first, again):
        assert data.val is not None
        for part, expected in ((data.train, kept), (data.val, drawn)):
            assert part.rows is not None
            np.testing.assert_array_equal(part.rows, expected)
            for array in (part.images, part.labels, part.rows):
                assert not array.flags.writeable
                assert not array.flags.owndata, "a copy in memory, not the file"


def test_parts_are_disjoint_and_stratified(mnist_cache: Path) -> None:
    data = dataset.load(cache=mnist_cache, num_val=5000, num_train=1003)
    assert data.val is not None
    assert data.train.rows is not None
    assert data.val.rows is not None
    assert len(data.train) == 1003
    assert not set(data.train.rows) & set(data.val.rows)
    everything = np.bincount(data.train.labels)
    for part, count in ((data.val, 5000), (data.train, 1003)):
        assert part.rows is not None
        share = np.bincount(part.labels[part.rows])
        assert share.sum() == count
        assert np.abs(share - everything * count / 60_000).max() < 1.1


def test_split_depends_on_its_seed_only() -> None:
    labels = np.random.default_rng(0).integers(0, 5, 1000).astype(np.uint8)
    first, again, other = (dataset.split(labels, 100, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    kept, drawn = dataset.split(labels, 0, 1)
    assert (len(kept), len(drawn)) == (1000, 0)


def test_any_shape_and_classes(idx_folder: Path, tmp_path: Path) -> None:
    data = dataset.load("idx", folder=str(idx_folder), cache=tmp_path, num_val=20)
    assert data.image_shape == (6, 5)
    assert data.classes == 4
    assert data.train.images.shape == (300, 30)
    np.testing.assert_array_equal(
        data.test.images, idx.read(idx_folder / FILES[2]).reshape(100, 30)
    )


def test_gzip_and_plain_have_one_digest(idx_folder: Path, tmp_path: Path) -> None:
    zipped = write_idx_folder(tmp_path / "zipped", suffix=".gz")
    digests = {dataset.prepare("idx", str(f), tmp_path / "cache") for f in (idx_folder, zipped)}
    assert len(digests) == 1


def test_changed_files_are_read_again(tmp_path: Path) -> None:
    folder = write_idx_folder(tmp_path / "own")
    first = dataset.prepare("idx", str(folder), tmp_path / "cache")
    assert dataset.prepare("idx", str(folder), tmp_path / "cache") == first
    write_idx_folder(folder, train=304)
    assert dataset.prepare("idx", str(folder), tmp_path / "cache") != first


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        digests = pool.map(partial(dataset.prepare, "mnist", None), [tmp_path] * 2)
    assert digests[0] == digests[1]
    assert not list(tmp_path.glob(".extracting-*"))
    assert dataset.open_dataset(digests[0], tmp_path).classes == 10


def test_a_killed_extraction_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    code = (
        "from harness.data import dataset, idx\n"
        "import os, signal, sys\n"
        "copy = idx.copy_content\n"
        "def killed(path, write, **more):\n"
        "    if 't10k-images' in str(path): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return copy(path, write, **more)\n"
        "idx.copy_content = killed\n"
        "dataset.prepare('mnist', cache=sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    assert not list(tmp_path.glob("*/meta.json"))
    digest = dataset.prepare("mnist", cache=tmp_path)
    assert len(dataset.open_dataset(digest, tmp_path).test) == 10_000


def test_a_lost_cache_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected an extracted data set"):
        dataset.open_dataset("0" * 64, tmp_path)


def test_opening_the_cache_takes_milliseconds(mnist_cache: Path) -> None:
    # An order of magnitude above what it takes, and two below an extraction: no timing, a promise.
    begin = time.process_time()
    dataset.load(cache=mnist_cache)
    assert time.process_time() - begin < 0.2


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


def test_counts() -> None:
    sizes = measure("mnist")
    assert (sizes.train, sizes.test) == (60_000, 10_000)
    with pytest.raises(ValueError, match="num_val=60000: expected 0 to 59999"):
        dataset.check_counts(sizes, 60_000, None)
    with pytest.raises(ValueError, match="num_train=2: expected 1 to 1"):
        dataset.check_counts(sizes, 59_999, 2)


def test_json(idx_folder: Path, tmp_path: Path) -> None:
    data = dataset.load("idx", folder=str(idx_folder), cache=tmp_path, num_val=0)
    train, test = export.export_json(data, tmp_path / "json")
    for path, part in ((train, data.train), (test, data.test)):
        images, labels = export.load_json(path)
        np.testing.assert_array_equal(images, part.images)
        np.testing.assert_array_equal(labels, part.labels)
    assert set(json.loads(test.read_text())) == {"images", "labels"}
