"""Explain the keys of a configuration, and what is wrong with a key or its value."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from harness.data.override import suggest
from harness.runfolder import parts
from harness.runfolder.kinds import DATASET, KINDS, name_of
from harness.runfolder.parts import Part
from harness.runfolder.schema import fields
from harness.runfolder.values import allowed, explain


def meanings(chosen: Iterable[tuple[str, Part]] = ()) -> dict[str, str]:
    """Every dotted key and its meaning, in the order of the schema.

    This includes the keys of the built-in parts and of the parts in `chosen`, with their kinds. A
    key with different meanings in several parts of a kind gets all of them.
    """
    texts: dict[str, list[str]] = {}
    for key, _, text in _keys(chosen):
        texts.setdefault(key, []).append(text)
    return {key: "; or ".join(dict.fromkeys(filter(None, each))) for key, each in texts.items()}


def _keys(chosen: Iterable[tuple[str, Part]] = ()) -> Iterator[tuple[str, Any, str]]:
    """Every dotted key with its annotation and meaning."""
    for name, field, annotation in fields():
        if name not in KINDS:
            yield name, annotation, field.metadata["meaning"]
            if name == f"{DATASET.name}.name":
                yield from _own_keys(DATASET.name, chosen)
            continue
        yield KINDS[name].key, str, KINDS[name].meaning
        for part in KINDS[name].rows:
            for key in parts.keys(name, part):
                yield f"{name}.{key.name}", key.annotation, key.meaning
        yield from _own_keys(name, chosen)


def _own_keys(kind: str, chosen: Iterable[tuple[str, Part]]) -> Iterator[tuple[str, Any, str]]:
    """The keys of the user's parts of a kind."""
    for part in (part for name, part in chosen if name == kind and part.is_own):
        for key in parts.keys(kind, part.name):
            yield f"{kind}.{key.name}", key.annotation, key.meaning


def problem(report: ValidationError, content: Mapping[str, Any]) -> str:
    """Describe in a line the first error of pydantic's report about a configuration."""
    error: Mapping[str, Any] = report.errors()[0]
    key = _key(error)
    if error["type"] == "unexpected_keyword_argument":
        return _unknown(key, content)
    value: Any = content
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    expected = next(filter(None, (allowed(a) for other, a, _ in _keys() if other == key)), "")
    return explain(key, value, error, expected)


def _key(error: Mapping[str, Any]) -> str:
    """The dotted key that an error is about: the longest part of its path that is a key."""
    path = [str(part) for part in error["loc"]]
    candidates = [".".join(path[:end]) for end in range(len(path), 0, -1)]
    known = meanings()
    return next((key for key in candidates if key in known), candidates[0])


def _unknown(key: str, content: Mapping[str, Any]) -> str:
    """Why a key is unknown: the trainer has no such key, or nothing has it."""
    known = meanings()
    if key in known:
        name = name_of("trainer", content)
        return f"{key}: trainer={name} has no such key; --help lists all keys"
    return f"{key}: there is no such key{suggest(key, known, then='--help lists all keys')}"
