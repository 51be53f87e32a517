"""The typed schema of `conf/`: every key, what it means, and which values it allows."""

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt
from pydantic import AllowInfNan, ConfigDict, Field, Strict

from harness.runfolder import objective
from harness.runfolder.parts import Part
from harness.training.options import Weights

if TYPE_CHECKING:
    from harness.data.split import Split

# Strict numbers: true is not 1, and 1.5 and "64" are not counts. If a type has a description, error
# messages use it for what they expected.
Count = Annotated[int, Ge(1), Strict()]
Natural = Annotated[int, Ge(0), Strict()]
Fraction = Annotated[float, Ge(0), Lt(1), Strict()]
Positive = Annotated[float, Gt(0), AllowInfNan(False), Strict()]
NotNegative = Annotated[float, Ge(0), AllowInfNan(False), Strict()]
Backend = Literal["auto", "numpy", "numba"]


def about(meaning: str, **before: Any) -> Any:
    """A required field. meaning: the line that `--help` prints.

    default: for a key that frozen configs of earlier versions do not have, the value they acted on.
    """
    return dataclasses.field(metadata={"meaning": meaning}, **before)


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group of keys; unknown keys are refused."""

    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class DatasetConfig(Group):
    """conf/dataset"""

    name: str = about("which data set; set by dataset=NAME")
    dir: str | None = about("folder with the four IDX files; required by dataset=idx")
    file: str | None = about(".npz file of the arrays; required by dataset=arrays", default=None)
    label: Annotated[str, Field(min_length=1, description="a name")] | None = about(
        "name of your own data in runs, reports and the registry", default=None
    )
    num_val: Natural | Fraction = about(
        "count, or fraction below 1, of validation examples taken from the training set"
    )
    num_train: Count | None = about("a smaller training set, for quick trials; null: all examples")
    split_seed: Natural = about("draws the validation examples and the smaller training set")

    options: dict[str, Any] = about("the keys of your own function", default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether a user's function makes the data."""
        return ":" in self.name

    @property
    def title(self) -> str | None:
        """The name of the data in runs and reports; None for the name of its format."""
        return self.label or (self.name.rpartition(":")[2] if self.is_own else None)

    @property
    def place(self) -> str | None:
        """Where the user's own files are: the folder of `idx`, the file of `arrays`."""
        return self.file if self.name == "arrays" else self.dir

    @property
    def split(self) -> "Split":
        """How the training examples are split."""
        from harness.data.split import Split

        return Split(self.num_val, self.num_train, self.split_seed)


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Group):
    """The node `checkpoint` of conf/config.yaml"""

    every: Natural = about("epochs between two checkpoints; 0: no checkpoints")
    keep: Natural = about(
        "newest checkpoints to keep, besides the best, until the run is finished; 0: all, for good"
    )
    milestones: Natural = about("keep the checkpoint of every Nth epoch for good; 0: none")


@dataclass(frozen=True, kw_only=True)
class TrackingConfig(Group):
    """conf/tracking"""

    name: Literal["local", "server", "none"] = about("where to send results; set by tracking=NAME")
    uri: str | None = about("address of the tracking server; required by tracking=server")
    experiment: Annotated[str, Field(min_length=1, description="a name")] = about(
        "the MLflow experiment; null: the label of the data set, else its name"
    )
    patience: Annotated[float, Field(gt=0, description="a number above 0")] = about(
        "seconds without progress until the delivery stops; `harness sync` delivers the rest"
    )
    diff: bool = about(
        "record uncommitted changes of the harness's source code, and upload them with the run",
        default=True,
    )


@dataclass(frozen=True, kw_only=True)
class Config(Group):
    """The root of conf/ that every trainer has."""

    epochs: Count = about("passes over the training examples")
    seed: Natural = about("random seed of initial weights, example order, dropout and augmentation")
    objective: Annotated[str, Field(description="a metric such as val/error")] = about(
        "the metric that chooses the best epoch, run and setting, lower is better; METRIC:max: "
        "higher is better",
        default=str(objective.DEFAULT),
    )
    weights: Weights = about(
        "epoch whose weights are tested, saved and ranked: best (the latest of equals), or last",
        default="best",
    )
    patience: Count | None = about(
        "stop after this many epochs without improvement of the objective; null: train all epochs"
    )
    threads: Literal["auto"] | Count = about(
        "training threads; auto: by a fixed rule of layer sizes, batch and cores"
    )
    outputs: Annotated[str, Field(min_length=1, description="a folder")] = about(
        "folder for all generated files"
    )
    dataset: DatasetConfig
    trainer: Part
    checkpoint: CheckpointConfig
    tracking: TrackingConfig

    @property
    def least_epochs(self) -> int:
        """The fewest epochs after which training can end; `patience` can end it early."""
        return self.epochs if self.patience is None else min(self.epochs, self.patience + 1)

    @property
    def required_threads(self) -> int:
        """The BLAS threads that the run needs; `threads=auto` needs only one."""
        return 1 if self.threads == "auto" else self.threads

    @property
    def parts(self) -> dict[str, Part]:
        """The parts by kind."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Part)}

    @property
    def own_names(self) -> frozenset[str]:
        """The MODULE:NAME of all user code that the run uses."""
        own = {part.name for part in self.parts.values()} | {*getattr(self, "metrics", ())}
        own.add(self.dataset.name)
        return frozenset(name for name in own if ":" in name)


@dataclass(frozen=True, kw_only=True)
class ScratchConfig(Config):
    """The root of conf/ with the keys of the built-in trainer."""

    width: Annotated[
        Count | Annotated[list[Count], Field(min_length=1)] | None,
        Field(description="a whole number of at least 1, or a list of them such as [512,256]"),
    ] = about("hidden units; a list such as [512,256] sets each hidden layer")
    depth: Count | None = about("hidden layers, when width is one number")
    activation: Part
    batch: Annotated[
        Count, Field(description="a whole number from 1 to the number of training examples")
    ] = about("examples per step")
    lr: Positive = about("learning rate; each optimizer has its own default")
    dropout: Fraction = about("share of hidden units zeroed at each training step")
    input_dropout: Fraction = about("share of inputs zeroed at each training step")
    weight_decay: NotNegative = about("how strongly weights are pulled toward zero")
    max_norm: Positive | None = about(
        "largest norm of a hidden unit's incoming weights; null: no limit"
    )
    label_smoothing: Fraction = about("share of each target spread evenly over the classes")
    adversarial: NotNegative = about(
        "adversarial training: L2 radius of the perturbation, in normalized pixels; 0: off"
    )
    ema: Fraction = about("decay of the running average of the weights to evaluate; 0: no average")
    metrics: list[str] = about(
        "additional metrics of each part of the data, such as [top2_error] or [mine.parts:f1]",
        default_factory=list,
    )
    backend: Backend = about(
        "numba: compiled kernels for the built-in parts; auto: numba where it is installed"
    )
    model: Part
    loss: Part
    normalization: Part
    optimizer: Part
    schedule: Part
    augmentation: Part

    @property
    def hidden(self) -> tuple[int, ...]:
        """The widths of the hidden layers of `model=mlp`."""
        assert self.width is not None
        assert self.depth is not None
        return (self.width,) * self.depth if isinstance(self.width, int) else tuple(self.width)


# The schema of each group that is not a part.
GROUPS: dict[str, type] = {
    "dataset": DatasetConfig,
    "checkpoint": CheckpointConfig,
    "tracking": TrackingConfig,
}


def fields() -> "Iterator[tuple[str, dataclasses.Field[Any], Any]]":
    """Every dotted key with its field and annotation, in order; a part is one key."""
    hints = typing.get_type_hints(ScratchConfig, include_extras=True)
    for field in dataclasses.fields(ScratchConfig):
        if field.name not in GROUPS:
            yield field.name, field, hints[field.name]
            continue
        inner = typing.get_type_hints(GROUPS[field.name], include_extras=True)
        for each in dataclasses.fields(GROUPS[field.name]):
            if each.name != "options":
                yield f"{field.name}.{each.name}", each, inner[each.name]
