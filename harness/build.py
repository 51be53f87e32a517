"""From a configuration to the plain objects it names. Below this module nobody sees a config."""

from typing import Any

import numpy as np

from harness import environment
from harness.config import Config
from harness.data import normalization
from harness.data.dataset import Dataset
from harness.nn.network import Network, count_parameters
from harness.nn.optimizers import OPTIMIZERS
from harness.training.trainer import Trainer

# One seed, one independent stream per purpose (NumPy's SeedSequence.spawn): drawing more numbers
# for one purpose cannot change another.
PURPOSES = ("weights", "order", "dropout", "augmentation")

# One more BLAS thread for each so many multiplications and additions of a step's forward pass.
# Measured: below it, handing work to a second thread costs more than the thread brings.
STEP_SIZE_PER_THREAD = 3_000_000


def generators(seed: int) -> dict[str, np.random.Generator]:
    """The run's random generators by purpose."""
    children = np.random.SeedSequence(seed).spawn(len(PURPOSES))
    return {
        purpose: np.random.Generator(np.random.PCG64(child))
        for purpose, child in zip(PURPOSES, children, strict=True)
    }


def sizes(config: Config, dataset: Dataset) -> tuple[int, ...]:
    """Layer sizes (D, H, ..., C)."""
    rows, columns = dataset.image_shape
    return (rows * columns, *config.hidden, dataset.classes)


def threads(config: Config, dataset: Dataset) -> int:
    """The number of BLAS threads: as configured, or by a fixed rule of sizes, batch and cores.

    Never by a timing: products differ in their last bits with the number of threads.
    """
    if config.threads != "auto":
        return int(config.threads)
    work = config.batch * count_parameters(sizes(config, dataset))
    return max(1, min(environment.cores(), work // STEP_SIZE_PER_THREAD))


def trainer(config: Config, dataset: Dataset) -> Trainer:
    """Everything a run needs, ready to train."""
    random = generators(config.seed)
    network = Network.create(sizes(config, dataset), config.activation, random["weights"])
    fitted = normalization.fit(config.normalization.name, dataset.train.images, dataset.train.rows)
    return Trainer(
        network,
        dataset,
        OPTIMIZERS[config.optimizer.name](network.parameters),
        fitted,
        batch=config.batch,
        lr=config.lr,
        epochs=config.epochs,
        generator=random["order"],
    )


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
