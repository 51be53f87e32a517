"""Validating configurations: what a bad value is told, and how a good one is written down.

Hydra composes a plain dictionary; `parse` turns it into a frozen `Config` or raises `ConfigError`
with one line that names the key, the value and what is allowed.
"""

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.runfolder.schema import GROUPS, Config

Leaf = str | int | float | bool | None


class ConfigError(ValueError):
    """Bad input: one readable line."""


@cache
def _adapter() -> TypeAdapter[Config]:
    return TypeAdapter(Config)


def parse(content: Mapping[str, Any]) -> Config:
    """Validate a composed configuration. Raises `ConfigError`, one line."""
    try:
        config = _adapter().validate_python(content)
    except ValidationError as error:
        raise ConfigError(_explain(error, content)) from None
    if not isinstance(config.width, int) and config.depth not in (1, len(config.width)):
        raise ConfigError(
            f"depth={config.depth}: width={_spell(config.width)} already gives "
            f"{len(config.width)} hidden layers; leave depth out"
        )
    if config.tracking.name == "server" and not config.tracking.uri:
        raise ConfigError(
            "tracking.uri=null: tracking=server needs an address; add "
            "tracking.uri=http://HOST:5000 or set MLFLOW_TRACKING_URI"
        )
    if config.tracking.uri and "@" in config.tracking.uri:
        # Not quoted back: what stands before the @ is a secret.
        raise ConfigError(
            "tracking.uri: expected an address without user and password, which would stay in "
            "every run's settings; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if config.dataset.name == "idx" and not config.dataset.dir:
        raise ConfigError(
            "dataset.dir=null: dataset=idx needs dataset.dir=FOLDER with the four files"
        )
    if config.patience is not None and config.dataset.num_val == 0:
        raise ConfigError(
            f"patience={config.patience}: stopping early needs validation images; set "
            "dataset.num_val above 0 or leave patience out"
        )
    return config


def check(config: Config) -> None:
    """What only the data can tell: counts and batch size. Raises `ValueError`; writes nothing."""
    from harness.data.dataset import check_counts
    from harness.data.sources import measure

    sizes = measure(config.dataset.name, config.dataset.dir)
    check_counts(sizes, config.dataset.num_val, config.dataset.num_train)
    images = config.dataset.num_train or sizes.train - config.dataset.num_val
    if config.batch > images:
        raise ConfigError(
            f"batch={config.batch}: expected 1 to {images}, the number of training images"
        )


def to_dict(config: Config) -> dict[str, Any]:
    """The nested dictionary that `parse` accepts."""
    return dataclasses.asdict(config)


def leaves(config: Config) -> dict[str, Leaf]:
    """Every setting by its dotted key; a list is spelled `[512,256]`."""
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


def read_yaml(path: Path) -> Config:
    """Read a frozen `config.yaml`. Raises `ConfigError` naming the file."""
    import yaml

    try:
        return parse(yaml.safe_load(path.read_text()))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error


def meanings() -> dict[str, str]:
    """Every dotted key and its meaning, in the order of the schema."""
    found = {}
    for field in dataclasses.fields(Config):
        for schema in GROUPS.get(field.name, ()):
            for inner in dataclasses.fields(schema):
                found[f"{field.name}.{inner.name}"] = inner.metadata["meaning"]
        if field.name not in GROUPS:
            found[field.name] = field.metadata["meaning"]
    return found


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'batch'?` or nothing."""
    near = difflib.get_close_matches(word, list(known), 1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def _spell(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _explain(error: ValidationError, content: Mapping[str, Any]) -> str:
    """The first problem of a pydantic report as one line."""
    problem = error.errors()[0]
    # A path such as optimizer.adam.beta1: the name that chose the schema is not part of the key.
    parts = [str(part) for part in problem["loc"]]
    if len(parts) > 1 and len(GROUPS.get(parts[0], ())) > 1:
        del parts[1]
    known = meanings()
    if problem["type"] == "unexpected_keyword_argument":
        key = ".".join(parts)
        if key in known:
            name = content[parts[0]]["name"]
            return f"{key}: {parts[0]}={name} has no such key; --help lists all keys"
        return f"{key}: there is no such key{suggest(key, known)}; --help lists all keys"
    if problem["type"].startswith("union_tag"):
        parts.append("name")
    keys = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    key = next((key for key in keys if key in known), ".".join(parts))
    value: Any = content
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    shown = "(nothing)" if value == "" else value if isinstance(value, str) else _spell(value)
    context = problem.get("ctx", {})
    options = context.get("expected_tags", context.get("expected", ""))
    allowed = _ALLOWED.get(key) or options or problem["msg"].replace("Input should be ", "")
    words = options.replace("'", "").replace(" or ", ", ").split(", ")
    hint = suggest(str(value), words) if options else ""
    return f"{key}={shown}: expected {allowed}{hint}"


_WHOLE = "a whole number of at least 1"
_ALLOWED = {
    "width": "a whole number of at least 1, or a list of them such as [512,256]",
    "depth": _WHOLE,
    "batch": "a whole number from 1 to the number of training images",
    "epochs": _WHOLE,
    "seed": "a whole number of at least 0",
    "lr": "a finite number above 0",
    **dict.fromkeys(
        ("dropout", "input_dropout", "label_smoothing", "ema"), "a number from 0 to below 1"
    ),
    **dict.fromkeys(("weight_decay", "adversarial"), "a finite number of at least 0"),
    "max_norm": "a finite number above 0, or null for none",
    "patience": "a whole number of at least 1, or null to train all epochs",
    "threads": "auto or a whole number of at least 1",
    "dataset.num_val": "a whole number of at least 0",
    "dataset.num_train": "a whole number of at least 1, or null for all",
    "dataset.split_seed": "a whole number of at least 0",
}
