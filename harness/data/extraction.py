"""Extract a data set's four IDX files, once, into a cache of .npy files that can be mapped.

They lie in `<cache>/<digest>/`; the digest is the SHA-256 of the digests of the four uncompressed
files. What is in the cache is compared with it before it is used (see integrity.py).
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from filelock import FileLock

from harness.data import download, idx, integrity
from harness.data.atomic import fsync_folder, named, write_text
from harness.data.integrity import META, STAMP, digest_of
from harness.data.sources import FILES, SOURCES, locate, measure, source

DEFAULT_CACHE = "outputs/cache"


def prepare(name: str, folder: str | None = None, cache: str | Path = DEFAULT_CACHE) -> str:
    """Extract a data set into the cache unless it is there undamaged, and return its digest.

    The first call reads every file to its end and verifies it; later calls take milliseconds.
    Several processes may call it at once. Raises `ValueError` naming the file that is wrong.
    """
    cache = Path(cache)
    known = source(name)
    paths = locate(name, folder)
    is_pinned = bool(known.digests) and folder is None
    if is_pinned:
        digest = digest_of(known.digests)
        if integrity.check(cache / digest) is None:
            return digest
    elif paths is not None and (indexed := _indexed_digest(cache, paths)) is not None:
        return indexed
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):
        if paths is None:
            paths = _download(name, cache / "downloads" / name)
        measure(name, folder)
        digest = _extract(name, folder, paths, cache)
        if not is_pinned:
            index = _index_path(cache, paths)
            index.parent.mkdir(exist_ok=True)
            write_text(index, json.dumps({"digest": digest}))
    return digest


def restore(digest: str, name: str, folder: str | None, cache: str | Path) -> None:
    """Extract a data set again if it is not in the cache or was damaged there.

    name and folder: of its files, as for `prepare`. Raises `ValueError` when they are not on this
    machine or have changed since.
    """
    extracted = Path(cache) / digest
    problem = integrity.check(extracted)
    if problem is None:
        return
    try:
        pinned = source(name).digests
        is_other = bool(pinned) and folder is None and digest_of(pinned) != digest
        found = "other files" if is_other else prepare(name, folder, cache)
    except (ValueError, OSError) as error:
        raise ValueError(f"{problem}; it cannot be extracted again: {error}") from error
    if found != digest:
        raise ValueError(
            f"{problem}; it cannot be extracted again: expected the files of {folder or name} with "
            f"digest {digest[:16]}, found {found[:16]}; they have changed since"
        )


def verify(cache: str | Path) -> list[str]:
    """Compare everything in the cache with its digest, and repair what differs.

    Returns a line for each problem: what was found and what was done.
    """
    lines = []
    for folder in sorted(Path(cache).glob("*")):
        if not re.fullmatch(r"[0-9a-f]{64}", folder.name):
            continue
        problem = integrity.damage(folder)
        if problem is not None:
            (folder / STAMP).unlink(missing_ok=True)
            try:
                restore(folder.name, *_origin(folder), cache)
                lines.append(f"{problem}; extracted again")
            except (ValueError, OSError) as error:
                lines.append(str(error))
    return lines


def _origin(folder: Path) -> tuple[str, str | None]:
    """Name and folder of the files that were extracted into `folder`, as far as they are known."""
    for name, known in SOURCES.items():
        if known.digests and digest_of(known.digests) == folder.name:
            return name, None
    with suppress(OSError, ValueError, KeyError, TypeError):
        meta = json.loads((folder / META).read_text())
        return str(meta["name"]), meta["folder"]
    return "idx", None


def _download(name: str, folder: Path) -> Mapping[str, Path]:
    """Download the files of a data set, and again those that are there and damaged."""
    known = source(name)
    assert known.url is not None, "files that are not located have an address"
    for file in FILES:
        path = folder / f"{file}.gz"
        if path.is_file():
            try:
                _, content = idx.copy_content(path, lambda chunk: None)
            except ValueError:
                content = ""
            if content != known.digests.get(file, content):
                path.unlink()
    return download.fetch(FILES, folder, known.url)


def _index_path(cache: Path, paths: Mapping[str, Path]) -> Path:
    """The file that records the digest of these files, by their paths, sizes and change times."""
    stats = [(str(path.resolve()), path.stat()) for path in paths.values()]
    key = json.dumps([(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats])
    return cache / "index" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _indexed_digest(cache: Path, paths: Mapping[str, Path]) -> str | None:
    """The digest of files that were extracted before.

    None when they are new or have changed, and when the extracted data set is damaged.
    """
    try:
        digest = str(json.loads(_index_path(cache, paths).read_text())["digest"])
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged
        return None
    return digest if integrity.check(cache / digest) is None else None


def _extract(name: str, folder: str | None, paths: Mapping[str, Path], cache: Path) -> str:
    """Extract the files into `cache` under their digest, which is returned."""
    unfinished = cache / f".extracting-{secrets.token_hex(4)}"
    unfinished.mkdir()
    try:
        contents = {}
        for file, path in paths.items():
            contents[file] = _extract_file(path, unfinished / f"{file}.npy")
            expected = source(name).digests.get(file, contents[file])
            if contents[file] != expected:
                raise ValueError(
                    f"{path}: expected the {name} file with SHA-256 {expected}, found "
                    f"{contents[file]}; use dataset=idx for other files"
                )
        _check_labels(unfinished, paths)
        origin = {"name": name, "folder": folder and str(Path(folder).resolve())}
        meta = origin | integrity.describe(unfinished)
        write_text(unfinished / META, json.dumps(meta, indent=1))
        _install(unfinished, cache / digest_of(contents))
        return digest_of(contents)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _install(unfinished: Path, folder: Path) -> None:
    """Move a complete data set to its place, where a damaged one may be."""
    if not folder.is_dir():
        unfinished.rename(folder)
    elif integrity.check(folder) is not None:
        for path in sorted(unfinished.iterdir(), key=lambda path: path.name == META):
            if (folder / path.name).is_dir():
                shutil.rmtree(folder / path.name)
            path.replace(folder / path.name)
        fsync_folder(folder)
    fsync_folder(folder.parent)


def _extract_file(path: Path, target: Path) -> str:
    """Write an IDX file's uint8 array as .npy. Returns the digest of the file."""
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
    return digest


def _check_labels(folder: Path, paths: Mapping[str, Path]) -> None:
    """Raise `ValueError` unless the labels extracted in `folder` fit each other."""
    highest = [
        int(np.load(folder / f"{file}.npy", mmap_mode="r").max()) for file in (FILES[1], FILES[3])
    ]
    if highest[0] < 1 or highest[1] > highest[0]:
        raise ValueError(
            f"{paths[FILES[3] if highest[1] > highest[0] else FILES[1]]}: expected labels 0 to at "
            f"least 1 in training and no higher ones in the test set, found a highest of "
            f"{highest[0]} in training and {highest[1]} in the test set"
        )
