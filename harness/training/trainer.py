"""The training loop.

    for epoch in 1..epochs:
        shuffle; for each batch: forward, loss gradient, backward, optimizer step
        score the validation images; tell the recorder
    score the test images once, with the weights chosen on validation

The loop knows nothing of files: what happens after an epoch is the recorder's business.
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
from harness.nn.losses import cross_entropy, softmax, softmax_cross_entropy_gradient
from harness.nn.metrics import Score, misclassified
from harness.nn.network import Network
from harness.nn.optimizers import Optimizer

EVALUATION_BATCH = 1000


class Diverged(ArithmeticError):
    """The loss became NaN or infinite; the message names the epoch and the likely cause."""


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
    probabilities: NDArray[np.float32]


class Trainer:
    """Trains one network on one data set; the state between epochs can be taken and put back."""

    def __init__(
        self,
        network: Network,
        dataset: Dataset,
        optimizer: Optimizer,
        normalization: Normalization,
        *,
        batch: int,
        lr: float,
        epochs: int,
        generator: np.random.Generator,
    ) -> None:
        self.network = network
        self.dataset = dataset
        self.optimizer = optimizer
        self.normalization = normalization
        self.batch = batch
        self.lr = lr
        self.epochs = epochs
        self.generator = generator
        self.finished = 0
        self.best_epoch = 0
        self.best_error = float("inf")
        self.best_parameters = network.parameters.flat.copy()
        self._workspace = network.workspace(max(batch, EVALUATION_BATCH))
        self._blocks = Blocks(dataset.train, normalization, classes=dataset.classes, batch=batch)
        self._logits = np.empty((self._blocks.length, dataset.classes), np.float32)

    def run(self, recorder: Recorder) -> Result:
        """Train the epochs that are left and score the test set.

        Raises `Diverged` when the loss is no longer finite.
        """
        while self.finished < self.epochs:
            with np.errstate(over="ignore", invalid="ignore"):  # seen at the end of the epoch
                values = self.train_epoch()
            epoch = self.finished
            if self.dataset.val is not None:
                score, _ = self.evaluate(self.dataset.val)
                values |= {metrics.VAL_LOSS: score.loss, metrics.VAL_ERROR: score.error}
            error = values.get(metrics.VAL_ERROR, float(-epoch))  # no validation: the last is best
            if error < self.best_error:
                self.best_epoch, self.best_error = epoch, error
                self.best_parameters[:] = self.network.parameters.flat
            recorder.epoch(epoch, values, self)
        return self._finish(recorder)

    def train_epoch(self) -> dict[str, float]:
        """One pass over the training images. Returns the metrics of the epoch, as trained."""
        begin = time.perf_counter()
        score = Score()
        order = shuffled(len(self.dataset.train), self.generator)
        for block in self._blocks(order):
            logits = self._logits[: len(block.inputs)]
            for start in range(0, len(block.inputs), self.batch):
                part = slice(start, start + self.batch)
                self._step(block.inputs[part], block.targets[part], logits[part])
            score.add(cross_entropy(logits, block.targets), misclassified(logits, block.labels))
        self.finished += 1
        if not np.isfinite(score.loss):
            raise Diverged(
                f"the training loss is {score.loss} in epoch {self.finished}: the learning rate "
                f"lr={self.lr:g} is probably too high; try lr={self.lr / 10:g}"
            )
        seconds = time.perf_counter() - begin
        return {
            metrics.TRAIN_LOSS: score.loss,
            metrics.TRAIN_ERROR: score.error,
            metrics.TRAIN_LR: self.lr,
            metrics.EPOCH_S: seconds,
            metrics.EXAMPLES_PER_S: score.count / seconds,
        }

    def _step(
        self,
        inputs: NDArray[np.float32],
        targets: NDArray[np.float32],
        logits: NDArray[np.float32],
    ) -> None:
        network, workspace = self.network, self._workspace
        deltas, row = workspace.output[: len(inputs)], workspace.row[: len(inputs)]
        network.forward(inputs, workspace, logits)
        softmax_cross_entropy_gradient(logits, targets, deltas, row)
        self.optimizer.step(network.backward(inputs, deltas, workspace), self.lr)

    def evaluate(self, part: Part) -> tuple[Score, NDArray[np.float32]]:
        """Score every example of `part`. Returns the score and the probabilities (n, C) float32."""
        return evaluate(self.network, part, self.normalization)

    def _finish(self, recorder: Recorder) -> Result:
        last = self.network.parameters.flat.copy()
        self.network.parameters.flat[:] = self.best_parameters
        score, probabilities = self.evaluate(self.dataset.test)
        self.network.parameters.flat[:] = last
        values = {metrics.TEST_LOSS: score.loss, metrics.TEST_ERROR: score.error}
        if self.dataset.val is not None:
            values |= {
                metrics.BEST_EPOCH: float(self.best_epoch),
                metrics.BEST_VAL_ERROR: self.best_error,
            }
        recorder.final(self.finished, values)
        return Result(self.best_epoch, values, probabilities)


def evaluate(
    network: Network, part: Part, normalization: Normalization
) -> tuple[Score, NDArray[np.float32]]:
    """Score every example of `part`, in file order; the training's batch size plays no part.

    Returns the sums of loss and errors and the class probabilities (n, C) float32.
    """
    classes = network.sizes[-1]
    workspace = network.workspace(EVALUATION_BATCH)
    blocks = Blocks(part, normalization, classes=classes, batch=EVALUATION_BATCH)
    probabilities = np.empty((len(part), classes), np.float32)
    score, begin = Score(), 0
    for block in blocks():
        for start in range(0, len(block.inputs), EVALUATION_BATCH):
            inputs = block.inputs[start : start + EVALUATION_BATCH]
            labels = block.labels[start : start + EVALUATION_BATCH]
            out = probabilities[begin : begin + len(inputs)]
            logits = workspace.output[: len(inputs)]
            network.forward(inputs, workspace, logits)
            targets = block.targets[start : start + EVALUATION_BATCH]
            score.add(cross_entropy(logits, targets), misclassified(logits, labels))
            softmax(logits, out, workspace.row[: len(inputs)])
            begin += len(inputs)
    return score, probabilities


def train(
    network: Network,
    dataset: Dataset,
    optimizer: Optimizer,
    normalization: Normalization,
    recorder: Recorder | None = None,
    **options: Any,
) -> Result:
    """Train without any files: `Trainer(...).run(recorder)`; the options are the trainer's."""
    return Trainer(network, dataset, optimizer, normalization, **options).run(recorder or Silence())
