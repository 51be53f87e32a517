"""The built-in trainer as a training function: `trainer=scratch`."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.atomic import link, write_bytes
from harness.data.normalization import state_arrays
from harness.job import build, interruption, trained
from harness.job.training_run import TrainingRun
from harness.nn import metrics
from harness.nn.parameters import Parameters
from harness.runfolder import checkpoint
from harness.runfolder.checkpoints import STATE
from harness.runfolder.cost import PARAMETERS
from harness.runfolder.run import WEIGHTS
from harness.runfolder.schema import ScratchConfig
from harness.training.monitor import Diverged
from harness.training.options import Ties
from harness.training.trainer import Result, Trainer

LAST_WEIGHTS = "weights/last.safetensors"


def fit(config: ScratchConfig, run: TrainingRun, *, ties: Ties = "latest") -> None:
    """Train the network of a configuration; see `training/trainer.py`.

    ties: which of several epochs with the best value is the best one.

    Raises `Diverged` if a metric is not finite.
    """
    trainer, code = build.trainer(config, run.dataset, run.threads, ties), trained.code(config)
    if run.restored is not None:
        arrays, description = checkpoint.load(run.restored / STATE)
        trainer.restore(arrays, description["state"])
    run.begin()
    try:
        result = trainer.run(_Recorder(run, trainer.network.parameters.flat.size))
    except Diverged as error:
        if metrics.TRAIN_LOSS in error.values:  # an epoch, not the test set
            with suppress(Diverged):
                run.log(error.epoch, error.values)
        if config.optimizer.is_own and not np.isfinite(trainer.network.parameters.flat).all():
            what, _, _ = str(error).partition(": ")
            raise Diverged(
                f"{what}: optimizer={config.optimizer.name} wrote numbers that are not finite into "
                f"the parameters, or the learning rate lr={config.lr:g} is too high for it",
                error.epoch,
                error.values,
            ) from error
        raise
    description = trained.description(config, trainer) | ({trained.CODE: code} if code else {})
    _write_weights(description, trainer, result, run)
    run.predictions(trainer.dataset.test.labels, result.probabilities)


class _Recorder:
    """Passes what the training loop reports to the run."""

    def __init__(self, run: TrainingRun, parameters: int) -> None:
        """parameters: the number of the network's parameters."""
        self._run, self._parameters = run, parameters

    def epoch(self, epoch: int, values: dict[str, float], trainer: Trainer) -> None:
        """Record an epoch with the trainer's state."""
        if trainer.is_over:
            interruption.ignore_signals()  # finishing takes less time than resuming would

        def save(folder: Path) -> None:
            arrays, state = trainer.state()
            checkpoint.save(folder / STATE, arrays, {"state": state})

        self._run.log(epoch, values, save)

    def final(self, epoch: int, values: dict[str, float]) -> None:
        """Record the metrics of the test set; the run adds those of the best epoch itself."""
        found = {key: each for key, each in values.items() if key.startswith("test/")}
        self._run.final(found | {PARAMETERS: self._parameters})


def _write_weights(
    description: dict[str, Any], trainer: Trainer, result: Result, run: TrainingRun
) -> None:
    """Write the weights of the last and of the chosen epoch; equal ones share one file."""
    shapes = trainer.network.parameters.shapes
    weights = {
        LAST_WEIGHTS: (trainer.finished, trainer.evaluated),
        WEIGHTS: (result.best_epoch, trainer.best_parameters),
    }
    is_last = result.best_epoch == trainer.finished
    is_equal = is_last and np.array_equal(trainer.best_parameters, trainer.evaluated)
    for path, (epoch, flat) in weights.items():
        if path == WEIGHTS and is_equal:
            run.artifact(path, partial(_same, run.folder / LAST_WEIGHTS))
            continue
        arrays = Parameters(shapes, flat).arrays | state_arrays(trainer.normalization)
        about = description | {"epoch": epoch}
        run.artifact(path, partial(checkpoint.save, arrays=arrays, description=about))


def _same(first: Path, path: Path) -> None:
    """Make `path` a hard link to the file `first`, or a copy if that is impossible."""
    if not link(first, path):
        write_bytes(path, first.read_bytes())
