"""The kinds of parts, each with its table, its keys, and the members that a part must have."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Annotated, Any

from annotated_types import Ge
from pydantic import ConfigDict, TypeAdapter

Factory = Callable[..., Any]


@dataclass(frozen=True)
class Key:
    """A key of a part. meaning: its help text; empty if the annotation has none."""

    name: str
    annotation: Any
    default: Any
    meaning: str

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Pydantic's validator of the annotation, which takes a millisecond to make."""
        return TypeAdapter(self.annotation, config=ConfigDict(strict=True, allow_inf_nan=False))


@dataclass(frozen=True)
class Kind:
    """A kind of parts.

    table: MODULE:NAME of its table. meaning: the help text of the key that names the part. before:
    the part that runs without this key had. is_scalar: a part without options is written as its
    name. shared: root keys that a part can take. arguments: the positional arguments that a part is
    called with. common: keys of every part of the kind, besides the part's own. members: the
    attributes that a part must have.
    """

    name: str
    table: str
    meaning: str
    before: str = ""
    is_scalar: bool = False
    shared: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    common: tuple[Key, ...] = ()
    members: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The key whose value names the part: `optimizer.name`, or `activation`."""
        return self.name if self.is_scalar else f"{self.name}.name"

    @property
    def rows(self) -> Mapping[str, Factory]:
        """The built-in parts by name."""
        module, _, name = self.table.partition(":")
        rows: Mapping[str, Factory] = getattr(import_module(module), name)
        return rows


WARMUP = Key("warmup", Annotated[float, Ge(0)], 0.0, "epochs of linear warm-up from 0")
SCRATCH = "scratch"
TRAINERS: dict[str, Factory | None] = {SCRATCH: None}  # its keys are those of `ScratchConfig`
KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "trainer", "harness.runfolder.kinds:TRAINERS",
            "the training function: scratch, or your own MODULE:FUNCTION with its keys",
            before=SCRATCH,
        ),
        Kind(
            "optimizer", "harness.nn.optimizers:OPTIMIZERS",
            "the update rule; set by optimizer=NAME", shared=("lr", "weight_decay"),
            arguments=("parameters",), members=("state", "step"),
        ),
        Kind(
            "schedule", "harness.nn.schedules:SCHEDULES",
            "the learning rate over time; set by schedule=NAME", common=(WARMUP,),
            arguments=("epochs",),
            members=("__call__",),
        ),
        Kind(
            "model", "harness.nn.models:MODELS", "the network; set by model=NAME", before="mlp",
            shared=("width", "depth", "activation", "dropout"),
            arguments=("input_shape", "outputs"),
        ),
        Kind(
            "activation", "harness.nn.activations:ACTIVATIONS", "of the hidden layers",
            is_scalar=True,
            members=("initialization", "needs_input", "forward", "derivative"),
        ),
        Kind(
            "loss", "harness.nn.losses:LOSSES", "the function to minimize; set by loss=NAME",
            before="cross_entropy", members=("kind", "value", "gradient", "predict"),
        ),
        Kind(
            "normalization", "harness.data.normalization:NORMALIZATIONS",
            "pixels to inputs: minmax [-1, 1], unit [0, 1], standard (mean 0, deviation 1), none",
            members=("fit", "state", "restore", "apply"),
        ),
        Kind(
            "augmentation", "harness.data.augmentation:AUGMENTATIONS",
            "deformation of training images; set by augmentation=NAME",
            arguments=("input_shape",), members=("__call__",),
        ),
    )
}  # fmt: skip

DATASET = Kind("dataset", "harness.data.sources:SOURCES", "the data set; set by dataset=NAME")


def kind_of(name: str) -> Kind:
    """The kind with this name; the built-in rows of `dataset` are not functions."""
    return DATASET if name == DATASET.name else KINDS[name]


def name_of(kind: str, content: Mapping[str, Any]) -> Any:
    """The name of a part in a configuration, of any type; the kind's `before` if it has none."""
    node = content.get(kind, KINDS[kind].before)
    return node.get("name") if isinstance(node, Mapping) else node
