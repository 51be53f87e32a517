"""Build the objects that a configuration names. Nothing below this module reads a `Config`."""

import dataclasses
import math
from typing import Any, Literal

import numpy as np

from harness.data import normalization
from harness.data.dataset import Dataset, default_names
from harness.data.normalization import Affine
from harness.nn.compiled import numba_loading, supports
from harness.nn.network import Network, count_parameters
from harness.nn.schedules import Schedule, with_warmup
from harness.runfolder import own_code, parts
from harness.runfolder.config import ConfigError
from harness.runfolder.objective import Objective
from harness.runfolder.parts import KINDS, Part, PartError
from harness.runfolder.schema import Backend, ScratchConfig
from harness.training.options import Options
from harness.training.randomness import generators
from harness.training.trainer import Trainer

# One more BLAS thread for each so many multiplications and additions of a step's forward pass.
# Measured: a second thread slows training by 1/3 at 6.5 million (width 256, batch 32), makes no
# difference at 13 million, and speeds it up by 1/7 at 26 million.
STEP_SIZE_PER_THREAD = 10_000_000

# Keys that a training step does not depend on, and `width` and `depth`, which are checked as the
# widths of the hidden layers. The inputs may have any normalization.
OUTSIDE_THE_STEP = (
    "width", "depth", "threads", "outputs", "dataset", "normalization", "checkpoint", "tracking",
    "trainer",
)  # fmt: skip


def sizes(config: ScratchConfig, dataset: Dataset) -> tuple[int, ...]:
    """Layer sizes (D, H, ..., C)."""
    return (math.prod(dataset.input_shape), *config.hidden, dataset.outputs)


def blas_threads(
    sizes: tuple[int, ...], batch: int, cores: int, configured: int | Literal["auto"] = "auto"
) -> int:
    """The number of BLAS threads: as configured, or by a fixed rule of the step's size and cores.

    sizes: layer sizes (D, H, ..., C). Never by a timing: products differ in their last bits with
    the number of threads.
    """
    if configured != "auto":
        return configured
    return max(1, min(cores, batch * count_parameters(sizes) // STEP_SIZE_PER_THREAD))


def backend(config: ScratchConfig, inputs: str = "uint8") -> Backend:
    """Which backend trains this configuration: "numpy" or "numba".

    inputs: the type of the data, or "targets" for a regression.
    Raises `ConfigError` when Numba cannot be used or does not support the other keys, and
    `backend=numba` asks for it.
    """
    obstacle = numba_loading.obstacle()
    settings = _step_settings(config) | ({} if inputs == "uint8" else {"inputs": inputs})
    missing = supports.unsupported(settings)
    if config.backend == "numba":
        if obstacle:
            raise ConfigError(f"backend=numba: {obstacle}, or use backend=auto")
        if missing:
            expected = ", ".join(missing.values())
            raise ConfigError(f"backend=numba: expected {expected}; or use backend=auto")
    return "numba" if config.backend != "numpy" and not obstacle and not missing else "numpy"


def kind_of_inputs(dtype: np.dtype[Any], is_regression: bool) -> str:
    """What `backend` asks of the data: the name of its type, or "targets" of a regression."""
    return "targets" if is_regression else dtype.name


def _step_settings(config: ScratchConfig) -> dict[str, Any]:
    """The settings that a training step depends on and that are not off.

    The schema states no defaults, so "off" is 0, null, false or a group's `none`. A key of another
    default is unsupported by the compiled epoch until `supports` allows it. A group is its name;
    its other keys are spelled `group.key`.
    """
    settings: dict[str, Any] = {"hidden": config.hidden}
    for field in dataclasses.fields(config):
        value: Any = getattr(config, field.name)
        if field.name in OUTSIDE_THE_STEP:
            continue
        if isinstance(value, Part):
            settings[field.name] = value.name
            settings |= {f"{field.name}.{key}": one for key, one in value.options.items()}
        else:
            settings[field.name] = value
    return {key: value for key, value in settings.items() if value and value != "none"}


def trainer(config: ScratchConfig, dataset: Dataset) -> Trainer:
    """The trainer of a configuration, with a freshly initialized network."""
    random = generators(config.seed)
    objective = Objective.parse(config.objective)
    network = Network.create(sizes(config, dataset), config.activation, random["weights"])
    fitted = normalization.fit(config.normalization.name, dataset.train.inputs, dataset.train.rows)
    optimizer = part("optimizer", config, network.parameters)
    options = Options(
        batch=config.batch,
        lr=config.lr,
        epochs=config.epochs,
        seed=config.seed,
        schedule=schedule(config),
        dropout=config.dropout,
        input_dropout=config.input_dropout,
        max_norm=config.max_norm,
        label_smoothing=config.label_smoothing,
        adversarial=config.adversarial,
        ema=config.ema,
        objective=objective.metric,
        maximize=objective.is_max,
        patience=config.patience,
        augmentation=part("augmentation", config, dataset.input_shape),
        backend=backend(config, kind_of_inputs(dataset.train.inputs.dtype, dataset.classes == 0)),
    )
    return Trainer(network, dataset, optimizer, fitted, options)


def part(kind: str, config: ScratchConfig, *arguments: Any) -> Any:
    """The part of a kind that the configuration names, made with the arguments of its kind.

    Raises `PartError` when a part of the user's cannot be made.
    """
    chosen: Part = getattr(config, kind)
    common = {key.name for key in KINDS[kind].common}
    options = {key: value for key, value in chosen.options.items() if key not in common}
    options |= {key.name: getattr(config, key.name) for key in parts.shared_keys(kind, chosen.name)}
    make = parts.factory(kind, chosen.name)
    try:
        return make(*arguments, **options)
    except Exception as error:
        if not chosen.is_own:
            raise
        raise PartError(f"{kind}={chosen.name}: {own_code.described(error)}") from error


def schedule(config: ScratchConfig) -> Schedule:
    """The learning-rate schedule, warm-up included."""
    return with_warmup(part("schedule", config, config.epochs), config.schedule.options["warmup"])


def description(trained: Trainer) -> dict[str, Any]:
    """The JSON description in a weights file: what is needed to classify images with it."""
    normal, network, dataset = trained.normalization, trained.network, trained.dataset
    described: dict[str, Any] = {"name": type(normal).__name__}
    if isinstance(normal, Affine):
        described = {"name": normal.name, "scale": normal.scale, "shift": normal.shift}
    # Bytes whose classes have no other names are described as in earlier versions, to the byte.
    dtype = dataset.train.inputs.dtype
    named = dataset.class_names != default_names(dataset.classes)
    return {
        "sizes": list(network.sizes),
        "activation": network.activation.name,
        "normalization": described,
        "image_shape": list(dataset.input_shape),
        "classes": dataset.classes,
        "dataset": dataset.name,
        **({"class_names": list(dataset.class_names)} if named else {}),
        **({} if dtype == np.uint8 else {"dtype": dtype.name}),
    }
