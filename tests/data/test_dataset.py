"""Data sets: their parts, mapped from the cache."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from harness.commands import export
from harness.data import dataset, extraction, idx
from harness.data.integrity import META
from harness.data.sources import FILES
from harness.data.split import Split, draw


@pytest.fixture(scope="session")
def mnist_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    extraction.prepare("mnist", cache=cache)
    return cache


def test_mnist_has_the_published_sizes(mnist_cache: Path) -> None:
    data = dataset.load(cache=mnist_cache)
    assert (len(data.train), len(data.val or ()), len(data.test)) == (55_000, 5_000, 10_000)
    assert data.input_shape == (28, 28)
    assert data.classes == 10
    assert data.train.inputs.shape == (60_000, 784)
    assert isinstance(data.train.inputs, np.memmap)
    assert list(data.test.labels[:4]) == [7, 2, 1, 0]


def test_no_validation(mnist_cache: Path) -> None:
    data = dataset.load(cache=mnist_cache, num_val=0)
    assert data.val is None
    assert data.train.rows is None
    assert len(data.train) == 60_000


def test_rows_are_drawn_each_time_and_no_file_has_them(mnist_cache: Path) -> None:
    """A damaged file of rows beyond the last image would make the compiled epoch read there."""
    (folder,) = mnist_cache.glob("*/" + META)
    before = sorted(folder.parent.iterdir())
    data = dataset.load(cache=mnist_cache, num_val=700, num_train=900, split_seed=3)
    assert sorted(folder.parent.iterdir()) == before
    kept, drawn = draw(data.train.labels, 700, 3)
    kept = kept[draw(data.train.labels[kept], 900, 4)[1]]
    assert data.val is not None
    for part, expected in ((data.train, kept), (data.val, drawn)):
        assert part.rows is not None
        np.testing.assert_array_equal(part.rows, expected)
        assert part.rows.dtype == np.uint32
        for array in (part.inputs, part.labels):
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


def test_any_shape_and_classes(idx_folder: Path, tmp_path: Path) -> None:
    data = dataset.load("idx", folder=str(idx_folder), cache=tmp_path, num_val=20)
    assert data.input_shape == (6, 5)
    assert data.classes == 4
    assert data.train.inputs.shape == (300, 30)
    np.testing.assert_array_equal(
        data.test.inputs, idx.read(idx_folder / FILES[2]).reshape(100, 30)
    )


def test_a_lost_cache_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected an extracted data set"):
        dataset.open_dataset("0" * 64, tmp_path, Split(0))


def test_opening_the_cache_takes_milliseconds(mnist_cache: Path) -> None:
    # The limit is ten times what it takes and a hundredth of an extraction.
    begin = time.process_time()
    dataset.load(cache=mnist_cache)
    assert time.process_time() - begin < 0.2


def test_json(idx_folder: Path, tmp_path: Path) -> None:
    data = dataset.load("idx", folder=str(idx_folder), cache=tmp_path, num_val=0)
    train, test = export.write_json(data, tmp_path / "json")
    for path, part in ((train, data.train), (test, data.test)):
        content = json.loads(path.read_text())
        images, labels = content["images"], content["labels"]
        np.testing.assert_array_equal(images, part.inputs)
        np.testing.assert_array_equal(labels, part.labels)
    assert set(json.loads(test.read_text())) == {"images", "labels"}


def test_a_data_set_is_shown_in_a_line() -> None:
    x = np.zeros((20, 2, 3), np.uint8)
    data = dataset.Dataset.from_arrays(x, np.arange(20) % 4, num_val=5, name="own")
    assert repr(data) == ("Dataset('own', input_shape=(2, 3), classes=4, train=15, val=5, test=0)")
    assert repr(data.train) == "Part(15 examples of 6 numbers, uint8)"
    data = dataset.Dataset.from_arrays(x, np.ones((20, 2), np.float32), num_val=0)
    assert repr(data).endswith("targets=2, train=20, val=0, test=0)")
