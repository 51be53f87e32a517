"""Extract a data set's files, once, into a cache of .npy files that can be memory-mapped.

They lie in `<cache>/<digest>/`. The digest is the SHA-256 of the digests of the four uncompressed
IDX files, or of the arrays. Cached files are checked against it before they are used (see
integrity.py). The class names are not part of the digest, because naming classes changes no result.
"""

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from filelock import FileLock

from harness.data import arrays, duplicates, idx, integrity, npz
from harness.data.atomic import fsync_folder, write_text
from harness.data.integrity import META, digest_of
from harness.data.sources import (
    CLASSES,
    FILES,
    SOURCES,
    class_names,
    locate,
    measure,
    source,
)

DEFAULT_CACHE = "outputs/cache"


def prepare(name: str, place: str | None = None, cache: str | Path = DEFAULT_CACHE) -> str:
    """Extract a data set into the cache unless it is there undamaged, and return its digest.

    The first call reads every file to its end and verifies it; later calls take milliseconds.
    Several processes can call it at once. Raises `ValueError` naming the file that is wrong.
    """
    cache = Path(cache)
    if (found := _prepared(name, place, cache)) is not None:
        return found
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):
        found = _prepared(name, place, cache)  # another process may have extracted it meanwhile
        if found is None:
            found = _find_and_extract(name, place, cache)
            _name_classes(cache / found, class_names(name, place))
        return found


def _prepared(name: str, place: str | None, cache: Path) -> str | None:
    """The digest of a data set that is in the cache undamaged; None when it is not."""
    digest = known_digest(name, place, cache)
    if digest is None or integrity.check(cache / digest) is not None:
        return None
    names, meta = class_names(name, place), json.loads((cache / digest / META).read_text())
    return digest if names is None or list(names) == meta.get("class_names") else None


def known_digest(name: str, place: str | None, cache: Path) -> str | None:
    """The digest of a data set without reading its files; None if they must be read.

    Without pinned digests, it is known only for files that were extracted before and have not
    changed since. Writes nothing. Raises `ValueError` when a file is missing.
    """
    known, paths = source(name), locate(name, place)
    if known.digests and place is None:
        return digest_of(known.digests)
    assert paths is not None, "only a pinned data set may be missing"
    try:
        return str(json.loads(_index_path(cache, paths).read_text())["digest"])
    except (OSError, ValueError, KeyError, TypeError):  # missing or damaged
        return None


def _name_classes(extracted: Path, names: Sequence[str] | None) -> None:
    """Record the class names if the user has given new ones. Raises `ValueError`."""
    meta = json.loads((extracted / META).read_text())
    if names is None or list(names) == meta.get("class_names"):
        return
    if len(names) != meta["classes"]:
        raise ValueError(
            f"{CLASSES}: expected {meta['classes']} names, one for each label 0 to "
            f"{meta['classes'] - 1}, found {len(names)}"
        )
    described = integrity.describe(extracted, meta["name"], meta["classes"], names)
    write_text(extracted / META, json.dumps(meta | described, indent=1))


def _find_and_extract(name: str, place: str | None, cache: Path) -> str:
    """Extract the files of a data set. Raises `ValueError` when they are not on this machine."""
    paths = locate(name, place)
    if paths is None:
        known = source(name)
        hint = f"; {known.package} installs them there" if known.package else ""
        raise ValueError(
            f"dataset={name}: expected its files in {known.folder}, found none{hint}; or set "
            "dataset.dir=FOLDER"
        )
    measure(name, place)
    index = _index_path(cache, paths)
    digest = _extract(name, place, paths, cache)
    if source(name).digests and place is None:
        return digest  # known without an index
    if index != _index_path(cache, paths):
        raise ValueError(
            f"{next(iter(paths.values())).parent}: its files were changed while they were read; "
            "repeat the command"
        )
    index.parent.mkdir(exist_ok=True)
    write_text(index, json.dumps({"digest": digest}))
    return digest


def restore(digest: str, name: str, place: str | None, cache: str | Path) -> None:
    """Extract a data set again if it is missing from the cache or damaged there.

    name, place: its files, as for `prepare`. Raises `ValueError` when they are not on this machine
    or have changed since.
    """
    extracted = Path(cache) / digest
    problem = integrity.check(extracted)
    if problem is None:
        return
    try:
        pinned = source(name).digests
        is_other = bool(pinned) and place is None and digest_of(pinned) != digest
        found = "other files" if is_other else prepare(name, place, cache)
    except (ValueError, OSError) as error:
        raise ValueError(f"{problem}; it cannot be extracted again: {error}") from error
    if found != digest:
        raise ValueError(
            f"{problem}; it cannot be extracted again: expected the files of {place or name} with "
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
            integrity.stamp_of(folder).unlink(missing_ok=True)
            try:
                restore(folder.name, *_origin(folder), cache)
                lines.append(f"{problem}; extracted again")
            except (ValueError, OSError) as error:
                lines.append(str(error))
    return lines


def _origin(folder: Path) -> tuple[str, str | None]:
    """The name and place of the files that were extracted into `folder`, as far as known."""
    for name, known in SOURCES.items():
        if known.digests and digest_of(known.digests) == folder.name:
            return name, None
    with suppress(OSError, ValueError, KeyError, TypeError):
        meta = json.loads((folder / META).read_text())
        return str(meta["name"]), meta["folder"]
    return "idx", None


def _index_path(cache: Path, paths: Mapping[str, Path]) -> Path:
    """The file that records the digest of these files; named by path, size, times and inode."""
    stats = [(str(path.resolve()), path.stat()) for path in paths.values()]
    key = json.dumps(
        [(path, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for path, s in stats]
    )
    return cache / "index" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _extract(name: str, place: str | None, paths: Mapping[str, Path], cache: Path) -> str:
    """Extract the files into `cache` under their digest. Returns the digest."""
    unfinished = cache / f".extracting-{secrets.token_hex(4)}"
    unfinished.mkdir()
    try:
        if name == "arrays":
            classes = npz.extract(paths[arrays.FILE], unfinished)
            digest = arrays.digest(arrays.open_all(unfinished), classes)
            described = integrity.describe(unfinished, name, classes)
        else:
            digest = _extract_idx(name, paths, unfinished)
            described = integrity.describe(unfinished, name)
        if not source(name).digests:
            described["duplicates"] = duplicates.lines(integrity.open_parts(unfinished, name))
        meta = {"name": name, "folder": place and str(Path(place).resolve()), **described}
        write_text(unfinished / META, json.dumps(meta, indent=1))
        _install(unfinished, cache / digest)
        return digest
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _extract_idx(name: str, paths: Mapping[str, Path], unfinished: Path) -> str:
    """Extract the four IDX files into a folder; returns their digest. Raises `ValueError`."""
    contents = {}
    for file, path in paths.items():
        contents[file] = idx.extract(path, unfinished / f"{file}.npy")
        expected = source(name).digests.get(file, contents[file])
        if contents[file] != expected:
            raise ValueError(
                f"{path}: expected the {name} file with SHA-256 {expected}, found "
                f"{contents[file]}; use dataset=idx for other files"
            )
    _check_labels(unfinished, paths)
    return digest_of(contents)


def _install(unfinished: Path, folder: Path) -> None:
    """Move a complete data set to its place, unless an undamaged one is there.

    A damaged folder is moved away as a whole, so no reader sees a mix of both.
    """
    if integrity.check(folder) is None:
        return
    damaged = folder.with_name(f".extracting-{secrets.token_hex(4)}")
    with suppress(FileNotFoundError):
        folder.rename(damaged)
    unfinished.rename(folder)
    fsync_folder(folder.parent)
    shutil.rmtree(damaged, ignore_errors=True)


def _check_labels(folder: Path, paths: Mapping[str, Path]) -> None:
    """Raise `ValueError` unless the training and test labels in `folder` fit each other."""
    highest = [
        int(np.load(folder / f"{file}.npy", mmap_mode="r").max()) for file in (FILES[1], FILES[3])
    ]
    if highest[0] < 1 or highest[1] > highest[0]:
        raise ValueError(
            f"{paths[FILES[3] if highest[1] > highest[0] else FILES[1]]}: expected labels 0 to at "
            f"least 1 in training and no higher ones in the test set, found a highest of "
            f"{highest[0]} in training and {highest[1]} in the test set"
        )
