"""Validate configurations, explain what is wrong with them, and write them as YAML.

Hydra composes a plain dictionary; `parse` turns it into a frozen `Config` or raises `ConfigError`
with one line that names the key, the value and what is allowed.
"""

import dataclasses
import difflib
import hashlib
import json
import os
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.data.override import quoted
from harness.runfolder.schema import GROUPS, Config, allowed_values
from harness.runfolder.target import problem as problem_of
from harness.runfolder.target import shown

Leaf = str | int | float | bool | None


class ConfigError(ValueError):
    """Bad input; the message is one readable line."""


@cache
def _adapter() -> TypeAdapter[Config]:
    return TypeAdapter(Config)


def parse(content: Mapping[str, Any]) -> Config:
    """Validate the composed configuration of a new command.

    Raises `ConfigError`, one line, for a bad key or value and for keys that contradict each other.
    """
    config = _validate(content)
    for problem in _contradictions(config):
        raise ConfigError(problem)
    data = config.dataset
    directory = data.dir and expand_home("dataset.dir", data.dir)
    file = data.file and expand_home("dataset.file", data.file)
    return dataclasses.replace(
        config,
        outputs=expand_home("outputs", config.outputs),
        dataset=dataclasses.replace(data, dir=directory, file=file),
    )


def expand_home(key: str, path: str) -> str:
    """A path with `~` and `~user` as the home directory, which the shell leaves inside quotes.

    Raises `ConfigError` naming the key when there is no such user.
    """
    expanded = os.path.expanduser(path)  # noqa: PTH111  # `Path` would spell the path anew
    if expanded.startswith("~"):
        name = path.partition("/")[0]
        raise ConfigError(f"{key}={path}: {name} has no home directory; ./{path} is a folder here")
    return expanded


def _validate(content: Mapping[str, Any]) -> Config:
    """Check every key and value against the schema, each on its own. Raises `ConfigError`."""
    try:
        return _adapter().validate_python(content)
    except ValidationError as error:
        raise ConfigError(_explain(error, content)) from None


def _contradictions(config: Config) -> Iterator[str]:
    """What is wrong with keys that are valid on their own, one line each."""
    if not isinstance(config.width, int) and config.depth not in (1, len(config.width)):
        yield (
            f"depth={config.depth}: width={_spell(config.width)} already gives "
            f"{len(config.width)} hidden layers; leave depth out"
        )
    if config.tracking.uri and (wrong := problem_of(config.tracking.uri, is_kept=True)):
        yield f"tracking.uri={shown(config.tracking.uri)}: {wrong}"
    if config.tracking.name == "server" and not config.tracking.uri:
        yield (
            "tracking.uri=null: tracking=server needs an address; add "
            "tracking.uri=http://HOST:5000 or set MLFLOW_TRACKING_URI"
        )
    if config.tracking.name != "server" and config.tracking.uri:
        is_local = config.tracking.name == "local"
        goal = (
            f"delivers to {Path(config.outputs) / 'mlflow.db'}" if is_local else "delivers nothing"
        )
        yield (
            f"tracking.uri={config.tracking.uri}: tracking={config.tracking.name} {goal} and "
            "ignores it; add tracking=server"
        )
    if config.dataset.name == "idx" and not config.dataset.dir:
        yield "dataset.dir=null: dataset=idx needs dataset.dir=FOLDER with the four files"
    if config.dataset.name == "arrays" and not config.dataset.file:
        yield "dataset.file=null: dataset=arrays needs dataset.file=FILE.npz"
    if config.dataset.file and config.dataset.name != "arrays":
        yield (
            f"dataset.file={config.dataset.file}: dataset={config.dataset.name} reads no such "
            "file; add dataset=arrays"
        )
    if config.dataset.dir and config.dataset.name == "arrays":
        yield (
            f"dataset.dir={config.dataset.dir}: dataset=arrays reads one file; give it as "
            "dataset.file=FILE.npz"
        )
    if config.patience is not None and config.dataset.num_val == 0:
        yield (
            f"patience={config.patience}: stopping early needs validation images; set "
            "dataset.num_val above 0 or leave patience out"
        )


def check(config: Config) -> None:
    """Check the counts and the batch size against the data set's headers; writes nothing.

    Raises `ValueError`, one line.
    """
    from harness.data.dataset import check_counts, validation_count
    from harness.data.sources import measure

    sizes = measure(config.dataset.name, config.dataset.place)
    check_counts(sizes, config.dataset.num_val, config.dataset.num_train)
    count = validation_count(config.dataset.num_val, sizes.train, sizes.val)
    images = config.dataset.num_train or sizes.train - count
    if config.batch > images:
        raise ConfigError(
            f"batch={config.batch}: expected 1 to {images}, the number of training images"
        )


def to_dict(config: Config) -> dict[str, Any]:
    """The nested dictionary of a configuration, which `parse` accepts."""
    return dataclasses.asdict(config)


def leaves(config: Config) -> dict[str, Leaf]:
    """Every setting by its dotted key; a list is the text `[512,256]`."""
    return dict(_leaves(to_dict(config)))


def _leaves(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Leaf]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _spell(value) if isinstance(value, list) else value


def to_yaml(config: Config) -> str:
    """The frozen `config.yaml` of a run folder."""
    import yaml

    return str(yaml.safe_dump(to_dict(config), sort_keys=False))


def read_yaml(path: Path, sha256: str | None = None) -> Config:
    """Read the frozen `config.yaml` of a run.

    sha256: of the file's bytes as they were frozen; None when that is not known. The file may hold
    keys that contradict each other: an older version accepted them, and the run used them. Raises
    `ConfigError` naming the file, also when it was changed.
    """
    import yaml

    text = read_frozen(path, sha256)
    try:
        content = yaml.safe_load(text.decode())
        if not isinstance(content, dict):
            raise ConfigError(f"expected settings, found {type(content).__name__}")
        return _validate(content)
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error


def read_frozen(path: Path, sha256: str | None) -> bytes:
    """The bytes of a frozen `config.yaml`, compared with their SHA-256 where it is known.

    Raises `ConfigError` naming the file.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if sha256 is not None and hashlib.sha256(text).hexdigest() != sha256:
        raise ConfigError(
            f"{path}: was changed after the run was frozen; restore it from a copy, or remove the "
            "run folder and start the run again"
        )
    return text


def _fields() -> Iterator[tuple[str, type, dataclasses.Field[Any]]]:
    """Every dotted key with its schema and field, in the order of the schema."""
    for field in dataclasses.fields(Config):
        for schema in GROUPS.get(field.name, ()):
            for inner in dataclasses.fields(schema):
                yield f"{field.name}.{inner.name}", schema, inner
        if field.name not in GROUPS:
            yield field.name, Config, field


def meanings() -> dict[str, str]:
    """Every dotted key and its meaning, in the order of the schema.

    A key that several options of a group have with different meanings gets all of them.
    """
    texts: dict[str, list[str]] = {}
    for key, _, field in _fields():
        texts.setdefault(key, []).append(field.metadata["meaning"])
    return {key: "; or ".join(dict.fromkeys(each)) for key, each in texts.items()}


def _allowed(key: str) -> str:
    """The values that a dotted key allows, in words; empty when its type has no description."""
    hints = (
        typing.get_type_hints(schema, include_extras=True)[field.name]
        for other, schema, field in _fields()
        if other == key
    )
    return next((text for text in map(allowed_values, hints) if text), "")


def suggest(word: str, known: Iterable[str]) -> str:
    """The hint `; did you mean 'batch'?`, or nothing when no known word is close."""
    near = difflib.get_close_matches(word, list(known), 1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def _spell(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _explain(error: ValidationError, content: Mapping[str, Any]) -> str:
    """The first problem of a pydantic report as one line."""
    problem: Mapping[str, Any] = error.errors()[0]
    key = _key(problem)
    if problem["type"] == "unexpected_keyword_argument":
        return _explain_unknown(key, content)
    value: Any = content
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    shown = "(nothing)" if value == "" else value if isinstance(value, str) else _spell(value)
    # The options of a Literal, or the names that choose between schemas: "'sgd', 'adam' or 'x'".
    context = problem.get("ctx", {})
    options = context.get("expected_tags", context.get("expected", ""))
    expected = _allowed(key) or options or problem["msg"].replace("Input should be ", "")
    words = options.replace("'", "").replace(" or ", ", ").split(", ")
    hint = suggest(str(value), words) if options else ""
    if problem["type"] == "string_type" and isinstance(value, bool | int | float):
        hint = f"; for this very text, type {quoted(key, shown)}"
    return f"{key}={shown}: expected {expected}{hint}"


def _key(problem: Mapping[str, Any]) -> str:
    """The dotted key that a problem is about: the longest part of its path that is a key."""
    parts = [str(part) for part in problem["loc"]]
    if len(parts) > 1 and len(GROUPS.get(parts[0], ())) > 1:
        del parts[1]  # the name that chose the schema, as in optimizer.adam.beta1
    if problem["type"].startswith("union_tag"):
        parts.append("name")
    candidates = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    known = meanings()
    return next((key for key in candidates if key in known), candidates[0])


def _explain_unknown(key: str, content: Mapping[str, Any]) -> str:
    """Why a key is unknown: its group has it under another name, or nothing has it."""
    known = meanings()
    if key in known:
        group = key.split(".")[0]
        return f"{key}: {group}={content[group]['name']} has no such key; --help lists all keys"
    return f"{key}: there is no such key{suggest(key, known)}; --help lists all keys"
