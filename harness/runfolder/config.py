"""Validate configurations, and write them as YAML.

Hydra composes a plain dictionary. `parse` turns it into a frozen `Config` or raises `ConfigError`
with one line that names the key, the value and what is allowed.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.data.override import spell
from harness.runfolder import meanings, parts
from harness.runfolder.contradictions import contradictions
from harness.runfolder.kinds import KINDS, SCRATCH
from harness.runfolder.objective import Objective
from harness.runfolder.own_code import OwnCodeError
from harness.runfolder.parts import Part, PartError
from harness.runfolder.schema import GROUPS, Config, Group, ScratchConfig

Leaf = str | int | float | bool | None


class ConfigError(ValueError):
    """Bad input; the message is one readable line."""


@cache
def _adapter(schema: type[Config]) -> TypeAdapter[Config]:
    return TypeAdapter(schema)


def parse(content: Mapping[str, Any]) -> Config:
    """Validate the composed configuration of a new command.

    Raises `ConfigError`, one line, for a bad key or value and for keys that contradict each other.
    """
    config = validate(content)
    for problem in contradictions(config):
        raise ConfigError(problem)
    if isinstance(config, ScratchConfig):
        try:
            parts.metrics(config.metrics)
        except (PartError, OwnCodeError) as error:
            raise ConfigError(str(error)) from error
    data = config.dataset
    directory = data.dir and expand_home("dataset.dir", data.dir)
    file = data.file and expand_home("dataset.file", data.file)
    return dataclasses.replace(
        config,
        objective=str(Objective.parse(config.objective)),  # one spelling per objective
        outputs=expand_home("outputs", config.outputs),
        dataset=dataclasses.replace(data, dir=directory, file=file),
    )


def expand_home(key: str, path: str) -> str:
    """Expand `~` and `~user` in a path, which the shell does not do inside quotes.

    Raises `ConfigError` naming the key if there is no such user.
    """
    expanded = os.path.expanduser(path)  # noqa: PTH111  # `Path` would normalize the path
    if expanded.startswith("~"):
        name = path.partition("/")[0]
        raise ConfigError(
            f"{key}={path}: {name} has no home directory; for a folder of that name, type ./{path}"
        )
    return expanded


def validate(content: Mapping[str, Any], *, frozen: bool = False) -> Config:
    """Check every key and value on its own against the schema. Raises `ConfigError`.

    frozen: do not check parts that are not built in; freezing checked them, and their code may be
    missing now.
    """
    try:
        trainer = _part("trainer", content, frozen=frozen)
        schema = ScratchConfig if trainer.name == SCRATCH else Config
        unused = scratch_keys() if schema is Config else set()
        others = [kind for kind in KINDS if kind != "trainer" and kind not in unused]
        checked = {kind: _part(kind, content, frozen=frozen) for kind in others}
        checked["trainer"] = trainer
    except (PartError, OwnCodeError) as error:
        raise ConfigError(str(error)) from error
    known = {key: value for key, value in {**content, **checked}.items() if key not in unused}
    known["dataset"] = _dataset(content.get("dataset"), frozen=frozen)
    known |= _experiment(content)
    if schema is ScratchConfig and not (frozen and checked["model"].is_own):
        taken = {key.name for key in parts.shared_keys("model", checked["model"].name)}
        known |= {key: None for key in ("width", "depth") if key not in taken}
    if schema is ScratchConfig and known.get("lr") is None:
        known["lr"] = _learning_rate(checked["optimizer"])
    try:
        return _adapter(schema).validate_python(known)
    except ValidationError as error:
        raise ConfigError(meanings.problem(error, content)) from None


def prepare() -> None:
    """Build the validators of all built-in keys, which takes longer than using them."""
    for name, kind in KINDS.items():
        for row in kind.rows:
            parts.check(name, row)
    _adapter(ScratchConfig)


def _dataset(node: Any, *, frozen: bool) -> Any:
    """The data set's node; keys of a user's function are collected in `options`.

    Raises `ConfigError`.
    """
    from harness.runfolder.own_dataset import check_keys

    if not isinstance(node, Mapping) or ":" not in str(node.get("name")):
        return node
    fields = {field.name for field in dataclasses.fields(GROUPS["dataset"])} - {"options"}
    own = {key: value for key, value in node.items() if key not in fields}
    if not frozen:
        for key in ("dir", "file"):
            if node.get(key) is not None:
                raise ConfigError(
                    f"dataset.{key}={node[key]}: dataset={node['name']} makes its data "
                    f"itself and ignores it; leave dataset.{key} out"
                )
        try:
            check_keys(str(node["name"]))
            own = dict(parts.check("dataset", own | {"name": node["name"]}).options)
        except (PartError, OwnCodeError) as error:
            raise ConfigError(str(error)) from error
    return {key: value for key, value in node.items() if key in fields} | {"options": own}


def _experiment(content: Mapping[str, Any]) -> dict[str, Any]:
    """The `tracking` node with an experiment named after the data if it is null; else empty."""
    tracking, data = content.get("tracking"), content.get("dataset")
    if not isinstance(tracking, Mapping) or not isinstance(data, Mapping):
        return {}
    if tracking.get("experiment", "") is not None:
        return {}
    return {"tracking": {**tracking, "experiment": data.get("label") or data.get("name")}}


def _learning_rate(optimizer: Part) -> Any:
    """An optimizer's default learning rate. Raises `ConfigError` if it has none."""
    defaults = {key.name: key.default for key in parts.shared_keys("optimizer", optimizer.name)}
    if "lr" not in defaults:
        raise ConfigError(f"lr=null: optimizer={optimizer.name} has no default; add lr=0.001, say")
    return defaults["lr"]


def _part(kind: str, content: Mapping[str, Any], *, frozen: bool) -> Part:
    node = content.get(kind, KINDS[kind].before)
    options = dict(node) if isinstance(node, Mapping) else {"name": node}
    name = options.pop("name", None)
    if frozen and name and isinstance(name, str) and name not in KINDS[kind].rows:
        return Part(name, options)
    return parts.check(kind, node)


@cache
def scratch_keys() -> frozenset[str]:
    """The root keys that only the built-in trainer has."""
    common = {field.name for field in dataclasses.fields(Config)}
    return frozenset({field.name for field in dataclasses.fields(ScratchConfig)} - common)


def check(config: Config) -> None:
    """Check the counts and the batch size against the data set's headers; write nothing.

    Raises `ValueError`, one line.
    """
    from harness.runfolder.own_dataset import measure

    sizes, split = measure(config.dataset), config.dataset.split
    try:
        split.check(sizes)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    count = split.val_count(sizes.train, sizes.val)
    images = config.dataset.num_train or sizes.train - count
    if isinstance(config, ScratchConfig) and config.batch > images:
        raise ConfigError(
            f"batch={config.batch}: expected 1 to {images}, the number of training examples"
        )


def to_dict(config: Config) -> dict[str, Any]:
    """The nested dictionary of a configuration, which `parse` accepts."""
    content = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {key: _plain(key, value) for key, value in content.items()}


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, Part):
        is_scalar = KINDS[key].is_scalar and not value.options
        return value.name if is_scalar else {"name": value.name, **value.options}
    if not isinstance(value, Group):
        return value
    plain = dataclasses.asdict(value)
    return plain | plain.pop("options", {})


def leaves(config: Config) -> dict[str, Leaf]:
    """Every setting by its dotted key; a list is the text `[512,256]`."""
    return dict(dotted(to_dict(config)))


def dotted(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Leaf]]:
    """Every setting of a nested dictionary by its dotted key; a list as text."""
    for key, value in content.items():
        if isinstance(value, dict):
            if key in KINDS and KINDS[key].is_scalar:
                yield key, value["name"]
                value = {name: option for name, option in value.items() if name != "name"}
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", spell(value) if isinstance(value, list) else value


def yaml_fault(error: Exception) -> str:
    """Describe in one line why PyYAML or the UTF-8 decoder refused a text."""
    if isinstance(error, UnicodeDecodeError):
        return f"expected UTF-8, found the byte 0x{error.object[error.start]:02x}"
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(getattr(error, "reason", error)).split())
    return f"line {mark.line + 1}: {getattr(error, 'problem', error)}"


def to_yaml(config: Config) -> str:
    """A configuration as YAML that a command can read from a configuration file."""
    import yaml

    return str(yaml.safe_dump(to_dict(config), sort_keys=False))
