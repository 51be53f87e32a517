"""Extract a data set's four IDX files, once, into a cache of .npy files that can be mapped.

They lie in `<cache>/<digest>/`; the digest is the SHA-256 of the digests of the four uncompressed
files.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from harness.data import download, idx
from harness.data.atomic import fsync_folder, named, write_text
from harness.data.sources import FILES, locate, measure, source

DEFAULT_CACHE = "outputs/cache"


def prepare(name: str, folder: str | None = None, cache: str | Path = DEFAULT_CACHE) -> str:
    """Extract a data set into the cache unless it is there, and return its digest.

    The first call reads every file to its end and verifies it; later calls take milliseconds.
    Several processes may call it at once. Raises `ValueError` naming the file that is wrong.
    """
    cache = Path(cache)
    known = source(name)
    paths = locate(name, folder)
    is_pinned = bool(known.digests) and folder is None
    if is_pinned:
        digest = _digest_of(known.digests)
        if (cache / digest / "meta.json").is_file():
            return digest
    elif paths is not None and (indexed := _indexed_digest(cache, paths)) is not None:
        return indexed
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):
        if paths is None:
            assert known.url is not None, "files that are not located have an address"
            paths = download.fetch(FILES, cache / "downloads" / name, known.url)
        measure(name, folder)
        digest = _extract(name, paths, cache)
        if not is_pinned:
            write_text(_index_path(cache, paths), json.dumps({"digest": digest}))
    return digest


def _digest_of(contents: Mapping[str, str]) -> str:
    """The digest of a data set from the SHA-256 of its four files."""
    return hashlib.sha256("".join(contents[file] for file in FILES).encode()).hexdigest()


def _index_path(cache: Path, paths: Mapping[str, Path]) -> Path:
    """The file that records the digest of these files, by their paths, sizes and change times."""
    stats = [(str(path.resolve()), path.stat()) for path in paths.values()]
    key = json.dumps([(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats])
    return cache / "index" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _indexed_digest(cache: Path, paths: Mapping[str, Path]) -> str | None:
    """The digest of files that were extracted before; None when they are new or have changed."""
    path = _index_path(cache, paths)
    if not path.is_file():
        return None
    digest = str(json.loads(path.read_text())["digest"])
    return digest if (cache / digest / "meta.json").is_file() else None


def _extract(name: str, paths: Mapping[str, Path], cache: Path) -> str:
    """Extract the files into `cache` under their digest, which is returned."""
    unfinished = Path(tempfile.mkdtemp(dir=cache, prefix=".extracting-"))
    try:
        contents, shapes = {}, {}
        for file, path in paths.items():
            shapes[file], contents[file] = _extract_file(path, unfinished / f"{file}.npy")
            expected = source(name).digests.get(file, contents[file])
            if contents[file] != expected:
                raise ValueError(
                    f"{path}: expected the {name} file with SHA-256 {expected}, found "
                    f"{contents[file]}; use dataset=idx for other files"
                )
        meta = _describe(name, unfinished, paths, shapes)
        digest = _digest_of(contents)
        write_text(unfinished / "meta.json", json.dumps(meta | {"contents": contents}, indent=1))
        if not (cache / digest / "meta.json").is_file():
            unfinished.rename(cache / digest)
            fsync_folder(cache)
        return digest
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _extract_file(path: Path, target: Path) -> tuple[tuple[int, ...], str]:
    """Write an IDX file's uint8 array as .npy. Returns its shape and the digest of the file."""
    header = idx.read_header(path)

    def write(chunk: bytes) -> None:
        try:
            file.write(chunk)
        except OSError as error:  # an error of writing, not of reading `path`
            raise named(error, target) from None

    try:
        with target.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": header.shape}
            )
            _, digest = idx.copy_content(path, write)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise named(error, target) from None
    return header.shape, digest


def _describe(
    name: str, folder: Path, paths: Mapping[str, Path], shapes: dict[str, tuple[int, ...]]
) -> dict[str, Any]:
    """The content of `meta.json`; checks the labels that are extracted in `folder`."""
    highest = [
        int(np.load(folder / f"{file}.npy", mmap_mode="r").max()) for file in (FILES[1], FILES[3])
    ]
    if highest[0] < 1 or highest[1] > highest[0]:
        raise ValueError(
            f"{paths[FILES[3] if highest[1] > highest[0] else FILES[1]]}: expected labels 0 to at "
            f"least 1 in training and no higher ones in the test set, found a highest of "
            f"{highest[0]} in training and {highest[1]} in the test set"
        )
    return {
        "name": name,
        "classes": highest[0] + 1,
        "image_shape": shapes[FILES[0]][1:],
        "train": shapes[FILES[0]][0],
        "test": shapes[FILES[2]][0],
    }
