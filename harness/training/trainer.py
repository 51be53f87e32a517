"""The training loop.

    for epoch in 1..epochs:
        shuffle; for each batch: forward, loss gradient, backward, optimizer step
        score the validation images; call the recorder
    score the test images once, with the weights chosen on validation

The loop reads and writes no files: a recorder does, after each epoch. Its state between two epochs
can be saved and restored; a restored training ends with the same bits.
"""

import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.data.batches import Blocks, shuffled
from harness.data.dataset import Dataset, Part
from harness.data.normalization import Normalization
from harness.nn import metrics
from harness.nn.losses import cross_entropy
from harness.nn.metrics import Score, misclassified
from harness.nn.network import Network, Parameters
from harness.nn.optimizers import Optimizer
from harness.nn.regularization import Average, draw_mask
from harness.training import compiled, randomness
from harness.training.evaluation import evaluate
from harness.training.options import Options
from harness.training.step import Step

Array = NDArray[np.float32]


class Diverged(ArithmeticError):
    """The loss became NaN or infinite; the message names the epoch and the likely cause.

    epoch, values: the epoch's number and metrics.
    """

    def __init__(self, message: str, epoch: int, values: dict[str, float]) -> None:
        super().__init__(message)
        self.epoch, self.values = epoch, values


class Recorder(Protocol):
    """What the loop calls after each epoch and at the end."""

    def epoch(self, epoch: int, values: dict[str, float], trainer: "Trainer") -> None:
        """Called after each epoch. epoch: from 1. values: its metrics by key."""

    def final(self, epoch: int, values: dict[str, float]) -> None:
        """Called once, after the last epoch. values: the metrics of the test set."""


class Silence:
    """A recorder that records nothing."""

    def epoch(self, epoch: int, values: dict[str, float], trainer: "Trainer") -> None:
        """Do nothing."""

    def final(self, epoch: int, values: dict[str, float]) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Result:
    """The result of a training.

    best_epoch: the epoch with the lowest validation error (the earliest of equals), whose weights
    were scored on the test set; the last epoch when there is no validation set. values: the
    metrics of the test set by key. probabilities: (N, C) float32 of the test images, in file order.
    """

    best_epoch: int
    values: dict[str, float]
    probabilities: Array


class Trainer:
    """Trains one network on one data set.

    network: trained in place. optimizer: made for the network's parameters. normalization: of the
    pixels of all parts, fitted to the training part. Raises `ValueError` for backend="numba" with
    anything that the compiled epoch does not support.
    """

    def __init__(
        self,
        network: Network,
        dataset: Dataset,
        optimizer: Optimizer,
        normalization: Normalization,
        options: Options,
    ) -> None:
        self.network, self.dataset, self.optimizer = network, dataset, optimizer
        self.normalization, self.options = normalization, options
        self.generators = randomness.generators(options.seed)
        self.finished, self.best_epoch, self.best_error = 0, 0, float("inf")
        self.average = Average(network, options.ema) if options.ema else None
        self.evaluated = network if self.average is None else self.average.network
        self.best_parameters = network.parameters.flat.copy()
        self._blocks = Blocks(
            dataset.train,
            normalization,
            classes=dataset.classes,
            batch=options.batch,
            smoothing=options.label_smoothing,
        )
        self._step = Step(
            network,
            optimizer,
            options,
            batch=min(options.batch, len(dataset.train)),
            generator=self.generators["dropout"],
            average=self.average,
        )
        self._logits = np.empty((self._blocks.length, dataset.classes), np.float32)
        inputs = (self._blocks.length, network.sizes[0])
        self._input_mask = np.empty(inputs, np.float32) if options.input_dropout else None
        self._steps_per_epoch = -(-len(dataset.train) // options.batch)
        if options.backend == "numba":
            compiled.check_supported(network, optimizer, options)
            # Compile now, not during the first epoch.
            self._compiled_epoch(np.zeros(0, np.uint32), np.zeros(0))

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left: all are trained, or training stopped early."""
        return self.finished >= self.options.epochs or self._is_stale()

    def run(self, recorder: Recorder) -> Result:
        """Train the epochs that are left and score the test set.

        Raises `Diverged` when a loss is not finite.
        """
        while not self.is_over:
            with np.errstate(over="ignore", invalid="ignore"):  # checked after the epoch
                values = self.train_epoch()
                epoch = self.finished
                if self.dataset.val is not None:
                    score, _ = self.evaluate(self.dataset.val)
                    values |= {metrics.VAL_LOSS: score.loss, metrics.VAL_ERROR: score.error}
            self._check_finite(values)
            error = values.get(metrics.VAL_ERROR, float(-epoch))  # without validation: the last
            if error < self.best_error:
                self.best_epoch, self.best_error = epoch, error
                self.best_parameters[:] = self.evaluated.parameters.flat
            recorder.epoch(epoch, values, self)
        return self._finish(recorder)

    def train_epoch(self) -> dict[str, float]:
        """Train for one epoch. Returns its metrics by key, measured while the weights change."""
        begin = time.perf_counter()
        order = shuffled(len(self.dataset.train), self.generators["order"])
        lrs = np.fromiter(map(self._lr, range(self._steps_per_epoch)), np.float64)
        run = self._compiled_epoch if self.options.backend == "numba" else self._batched_epoch
        score = run(order, lrs)
        self.finished += 1
        seconds = time.perf_counter() - begin
        return {
            metrics.TRAIN_LOSS: score.loss,
            metrics.TRAIN_ERROR: score.error,
            metrics.TRAIN_LR: float(lrs[-1]),
            metrics.EPOCH_S: seconds,
            metrics.EXAMPLES_PER_S: score.count / seconds,
        }

    def _batched_epoch(self, order: NDArray[np.uint32], lrs: NDArray[np.float64]) -> Score:
        """Train in NumPy on `order` (n,), positions in the training part; lrs: one per step."""
        batch, score = self.options.batch, Score()
        steps = enumerate(map(float, lrs), self.finished * self._steps_per_epoch)
        for block in self._blocks(
            order, self.options.augmentation, self.generators["augmentation"]
        ):
            logits = self._logits[: len(block.inputs)]
            self._drop_inputs(block.inputs)
            for start in range(0, len(block.inputs), batch):
                part = slice(start, start + batch)
                self._step(block.inputs[part], block.targets[part], logits[part], *next(steps))
            score.add(cross_entropy(logits, block.targets), misclassified(logits, block.labels))
        return score

    def _compiled_epoch(self, order: NDArray[np.uint32], lrs: NDArray[np.float64]) -> Score:
        """Train in the compiled epoch; arguments and result as of `_batched_epoch`."""
        return compiled.train_epoch(
            self.network, self.dataset.train, order, lrs, self.normalization, self.options
        )

    def evaluate(self, part: Part) -> tuple[Score, Array]:
        """Score every example of `part`. Returns the score and the probabilities (n, C) float32."""
        return evaluate(self.evaluated, part, self.normalization)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """All that the next epoch depends on: arrays by name, and the rest as JSON-able values."""
        arrays: dict[str, NDArray[Any]] = {
            "parameters": self.network.parameters.flat,
            "best": self.best_parameters,
            **{f"optimizer.{name}": array for name, array in self.optimizer.state.items()},
        }
        if self.average is not None:
            arrays["average"] = self.evaluated.parameters.flat
        return arrays, {
            "finished": self.finished,
            "best_epoch": self.best_epoch,
            "best_error": self.best_error,
            "generators": randomness.states(self.generators),
        }

    def restore(self, arrays: dict[str, NDArray[Any]], rest: dict[str, Any]) -> None:
        """Restore a state that `state` returned, of a trainer with the same arguments."""
        own, _ = self.state()
        assert own.keys() == arrays.keys(), "the state belongs to a trainer of other options"
        for name, array in own.items():
            array[:] = arrays[name]
        self.finished, self.best_epoch = rest["finished"], rest["best_epoch"]
        self.best_error = rest["best_error"]
        randomness.restore(self.generators, rest["generators"])

    def _check_finite(self, values: dict[str, float]) -> None:
        """Raise `Diverged` for the first loss among `values` that is NaN or infinite."""
        for what, key in (
            ("training", metrics.TRAIN_LOSS),
            ("validation", metrics.VAL_LOSS),
            ("test", metrics.TEST_LOSS),
        ):
            loss, lr = values.get(key, 0.0), self.options.lr
            if not np.isfinite(loss):
                raise Diverged(
                    f"the {what} loss is {loss} in epoch {self.finished}: the learning rate "
                    f"lr={lr:g} is probably too high; try lr={lr / 10:g}",
                    self.finished,
                    values,
                )

    def _lr(self, step: int) -> float:
        """The learning rate of a step of the current epoch, counted from 0."""
        return self.options.lr * self.options.schedule(self.finished + step / self._steps_per_epoch)

    def _is_stale(self) -> bool:
        """Whether the validation error has not improved for `patience` epochs."""
        patience = self.options.patience
        return patience is not None and self.finished - self.best_epoch >= patience > 0

    def _drop_inputs(self, inputs: Array) -> None:
        """Apply input dropout to a block of inputs (n, D), in place."""
        if self._input_mask is not None:
            mask = self._input_mask[: len(inputs)]
            draw_mask(self.options.input_dropout, self.generators["dropout"], mask)
            np.multiply(inputs, mask, out=inputs)

    def _finish(self, recorder: Recorder) -> Result:
        """Score the test set with the best weights and call the recorder's `final`."""
        best = Network(
            Parameters(self.network.sizes, self.best_parameters), self.network.activation.name
        )
        values: dict[str, float] = {}
        probabilities = np.empty((0, self.network.sizes[-1]), np.float32)
        if len(self.dataset.test):  # else arrays in memory without a test set
            with np.errstate(over="ignore", invalid="ignore"):
                score, probabilities = evaluate(best, self.dataset.test, self.normalization)
            self._check_finite({metrics.TEST_LOSS: score.loss})  # the last step may diverge
            values = {metrics.TEST_LOSS: score.loss, metrics.TEST_ERROR: score.error}
        if self.dataset.val is not None:
            values |= {
                metrics.BEST_EPOCH: float(self.best_epoch),
                metrics.BEST_VAL_ERROR: self.best_error,
            }
        recorder.final(self.finished, values)
        return Result(self.best_epoch, values, probabilities)


def train(
    network: Network,
    dataset: Dataset,
    optimizer: Optimizer,
    normalization: Normalization,
    options: Options,
) -> Result:
    """Train in memory, without files; see `Trainer` for the arguments.

    Raises `Diverged` when a loss is not finite.
    """
    return Trainer(network, dataset, optimizer, normalization, options).run(Silence())
