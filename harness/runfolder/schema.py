"""The typed schema of `conf/`: every key, what it means and what it allows."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field

# Strict numbers: true is not 1, and 1.5 and "64" are no counts.
Count = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Backend = Literal["auto", "numpy", "numba"]
CLOSED = ConfigDict(extra="forbid")


def about(meaning: str) -> Any:
    """A required field's metadata: the line that `--help` prints."""
    return dataclasses.field(metadata={"meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """conf/dataset"""

    __pydantic_config__ = CLOSED
    name: str = about("which data set, of data/sources.py; set by dataset=NAME")
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
class CheckpointConfig:
    """The node `checkpoint` of conf/config.yaml"""

    __pydantic_config__ = CLOSED
    every: Natural = about("write a checkpoint after each so many epochs; 0: never")
    keep: Natural = about("how many of the newest checkpoints stay, beside the best; 0: all")
    milestones: Natural = about("the checkpoint after each so many epochs stays for ever; 0: none")


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """conf/tracking"""

    __pydantic_config__ = CLOSED
    name: Literal["local", "server", "none"] = about("where results go; set by tracking=NAME")
    uri: str | None = about("the tracking server of tracking=server")
    experiment: Annotated[str, Field(min_length=1)] = about("the MLflow experiment")
    patience: Annotated[float, Field(gt=0)] = about(
        "seconds without progress after which a command's delivery gives up; `sync` goes on later"
    )


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
    adversarial: NotNegative = about(
        "how far (norm, normalized units) an image is moved to where its loss is higher, and learnt"
    )
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
    checkpoint: CheckpointConfig
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
    "checkpoint": (CheckpointConfig,),
    "tracking": (TrackingConfig,),
}
