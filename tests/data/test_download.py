"""Downloads: complete files or an error that names the address."""

from pathlib import Path

import pytest

from harness.data import download
from harness.data.sources import FILES


def test_download(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = served
    paths = download.fetch(FILES, tmp_path / "got", url)
    for file in FILES:
        assert paths[file].read_bytes() == (folder / f"{file}.gz").read_bytes()


def test_download_of_a_missing_file(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = served
    (folder / f"{FILES[2]}.gz").unlink()
    with pytest.raises(ValueError, match=rf"{FILES[2]}\.gz: cannot be downloaded"):
        download.fetch(FILES, tmp_path / "got", url)
    assert not (tmp_path / "got" / f"{FILES[2]}.gz").exists()


def test_download_without_a_server(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be downloaded .*dataset.dir=FOLDER"):
        download.fetch(FILES, tmp_path, "http://127.0.0.1:9")
