"""The typed schema of `conf/`: what every key means and allows, and what a bad value is told.

Hydra composes a plain dictionary; `parse` turns it into a frozen `Config` or raises `ConfigError`
with one line that names the key, the value and what is allowed.
"""

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

Leaf = str | int | float | bool | None
# Strict numbers: true is not 1, and 1.5 and "64" are no counts.
Count = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
CLOSED = ConfigDict(extra="forbid")


class ConfigError(ValueError):
    """Bad input: one readable line."""


def about(meaning: str) -> Any:
    """A required field's metadata: the line that `--help` prints."""
    return dataclasses.field(metadata={"meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """conf/dataset"""

    __pydantic_config__ = CLOSED
    name: Literal["mnist", "fashion_mnist", "idx"] = about("which data set; set by dataset=NAME")
    dir: str | None = about("folder with the four IDX files; required by dataset=idx")
    num_val: Natural = about("validation images taken from the training set")
    num_train: Count | None = about("a smaller training set, for trying things; null takes all")
    split_seed: Natural = about("which images are taken; not changed by seed")


@dataclass(frozen=True, kw_only=True)
class NormalizationConfig:
    """conf/normalization"""

    __pydantic_config__ = CLOSED
    name: Literal["minmax", "unit", "standard", "none"] = about(
        "pixels to inputs: minmax [-1, 1], unit [0, 1], standard (mean 0, deviation 1), none"
    )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """conf/optimizer"""

    __pydantic_config__ = CLOSED
    name: Literal["sgd"] = about("the update rule; set by optimizer=NAME")


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """conf/tracking"""

    __pydantic_config__ = CLOSED
    name: Literal["local", "server", "none"] = about("where results go; set by tracking=NAME")
    uri: str | None = about("the tracking server of tracking=server")
    experiment: Annotated[str, Field(min_length=1)] = about("the MLflow experiment")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The root of conf/"""

    __pydantic_config__ = CLOSED
    width: Count | Annotated[list[Count], Field(min_length=1)] = about(
        "hidden units; a list [512,256] gives each hidden layer its own"
    )
    depth: Count = about("hidden layers, when width is one number")
    activation: Literal["sigmoid", "tanh", "relu"] = about(
        "of the hidden layers: sigmoid, tanh, relu"
    )
    batch: Count = about("images per step")
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] = about(
        "learning rate; the default is the optimizer's own"
    )
    epochs: Count = about("passes over the training images")
    seed: Natural = about("of the initial weights and the order of images")
    threads: Literal["auto"] | Count = about(
        "BLAS threads; auto is a fixed rule of sizes and cores"
    )
    outputs: Annotated[str, Field(min_length=1)] = about("the folder for everything generated")
    dataset: DatasetConfig
    normalization: NormalizationConfig
    optimizer: OptimizerConfig
    tracking: TrackingConfig

    @property
    def hidden(self) -> tuple[int, ...]:
        """The widths of the hidden layers."""
        return (self.width,) * self.depth if isinstance(self.width, int) else tuple(self.width)


GROUPS = {
    field.name: field.type
    for field in dataclasses.fields(Config)
    if isinstance(field.type, type) and dataclasses.is_dataclass(field.type)
}


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
    if config.dataset.name == "idx" and not config.dataset.dir:
        raise ConfigError(
            "dataset.dir=null: dataset=idx needs dataset.dir=FOLDER with the four files"
        )
    return config


def check(config: Config) -> None:
    """What only the data can tell: counts and batch size. Raises `ValueError`; writes nothing."""
    from harness.data.dataset import check_counts
    from harness.data.files import measure

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
        if field.name in GROUPS:
            for inner in dataclasses.fields(GROUPS[field.name]):
                found[f"{field.name}.{inner.name}"] = inner.metadata["meaning"]
        else:
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
    parts = [str(part) for part in problem["loc"]]
    known = meanings()
    if problem["type"] == "unexpected_keyword_argument":
        key = ".".join(parts)
        return f"{key}: there is no such key{suggest(key, known)}; --help lists all keys"
    keys = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    key = next((key for key in keys if key in known), ".".join(parts))
    value: Any = content
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    shown = "(nothing)" if value == "" else value if isinstance(value, str) else _spell(value)
    allowed = _ALLOWED.get(key) or problem["msg"].replace("Input should be ", "")
    options = problem.get("ctx", {}).get("expected", "").replace("'", "").replace(" or ", ", ")
    hint = suggest(str(value), options.split(", ")) if options else ""
    return f"{key}={shown}: expected {allowed}{hint}"


_WHOLE = "a whole number of at least 1"
_ALLOWED = {
    "width": "a whole number of at least 1, or a list of them such as [512,256]",
    "depth": _WHOLE,
    "batch": "a whole number from 1 to the number of training images",
    "epochs": _WHOLE,
    "seed": "a whole number of at least 0",
    "lr": "a finite number above 0",
    "threads": "auto or a whole number of at least 1",
    "dataset.num_val": "a whole number of at least 0",
    "dataset.num_train": "a whole number of at least 1, or null for all",
    "dataset.split_seed": "a whole number of at least 0",
}
