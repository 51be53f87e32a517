"""Compute what identifies a result: the key of a run and the id of a sweep.

A run's key is the digest of everything that determines its result: the settings, the data, and the
source that trains it, without comments and docstrings. A sweep's id is the digest of the set of its
runs' keys, so the same sweep has the same id however its command was written.
"""

import hashlib
import itertools
import json
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from harness.data.atomic import write_text
from harness.runfolder import config as configuration
from harness.runfolder import syntax, user_cache, versions
from harness.runfolder.environment import SOURCE
from harness.runfolder.run import Run
from harness.runfolder.schema import Config, ScratchConfig
from harness.runfolder.status import RunStatus

DETERMINING_SOURCE = ("data", "nn", "training")
# Settings that do not change a result, only where it is stored and how fast it is computed; groups
# end with a dot.
CIRCUMSTANCES = (
    "outputs", "threads", "dataset.dir", "dataset.file", "dataset.label", "tracking.",
    "checkpoint.",
)  # fmt: skip
Key = tuple[str, ...]


def determines_result(key: str) -> bool:
    """Whether a setting can change the result of a run."""
    group = key.partition(".")[0] + "."
    return key not in CIRCUMSTANCES and group not in CIRCUMSTANCES


def run_key(config: Config, data_digest: str, code: str = "") -> str:
    """The key of a run's result, 16 hexadecimal digits.

    code: the digest of the user's modules that it uses, empty if there are none. The source of the
    built-in trainer counts only if that trainer trains the run.
    """
    content = subject(configuration.leaves(config), data_digest)
    if isinstance(config, ScratchConfig):
        content["source"] = source_digest()
    if code:
        content["code"] = code
    return digest(content, 16)


def subject(params: Mapping[str, object], data_digest: object) -> dict[str, object]:
    """What a run trains, without the source: the settings that determine its result, and the data.

    params: every setting of a run of any version, by its dotted key. A setting that was added later
    and has the value that means "as before" is left out, so adding it changes no key.
    """
    before = versions.before()
    settings = {
        key: value
        for key, value in versions.completed(params).items()
        if determines_result(key) and (key not in before or before[key] != value)
    }
    return {"settings": settings, "data": data_digest}


def sweep_id(keys: list[str]) -> str:
    """The id of the sweep with these run keys, 10 hexadecimal digits."""
    return digest(sorted(set(keys)), 10)


def digest(content: object, length: int) -> str:
    """The first digits of the SHA-256 of a JSON-able object."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def is_source_changed() -> bool:
    """Whether the source was edited since this process read its digest."""
    return source_digest.__wrapped__() != source_digest()


@cache
def source_digest() -> str:
    """The digest of the source that determines results: `data/`, `nn/` and `training/`.

    It covers syntax trees, so edits of comments, docstrings or layout change no key. Converting
    them to text takes 0.25 s, so the user's cache keeps the digest of the same bytes.
    """
    paths = [
        path for folder in DETERMINING_SOURCE for path in sorted((SOURCE / folder).rglob("*.py"))
    ]
    names = [path.relative_to(SOURCE).as_posix().encode() for path in paths]
    contents = [path.read_bytes() for path in paths]
    spelling = Path(syntax.__file__).read_bytes()
    cached = user_cache.folder("source")
    known = cached and cached / _sha256([spelling, *names, *contents])
    if known is not None:
        with suppress(OSError, UnicodeDecodeError):
            digest = known.read_text()
            if re.fullmatch("[0-9a-f]{64}", digest):
                return digest
    trees = [syntax.spell(content).encode() for content in contents]
    digest = _sha256(itertools.chain(*zip(names, trees, strict=True)))
    if known is not None:
        with suppress(OSError):  # the next process computes it again
            write_text(known, digest)
    return digest


def _sha256(parts: Iterable[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(part + b"\0")
    return total.hexdigest()


def full_key(run_key: str, params: Mapping[str, object], also: Collection[str]) -> Key:
    """A run key with the values of the settings `also`, which do not change the result."""
    return (run_key, *(str(params.get(name)) for name in also))


def runs_by_key(
    runs: Iterable[Run], wanted: Collection[str], also: Collection[str] = ()
) -> dict[Key, Run]:
    """The run to reuse for each key: the newest finished one, else the newest unfinished one.

    A run that is being trained counts as unfinished; its lock keeps out a second trainer. A run
    whose journal is damaged is skipped with a warning. runs: oldest first; only journals of runs
    whose key is in `wanted` are read. also: see `full_key`.
    """
    finished: dict[Key, Run] = {}
    unfinished: dict[Key, Run] = {}
    for run in runs:
        run_key = run.create["tags"].get("run_key")
        if run_key not in wanted:
            continue
        history = run.history()
        if history.status is RunStatus.DAMAGED:
            logging.getLogger(__name__).warning("%s", history.error)
            continue
        kind = finished if history.status is RunStatus.FINISHED else unfinished
        kind[full_key(run_key, history.params, also)] = run
    return unfinished | finished
