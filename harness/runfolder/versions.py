"""Read runs of other versions of the harness: with settings added since, and with unknown keys.

A frozen `config.yaml` has the version of the schema, `schema: 3`; in the first version it had none.
A setting that was added later has a value that means "as before", with which every older run is
read: the default of its field in schema.py (`about(..., default=...)`), `Kind.before` for the name
of a part, and for an option of a part its own default. Unknown keys of a newer version are a
warning for commands that read, and an error for training.

The schema version also decides a rule that no setting states: since version 3, the latest of
several epochs with the best value is the best epoch; before, it was the earliest. A run keeps the
rule that it was frozen with when it is resumed or reproduced.
"""

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from functools import cache
from pathlib import Path
from typing import Any

from harness.data.override import spell
from harness.runfolder import parts
from harness.runfolder.journal import RECORDS, Record
from harness.runfolder.kinds import KINDS, SCRATCH
from harness.runfolder.schema import Config, ScratchConfig, fields
from harness.training.options import Ties

SCHEMA = 3
KEY = "schema"
_named: set[frozenset[str]] = set()  # the keys that a warning has named


@cache
def before() -> dict[str, Any]:
    """The settings added since the first version, each with the value that means "as before"."""
    values: dict[str, Any] = {}
    for name, field, _ in fields():
        if name in KINDS:
            values[KINDS[name].key] = KINDS[name].before or MISSING
        else:
            values[name] = _default(field)
    return {key: value for key, value in values.items() if value is not MISSING}


def ties(schema: int) -> Ties:
    """Which of several epochs with the best value is the best one in this schema version."""
    return "latest" if schema >= 3 else "earliest"


def completed(params: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run of any version, by this version's dotted keys.

    Missing settings get the value that means "as before". A plain setting that is now a part gets
    the key of the part's name.
    """
    known = {KINDS[key].key if key in KINDS else key: value for key, value in params.items()}
    schema = ScratchConfig if known.get("trainer.name", SCRATCH) == SCRATCH else Config
    roots = {field.name for field in dataclasses.fields(schema)}
    for key, value in before().items():
        if key.partition(".")[0] in roots:
            known.setdefault(key, value)
    for kind in KINDS.keys() & roots:
        name = str(known.get(KINDS[kind].key))
        for option in parts.keys(kind, name) if name in KINDS[kind].rows else ():
            known.setdefault(f"{kind}.{option.name}", _leaf(option.default))
    return known


def unknown(params: Iterable[tuple[str, Any]]) -> tuple[str, ...]:
    """The settings that this version does not know.

    params: every setting by its dotted key. An unknown built-in part is returned as
    `optimizer=lion`; its options, and those of the user's parts, are not examined.
    """
    settings = dict(params)
    found = []
    for key, value in settings.items():
        kind, _, option = key.partition(".")
        if kind not in KINDS:
            is_own_data = kind == "dataset" and ":" in str(settings.get("dataset.name"))
            known = is_own_data or key in _known()
        else:
            name = str(settings.get(KINDS[kind].key, value))
            is_listed = name in KINDS[kind].rows
            known = ":" in name or (is_listed and option in {"", "name", *_options(kind, name)})
            if not is_listed:
                key, known = f"{kind}={name}", known or option not in ("", "name")
        if not known:
            found.append(key)
    return tuple(found)


def unknown_of(record: Record) -> tuple[str, ...]:
    """What this version does not know in a journal record: its kind, fields or settings."""
    kind = record["kind"]
    found = _unknown_fields(kind, tuple(record))
    if kind not in RECORDS:
        return found
    return found + unknown(record["params"].items()) if kind == "create" else found


@cache
def _unknown_fields(kind: str, fields: tuple[str, ...]) -> tuple[str, ...]:
    """What is unknown in a record with these fields."""
    if kind not in RECORDS:
        return (f"kind={kind}",)
    return tuple(f"{kind}.{key}" for key in fields if key not in RECORDS[kind])


def without(content: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """A nested configuration without these dotted keys."""
    removed = set(keys)
    return {
        root: {
            key: each
            for key, each in value.items()
            if not any(f"{other}.".startswith(f"{root}.{key}.") for other in removed)
        }
        if isinstance(value, Mapping)
        else value
        for root, value in content.items()
        if root in _roots() and root not in removed
    }


def warn(path: Path, keys: tuple[str, ...]) -> None:
    """Warn that a file has unknown keys, once for each set of keys."""
    if keys and frozenset(keys) not in _named:
        _named.add(frozenset(keys))
        logging.getLogger(__name__).warning("%s; they are ignored", describe(path, keys))


def describe(path: Path, keys: Iterable[str]) -> str:
    """The message that names the unknown keys of a file."""
    found = ", ".join(keys)
    return f"{path}: a newer version of the harness wrote {found}, which this version does not know"


@cache
def _roots() -> frozenset[str]:
    return frozenset(field.name for field in dataclasses.fields(ScratchConfig))


@cache
def _known() -> frozenset[str]:
    """Every dotted key that does not belong to a part."""
    return frozenset(name for name, *_ in fields()) - KINDS.keys()


@cache
def _options(kind: str, name: str) -> frozenset[str]:
    return frozenset(key.name for key in parts.keys(kind, name))


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is MISSING else _leaf(field.default_factory())


def _leaf(value: Any) -> Any:
    return spell(value) if isinstance(value, list) else value
