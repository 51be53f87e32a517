"""The table of data sets: where files are found, what they must contain, and adding a row."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.data import dataset, extraction
from harness.data.sources import FILES, SOURCES, Sizes, Source, locate, measure
from harness.run import compose
from harness.runfolder import config


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each plain IDX file in `folder`."""
    return {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in FILES}


def test_a_data_set_is_added_by_one_row(
    idx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Source(digests=digests(idx_folder), folder=idx_folder)
    monkeypatch.setitem(SOURCES, "letters", row)
    data = dataset.load("letters", cache=tmp_path, num_val=40)
    assert (data.name, len(data.train), data.input_shape) == ("letters", 260, (6, 5))
    settings = compose.compose_one(["dataset.name=letters", "dataset.num_val=299"])
    config.check(replace(settings, batch=1))
    with pytest.raises(ValueError, match="batch=32: expected 1 to 1, the number of training"):
        config.check(settings)


def test_files_that_are_not_on_this_machine_are_one_line(
    idx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sizes are known, so that a configuration can be checked; `dataset.dir` is read."""
    known, missing = digests(idx_folder), tmp_path / "not there"
    row = Source(known, missing, Sizes(300, 100, (6, 5)), package="the package letters")
    monkeypatch.setitem(SOURCES, "letters", row)
    assert locate("letters", None) is None
    assert measure("letters") == row.sizes
    with pytest.raises(
        ValueError,
        match=r"letters: expected its files in .*not there, found none; "
        r"the package letters installs them there; or set dataset\.dir=",
    ):
        dataset.load("letters", cache=tmp_path / "cache", num_val=0)
    data = dataset.load("letters", folder=str(idx_folder), cache=tmp_path / "cache", num_val=0)
    assert len(data.test) == 100


def test_every_row_is_complete() -> None:
    for name, row in SOURCES.items():
        assert set(row.digests) in ({*FILES}, set()), name
        assert row.folder is None or row.sizes is not None, name
        if row.folder is not None and row.folder.is_dir():
            assert measure(name) == row.sizes, name


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"dataset 'mnits': expected .*; did you mean 'mnist'\?"):
        measure("mnits")


def test_idx_needs_a_folder() -> None:
    with pytest.raises(ValueError, match=r"dataset=idx: expected dataset\.dir=FOLDER"):
        measure("idx")


def test_other_content_under_a_pinned_name(idx_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected the mnist file with SHA-256 ba89"):
        extraction.prepare("mnist", str(idx_folder), tmp_path)


@pytest.mark.service
def test_fashion_mnist_of_the_system(tmp_path: Path) -> None:
    folder = SOURCES["fashion_mnist"].folder
    if folder is None or not folder.is_dir():
        pytest.skip("apt-get install dataset-fashion-mnist")
    data = dataset.load("fashion_mnist", cache=tmp_path)
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
