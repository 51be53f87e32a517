"""The training loop.

    for epoch in 1..epochs:
        shuffle; for each batch: forward, loss gradient, backward, optimizer step
        score the validation images; tell the recorder
    score the test images once, with the weights chosen on validation

The loop knows nothing of files: what happens after an epoch is the recorder's business. Its state
between two epochs can be taken and put back, and training goes on bit for bit.
"""

import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.data.batches import Blocks, shuffled
from harness.data.dataset import Dataset, Part
from harness.data.normalization import Normalization
from harness.nn import adversarial, metrics
from harness.nn.average import Average
from harness.nn.dropout import draw_mask
from harness.nn.losses import cross_entropy, softmax_cross_entropy_gradient
from harness.nn.metrics import Score, misclassified
from harness.nn.network import Gradient, Network, Parameters
from harness.nn.optimizers import Optimizer, limit_norms
from harness.training import randomness
from harness.training.evaluation import evaluate
from harness.training.options import Options

CHUNK = 1 << 16  # rows looked up at a time
Inputs = NDArray[np.float32]


class Diverged(ArithmeticError):
    """The loss became NaN or infinite; the message names the epoch and the likely cause.

    epoch, values: the epoch's number and metrics.
    """

    def __init__(self, message: str, epoch: int, values: dict[str, float]) -> None:
        super().__init__(message)
        self.epoch, self.values = epoch, values


class Recorder(Protocol):
    """What a training tells the world."""

    def epoch(self, epoch: int, values: dict[str, float], trainer: "Trainer") -> None:
        """After each epoch, with its metrics."""

    def final(self, epoch: int, values: dict[str, float]) -> None:
        """Once, after the last epoch, with the metrics of the test set."""


class Silence:
    """A recorder that records nothing."""

    def epoch(self, epoch: int, values: dict[str, float], trainer: "Trainer") -> None:
        """Nothing."""

    def final(self, epoch: int, values: dict[str, float]) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Result:
    """What a training ends with.

    best_epoch: the epoch with the lowest validation error (the earliest of equals), whose weights
    were scored on the test set; the last epoch when there is no validation set.
    probabilities: (N, C) float32 of the test images, in file order.
    """

    best_epoch: int
    values: dict[str, float]
    probabilities: Inputs


class Trainer:
    """Trains one network on one data set."""

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
        batch = min(options.batch, len(dataset.train))
        self._workspace = network.workspace(batch, dropout=options.dropout > 0)
        self._logits = np.empty((self._blocks.length, dataset.classes), np.float32)
        self._scratch = network.parameters.zeros_like()
        self._noise = (
            np.empty((self._blocks.length, network.sizes[0]), np.float32)
            if options.input_dropout
            else None
        )
        self._uphill = (
            np.empty((batch, network.sizes[0]), np.float32) if options.adversarial else None
        )
        self._steps_per_epoch = -(-len(dataset.train) // options.batch)
        if options.backend == "numba":
            # Compiled now, not in the first epoch.
            self._compiled_epoch(np.zeros(0, np.uint32), np.zeros(0))

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left: all are trained, or patience ended it."""
        return self.finished >= self.options.epochs or self._is_stale()

    def run(self, recorder: Recorder) -> Result:
        """Train the epochs that are left and score the test set.

        Raises `Diverged` when a loss is no longer finite.
        """
        while not self.is_over:
            with np.errstate(over="ignore", invalid="ignore"):  # seen at the end of the epoch
                values = self.train_epoch()
                epoch = self.finished
                if self.dataset.val is not None:
                    score, _ = self.evaluate(self.dataset.val)
                    values |= {metrics.VAL_LOSS: score.loss, metrics.VAL_ERROR: score.error}
            self._check_finite(values)
            error = values.get(metrics.VAL_ERROR, float(-epoch))  # no validation: the last is best
            if error < self.best_error:
                self.best_epoch, self.best_error = epoch, error
                self.best_parameters[:] = self.evaluated.parameters.flat
            recorder.epoch(epoch, values, self)
        return self._finish(recorder)

    def train_epoch(self) -> dict[str, float]:
        """One pass over the training images. Returns the metrics of the epoch, as trained."""
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
        from harness.nn.compiled import ink

        part, normal = self.dataset.train, self.normalization
        if part.rows is not None:
            for begin in range(0, len(order), CHUNK):  # in place: no second array of this length
                chunk = order[begin : begin + CHUNK]
                chunk[:] = part.rows[chunk]
        totals = ink.train_epoch(
            self.network,
            part.images,
            part.labels,
            order,
            lrs.astype(np.float32),
            batch=self.options.batch,
            affine=(normal.scale, normal.shift),
            smoothing=self.options.label_smoothing,
        )
        return Score(totals.loss, totals.wrong, len(order))

    def evaluate(self, part: Part) -> tuple[Score, Inputs]:
        """Score every example of `part`. Returns the score and the probabilities (n, C) float32."""
        return evaluate(self.evaluated, part, self.normalization)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything that the next epoch depends on, as named arrays and a JSON-able rest."""
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
        """Put a state back that `state` gave, of a trainer made in the same way."""
        mine, _ = self.state()
        assert mine.keys() == arrays.keys(), "the state of another kind of trainer"
        for name, array in mine.items():
            array[:] = arrays[name]
        self.finished, self.best_epoch = rest["finished"], rest["best_epoch"]
        self.best_error = rest["best_error"]
        randomness.restore(self.generators, rest["generators"])

    def _check_finite(self, values: dict[str, float]) -> None:
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
        return self.options.lr * self.options.schedule(self.finished + step / self._steps_per_epoch)

    def _is_stale(self) -> bool:
        patience = self.options.patience
        return patience is not None and self.finished - self.best_epoch >= patience > 0

    def _drop_inputs(self, inputs: Inputs) -> None:
        if self._noise is not None:
            noise = self._noise[: len(inputs)]
            draw_mask(self.options.input_dropout, self.generators["dropout"], noise)
            np.multiply(inputs, noise, out=inputs)

    def _step(
        self, inputs: Inputs, targets: Inputs, logits: Inputs, number: int, lr: float
    ) -> None:
        network, workspace, options = self.network, self._workspace, self.options
        deltas, row = workspace.output[: len(inputs)], workspace.row[: len(inputs)]
        for mask in workspace.masks:
            draw_mask(options.dropout, self.generators["dropout"], mask)

        def gradients() -> list[Gradient]:
            network.forward(inputs, workspace, logits)
            softmax_cross_entropy_gradient(logits, targets, deltas, row)
            return network.backward(inputs, deltas, workspace)

        if self._uphill is not None:
            uphill = self._uphill[: len(inputs)]
            network.input_gradient(gradients(), uphill)
            adversarial.move(inputs, uphill, options.adversarial)
        self.optimizer.step(gradients(), lr)
        if options.max_norm is not None:
            limit_norms(network.parameters, options.max_norm, self._scratch)
        if self.average is not None:
            self.average.update(network.parameters, number)

    def _finish(self, recorder: Recorder) -> Result:
        best = Network(
            Parameters(self.network.sizes, self.best_parameters), self.network.activation.name
        )
        with np.errstate(over="ignore", invalid="ignore"):
            score, probabilities = evaluate(best, self.dataset.test, self.normalization)
        self._check_finite({metrics.TEST_LOSS: score.loss})  # the last step may have been too far
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
    """Train without any files; see `Trainer`."""
    return Trainer(network, dataset, optimizer, normalization, options).run(Silence())
