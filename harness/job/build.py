"""Build the objects that a configuration names. Nothing below this module reads a `Config`."""

import dataclasses
from typing import Any, Literal

from harness.data import normalization
from harness.data.augmentation import Augmentation
from harness.data.dataset import Dataset
from harness.nn.compiled import numba_loading, supports
from harness.nn.network import Network, count_parameters
from harness.nn.optimizers import OPTIMIZERS
from harness.nn.schedules import SCHEDULES, Schedule, with_warmup
from harness.runfolder.config import ConfigError
from harness.runfolder.schema import GROUPS, Backend, Config
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
)  # fmt: skip


def sizes(config: Config, dataset: Dataset) -> tuple[int, ...]:
    """Layer sizes (D, H, ..., C)."""
    rows, columns = dataset.image_shape
    return (rows * columns, *config.hidden, dataset.classes)


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


def backend(config: Config) -> Backend:
    """Which backend trains this configuration: "numpy" or "numba".

    Raises `ConfigError` when Numba cannot be used or does not support the other keys, and
    `backend=numba` asks for it.
    """
    obstacle = numba_loading.obstacle()
    missing = supports.unsupported(_step_settings(config))
    if config.backend == "numba":
        if obstacle:
            raise ConfigError(f"backend=numba: {obstacle}, or use backend=auto")
        if missing:
            expected = ", ".join(missing.values())
            raise ConfigError(f"backend=numba: expected {expected}; or use backend=auto")
    return "numba" if config.backend != "numpy" and not obstacle and not missing else "numpy"


def numba_fault(config: Config) -> str | None:
    """Why `backend=auto` takes NumPy where only a broken Numba prevents the other; else None."""
    if config.backend != "auto" or supports.unsupported(_step_settings(config)):
        return None
    return numba_loading.fault()


def _step_settings(config: Config) -> dict[str, Any]:
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
        if field.name in GROUPS:
            settings[field.name] = value.name
            settings |= {f"{field.name}.{key}": one for key, one in _options(value).items()}
        else:
            settings[field.name] = value
    return {key: value for key, value in settings.items() if value and value != "none"}


def trainer(config: Config, dataset: Dataset) -> Trainer:
    """The trainer of a configuration, with a freshly initialized network."""
    random = generators(config.seed)
    network = Network.create(sizes(config, dataset), config.activation, random["weights"])
    fitted = normalization.fit(config.normalization.name, dataset.train.images, dataset.train.rows)
    make_optimizer = OPTIMIZERS[config.optimizer.name]
    optimizer = make_optimizer(
        network.parameters, weight_decay=config.weight_decay, **_options(config.optimizer)
    )
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
        patience=config.patience,
        augmentation=augmentation(config, dataset.image_shape),
        backend=backend(config),
    )
    return Trainer(network, dataset, optimizer, fitted, options)


def schedule(config: Config) -> Schedule:
    """The learning-rate schedule, warm-up included."""
    options = _options(config.schedule)
    warmup = options.pop("warmup")
    return with_warmup(SCHEDULES[config.schedule.name](config.epochs, **options), warmup)


def augmentation(config: Config, image_shape: tuple[int, int]) -> Augmentation | None:
    """The augmentation of images of shape (rows, columns), None for `augmentation=none`."""
    if config.augmentation.name == "none":
        return None
    return Augmentation(image_shape, **_options(config.augmentation))


def _options(group: Any) -> dict[str, Any]:
    """The keys of a group without its name: keyword arguments of the part that it names."""
    return {key: value for key, value in dataclasses.asdict(group).items() if key != "name"}


def description(trained: Trainer) -> dict[str, Any]:
    """The JSON description in a weights file: what is needed to classify images with it."""
    normal, network = trained.normalization, trained.network
    return {
        "sizes": list(network.sizes),
        "activation": network.activation.name,
        "normalization": {"name": normal.name, "scale": normal.scale, "shift": normal.shift},
        "image_shape": list(trained.dataset.image_shape),
        "classes": trained.dataset.classes,
        "dataset": trained.dataset.name,
    }
