"""From a configuration to the plain objects it names. Below this module nobody sees a config."""

import dataclasses
import importlib.util
from typing import Any

from harness.data import normalization
from harness.data.augmentation import Augmentation
from harness.data.dataset import Dataset
from harness.nn.network import Network, count_parameters
from harness.nn.optimizers import OPTIMIZERS
from harness.nn.schedules import SCHEDULES, Schedule, with_warmup
from harness.runfolder import environment
from harness.runfolder.config import ConfigError
from harness.runfolder.schema import Backend, Config
from harness.training.options import Options
from harness.training.randomness import generators
from harness.training.trainer import Trainer

# One more BLAS thread for each so many multiplications and additions of a step's forward pass.
# Measured: at 6.5 million (width 256, batch 32) a second thread costs a third, at 13 million it
# changes nothing, at 26 million it gains a seventh.
STEP_SIZE_PER_THREAD = 10_000_000


# What the compiled epoch does not do.
PLAIN = ("dropout", "input_dropout", "weight_decay", "max_norm", "adversarial", "ema")


def sizes(config: Config, dataset: Dataset) -> tuple[int, ...]:
    """Layer sizes (D, H, ..., C)."""
    rows, columns = dataset.image_shape
    return (rows * columns, *config.hidden, dataset.classes)


def threads(config: Config, dataset: Dataset) -> int:
    """The number of BLAS threads: as configured, or by the rule."""
    if config.threads != "auto":
        return int(config.threads)
    return threads_for(sizes(config, dataset), config.batch, environment.cores())


def threads_for(sizes: tuple[int, ...], batch: int, cores: int) -> int:
    """BLAS threads by a fixed rule of layer sizes, batch and cores.

    Never by a timing: products differ in their last bits with the number of threads.
    """
    return max(1, min(cores, batch * count_parameters(sizes) // STEP_SIZE_PER_THREAD))


def backend(config: Config) -> Backend:
    """ "numpy" or "numba": what trains this configuration. Raises `ConfigError` if numba cannot."""
    installed = importlib.util.find_spec("numba") is not None
    limits = {
        "one hidden layer": len(config.hidden) == 1,
        "optimizer=sgd": config.optimizer.name == "sgd",
        "batch up to 1024": config.batch <= 1024,
        "augmentation=none": config.augmentation.name == "none",
        **{f"no {key}": not getattr(config, key) for key in PLAIN},
    }
    missing = [what for what, fits in limits.items() if not fits]
    if config.backend == "numba":
        if not installed:
            raise ConfigError(
                "backend=numba: Numba is not installed; `python -m pip install -c constraints.txt "
                "-e '.[fast]'` or use backend=auto"
            )
        if missing:
            raise ConfigError(f"backend=numba: expected {', '.join(missing)}; or use backend=auto")
    return "numba" if config.backend != "numpy" and installed and not missing else "numpy"


def trainer(config: Config, dataset: Dataset) -> Trainer:
    """Everything a run needs, ready to train."""
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
    """The learning rate's schedule, with its warm-up."""
    options = _options(config.schedule)
    warmup = options.pop("warmup")
    return with_warmup(SCHEDULES[config.schedule.name](config.epochs, **options), warmup)


def augmentation(config: Config, image_shape: tuple[int, int]) -> Augmentation | None:
    """How training images are deformed, or None when they are not."""
    if config.augmentation.name == "none":
        return None
    return Augmentation(image_shape, **_options(config.augmentation))


def _options(group: Any) -> dict[str, Any]:
    """A group's settings without its name: the keyword arguments of what it names."""
    return {key: value for key, value in dataclasses.asdict(group).items() if key != "name"}


def description(trained: Trainer) -> dict[str, Any]:
    """What must stand beside the weights so that they can be used: the JSON of a weights file."""
    normal, network = trained.normalization, trained.network
    return {
        "sizes": list(network.sizes),
        "activation": network.activation.name,
        "normalization": {"name": normal.name, "scale": normal.scale, "shift": normal.shift},
        "image_shape": list(trained.dataset.image_shape),
        "classes": trained.dataset.classes,
        "dataset": trained.dataset.name,
    }
