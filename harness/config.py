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
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

Leaf = str | int | float | bool | None
# Strict numbers: true is not 1, and 1.5 and "64" are no counts.
Count = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Backend = Literal["auto", "numpy", "numba"]
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
class SGDConfig:
    """conf/optimizer/sgd.yaml"""

    __pydantic_config__ = CLOSED
    name: Literal["sgd"] = about("the update rule; set by optimizer=NAME")


@dataclass(frozen=True, kw_only=True)
class MomentumConfig:
    """conf/optimizer/momentum.yaml"""

    __pydantic_config__ = CLOSED
    name: Literal["momentum"] = about("the update rule; set by optimizer=NAME")
    momentum: Fraction = about("how much of the velocity stays at each step")
    nesterov: bool = about("Nesterov's form of momentum")


@dataclass(frozen=True, kw_only=True)
class AdamConfig:
    """conf/optimizer/adam.yaml and adamw.yaml"""

    __pydantic_config__ = CLOSED
    name: Literal["adam", "adamw"] = about("the update rule; set by optimizer=NAME")
    beta1: Fraction = about("memory of the mean gradient")
    beta2: Fraction = about("memory of the mean square")
    epsilon: Positive = about("added to the root of the mean square")


@dataclass(frozen=True, kw_only=True)
class ConstantConfig:
    """conf/schedule/constant.yaml and cosine.yaml"""

    __pydantic_config__ = CLOSED
    name: Literal["constant", "cosine"] = about("the learning rate over time; set by schedule=NAME")
    warmup: NotNegative = about("epochs of linear rise from 0 at the start")


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """conf/schedule/step.yaml"""

    __pydantic_config__ = CLOSED
    name: Literal["step"] = about("the learning rate over time; set by schedule=NAME")
    warmup: NotNegative = about("epochs of linear rise from 0 at the start")
    every: Positive = about("epochs between two falls of the learning rate")
    gamma: Positive = about("its factor at each fall")


@dataclass(frozen=True, kw_only=True)
class OneCycleConfig:
    """conf/schedule/onecycle.yaml"""

    __pydantic_config__ = CLOSED
    name: Literal["onecycle"] = about("the learning rate over time; set by schedule=NAME")
    warmup: NotNegative = about("epochs of linear rise from 0 at the start")
    rise: Annotated[float, Field(gt=0, lt=1, strict=True)] = about("share of the time spent rising")
    start: Annotated[float, Field(ge=1, strict=True)] = about("lr / start is the first rate")
    end: Annotated[float, Field(ge=1, strict=True)] = about("lr / end is the last rate")


@dataclass(frozen=True, kw_only=True)
class NoAugmentationConfig:
    """conf/augmentation/none.yaml"""

    __pydantic_config__ = CLOSED
    name: Literal["none"] = about("deformed training images; set by augmentation=NAME")


@dataclass(frozen=True, kw_only=True)
class AffineConfig:
    """conf/augmentation/affine.yaml"""

    __pydantic_config__ = CLOSED
    name: Literal["affine"] = about("deformed training images; set by augmentation=NAME")
    rotation: NotNegative = about("standard deviation of the rotation in degrees")
    scale: NotNegative = about("standard deviation of the stretch along each axis, a fraction")
    shear: NotNegative = about("standard deviation of the slant, a fraction")
    shift: NotNegative = about("largest shift in pixels")


@dataclass(frozen=True, kw_only=True)
class ElasticConfig:
    """conf/augmentation/elastic.yaml"""

    __pydantic_config__ = CLOSED
    name: Literal["elastic"] = about("deformed training images; set by augmentation=NAME")
    rotation: NotNegative = about("standard deviation of the rotation in degrees")
    scale: NotNegative = about("standard deviation of the stretch along each axis, a fraction")
    shear: NotNegative = about("standard deviation of the slant, a fraction")
    shift: NotNegative = about("largest shift in pixels")
    strength: NotNegative = about("standard deviation of the elastic displacements in pixels")
    grid: Annotated[int, Field(ge=2, le=28, strict=True)] = about(
        "points of the elastic field along each side"
    )


OptimizerConfig = SGDConfig | MomentumConfig | AdamConfig
ScheduleConfig = ConstantConfig | StepConfig | OneCycleConfig
AugmentationConfig = NoAugmentationConfig | AffineConfig | ElasticConfig


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
    lr: Positive = about("learning rate; the default is the optimizer's own")
    epochs: Count = about("passes over the training images")
    seed: Natural = about("of the initial weights and the order of images")
    dropout: Fraction = about("share of hidden units silenced at each training step")
    input_dropout: Fraction = about("share of inputs silenced each time an image is trained on")
    weight_decay: NotNegative = about("pull of the weights toward zero")
    max_norm: Positive | None = about(
        "largest norm of a hidden unit's incoming weights; null: none"
    )
    label_smoothing: Fraction = about("share of each target spread evenly over the classes")
    ema: Fraction = about("decay of the weights' running average that is evaluated; 0: no average")
    patience: Count | None = about("stop after so many epochs without a better validation error")
    backend: Backend = about(
        "numba trains one hidden layer by sgd over ink alone; auto: where it can, if installed"
    )
    threads: Literal["auto"] | Count = about(
        "BLAS threads; auto is a fixed rule of sizes and cores"
    )
    outputs: Annotated[str, Field(min_length=1)] = about("the folder for everything generated")
    dataset: DatasetConfig
    normalization: NormalizationConfig
    optimizer: Annotated[OptimizerConfig, Field(discriminator="name")]
    schedule: Annotated[ScheduleConfig, Field(discriminator="name")]
    augmentation: Annotated[AugmentationConfig, Field(discriminator="name")]
    tracking: TrackingConfig

    @property
    def hidden(self) -> tuple[int, ...]:
        """The widths of the hidden layers."""
        return (self.width,) * self.depth if isinstance(self.width, int) else tuple(self.width)


# The schema of each group: one dataclass, or several of which the name chooses one.
GROUPS: dict[str, tuple[type, ...]] = {
    "dataset": (DatasetConfig,),
    "normalization": (NormalizationConfig,),
    "optimizer": get_args(OptimizerConfig),
    "schedule": get_args(ScheduleConfig),
    "augmentation": get_args(AugmentationConfig),
    "tracking": (TrackingConfig,),
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
    if config.patience is not None and config.dataset.num_val == 0:
        raise ConfigError(
            f"patience={config.patience}: stopping early needs validation images; set "
            "dataset.num_val above 0 or leave patience out"
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
    "weight_decay": "a finite number of at least 0",
    "max_norm": "a finite number above 0, or null for none",
    "patience": "a whole number of at least 1, or null to train all epochs",
    "threads": "auto or a whole number of at least 1",
    "dataset.num_val": "a whole number of at least 0",
    "dataset.num_train": "a whole number of at least 1, or null for all",
    "dataset.split_seed": "a whole number of at least 0",
}
