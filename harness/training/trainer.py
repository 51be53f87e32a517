"""The training loop.

    for epoch in 1..epochs:
        shuffle; for each batch: forward, loss gradient, backward, optimizer step
        score the validation examples; call the recorder
    score the test examples once, with the weights of the best epoch or of the last

The loop reads and writes no files itself; a recorder can, after each epoch. Its state between two
epochs can be saved and restored; a restored training ends with bitwise the same results.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController, threadpool_limits

from harness.data.batches import Blocks, shuffled
from harness.data.dataset import Dataset, Part
from harness.data.normalization import Normalization, Unchanged
from harness.nn import denormals, metrics
from harness.nn.compiled import numba_loading
from harness.nn.loss_checks import check_kind
from harness.nn.metrics import Score
from harness.nn.network import Network
from harness.nn.optimizers import Optimizer
from harness.nn.regularization import draw_mask
from harness.training import arguments, compiled, evaluation, randomness
from harness.training.monitor import Monitor, check_finite
from harness.training.options import Options
from harness.training.pace import Pace
from harness.training.recorders import Lines, Recorder, Silence
from harness.training.step import Parts, Step
from harness.training.threads import cores, threads_of

__all__ = ["Result", "Trainer", "train"]

Array = NDArray[np.float32]
Epoch = tuple[Score, Array, NDArray[Any]]
"""The score of an epoch, and its predictions (n, K) with their labels; empty without metrics."""


@dataclass(frozen=True)
class Result:
    """The result of a training.

    best_epoch: the epoch whose weights were scored on the test set: the best by the objective (see
    `ties` of `Options`); the last with `weights="last"`, or if the objective is the validation
    error and there is no validation set. values: the metrics of the test set by key. probabilities:
    the predictions (N, K) float32 for the test examples, in file order; numbers for a regression.
    """

    best_epoch: int
    values: dict[str, float]
    probabilities: Array


class Trainer:
    """Trains one network on one data set.

    network: trained in place. optimizer: made for the network's parameters. normalization: of the
    inputs of all parts, fitted to the training part. Raises `ValueError` for a loss that does not
    fit the data, and for parts that do not belong together.

    evaluated: the parameters (P,) used for evaluation: those of the network or their average.
    """

    def __init__(
        self,
        network: Network,
        dataset: Dataset,
        optimizer: Optimizer,
        normalization: Normalization,
        options: Options,
    ) -> None:
        check_kind(
            f"loss {type(options.loss).__name__}",
            options.loss,
            is_regression=dataset.classes == 0,
            label_smoothing=options.label_smoothing,
        )
        arguments.check(network, dataset, optimizer)
        if options.loss.kind == "regression" and options.objective == metrics.VAL_ERROR:
            options = replace(options, objective=metrics.VAL_LOSS, maximize=False)
        self.network, self.dataset, self.optimizer = network, dataset, optimizer
        self.normalization, self.options = normalization, options
        self.generators = randomness.generators(options.seed)
        self.finished = 0
        self.monitor = Monitor(
            options.objective,
            maximize=bool(options.maximize),
            patience=options.patience,
            is_validated=dataset.val is not None,
            weights=options.weights,
            ties=options.ties,
        )
        given = network, dataset.train, optimizer, normalization, options
        # The kernels support no other type.
        is_compiled = options.backend == "numba" and network.parameters.flat.dtype == np.float32
        self._is_one_kernel = is_compiled and not compiled.unsupported(*given)
        parts = Parts(network, optimizer, options.loss, augmentation=options.augmentation)
        if is_compiled and not self._is_one_kernel:
            parts = compiled.twins(*given)
        self._scored = evaluation.Scored(network, normalization)
        if is_compiled:
            self._scored = compiled.scored(network, dataset.train, normalization, options.threads)
        self.average = parts.average(network.parameters, options.ema) if options.ema else None
        self.evaluated = network.parameters.flat if self.average is None else self.average.flat
        self.best_parameters = network.parameters.flat.copy()
        block_normalization: Normalization | None = normalization
        if parts.takes_pixels:
            block_normalization = Unchanged() if options.augmentation else None
        self._blocks = Blocks(
            dataset.train,
            block_normalization,
            classes=dataset.classes,
            batch=options.batch,
            smoothing=options.label_smoothing,
        )
        self._step = Step(
            parts,
            options,
            batch=min(options.batch, len(dataset.train)),
            generator=self.generators["dropout"],
            average=self.average,
        )
        self._augmentation, self._steps = parts.augmentation, parts.steps
        workers = [each for each in (parts.workers, self._scored.workers) if each]
        self._blas = ThreadpoolController() if workers else None  # finding BLAS takes 12 ms
        self._pace = Pace(workers)
        self._outputs = np.empty((self._blocks.length, network.outputs), np.float32)
        inputs = (self._blocks.length, network.inputs)
        self._input_mask = np.empty(inputs, np.float32) if options.input_dropout else None
        self._steps_per_epoch = -(-len(dataset.train) // options.batch)
        if self._is_one_kernel:
            # Compile now, not during the first epoch.
            self._compiled_epoch(np.zeros(0, np.uint32), np.zeros(0))

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left: all are done, or training stopped early."""
        return self.finished >= self.options.epochs or self.monitor.is_stale(self.finished)

    def run(self, recorder: Recorder) -> Result:
        """Train the epochs that are left and score the test set.

        Raises `Diverged` when a metric is not finite, and `ValueError` when an epoch has no value
        of the objective.
        """
        while not self.is_over:
            with np.errstate(over="ignore", invalid="ignore"):  # checked after the epoch
                values = self.train_epoch()
                epoch = self.finished
                if self.dataset.val is not None:
                    only_score = not self.options.metrics
                    score, predictions = self.evaluate(self.dataset.val, only_score=only_score)
                    values |= self._values("val", score, predictions, _truth(self.dataset.val))
            check_finite(epoch, values, self.options.lr)
            if self.monitor.add(epoch, values):
                self.best_parameters[:] = self.evaluated
            recorder.epoch(epoch, values, self)
        return self._finish(recorder)

    def _one_blas_thread(self) -> AbstractContextManager[object]:
        """Limit BLAS to one thread if the kernels have their own threads."""
        return self._blas.limit(limits=1, user_api="blas") if self._blas else nullcontext()

    def train_epoch(self) -> dict[str, float]:
        """Train for one epoch. Returns its metrics by key, measured while the weights change."""
        begin = time.perf_counter()
        order = shuffled(len(self.dataset.train), self.generators["order"])
        lrs = np.fromiter(map(self._lr, range(self._steps_per_epoch)), np.float64)
        if not np.isfinite(lrs).all():
            raise ValueError(
                f"schedule: the learning rate is {lrs[~np.isfinite(lrs)][0]} in epoch "
                f"{self.finished + 1}: expected a finite number"
            )
        run = self._compiled_epoch if self._is_one_kernel else self._batched_epoch
        with denormals.flushed(), self._one_blas_thread():
            score, predictions, truth = run(order, lrs)
        self.finished += 1
        seconds = time.perf_counter() - begin
        return self._values("train", score, predictions, truth) | {
            metrics.TRAIN_LR: float(lrs[-1]),
            metrics.EPOCH_S: seconds,
            metrics.EXAMPLES_PER_S: score.count / seconds,
        }

    def _batched_epoch(self, order: NDArray[np.uint32], lrs: NDArray[np.float64]) -> Epoch:
        """Train on `order` (n,), positions in the training part, by blocks. lrs: one per step."""
        options, score, first = self.options, Score(), self.finished * self._steps_per_epoch
        done = 0
        kept: list[tuple[Array, NDArray[Any]]] = []
        for block in self._blocks(order, self._augmentation, self.generators["augmentation"]):
            outputs = self._outputs[: len(block.inputs)]
            self._drop_inputs(block.inputs)
            starts = range(0, len(block.inputs), options.batch)
            rates = lrs[done : done + len(starts)].tolist()
            begin = time.perf_counter()
            if self._steps is not None:
                self._steps(block.inputs, block.targets, outputs, rates)
            else:
                for number, (start, lr) in enumerate(zip(starts, rates, strict=True), first + done):
                    part = slice(start, start + options.batch)
                    self._step(block.inputs[part], block.targets[part], outputs[part], number, lr)
            self._pace.took(time.perf_counter() - begin, len(block.inputs))
            done += len(starts)
            made = np.empty_like(outputs) if options.metrics else None
            evaluation.add(score, options.loss, outputs, block.targets, block.labels, made)
            if made is not None:
                kept.append((made, block.labels))
        if not kept:
            return score, self._outputs[:0], order[:0]
        predictions, truth = (np.concatenate(arrays) for arrays in zip(*kept, strict=True))
        return score, predictions, truth

    def _compiled_epoch(self, order: NDArray[np.uint32], lrs: NDArray[np.float64]) -> Epoch:
        """Train with the compiled epoch, which has no further metrics; see `_batched_epoch`."""
        score = compiled.train_epoch(
            self.network, self.dataset.train, order, lrs, self.normalization, self.options
        )
        return score, self._outputs[:0], order[:0]

    def _values(
        self, prefix: str, score: Score, predictions: Array, truth: NDArray[Any]
    ) -> dict[str, float]:
        """The metrics of a part of the data set by key."""
        options = self.options
        return evaluation.values(prefix, score, options.loss, options.metrics, predictions, truth)

    def evaluate(self, part: Part, *, only_score: bool = False) -> tuple[Score, Array]:
        """Score every example of `part`. Returns the score and the predictions (n, K) float32.

        only_score: whether the caller needs no predictions, see `evaluation.evaluate`.
        """
        return self._evaluate(part, self.evaluated, only_score=only_score)

    def _evaluate(
        self, part: Part, flat: Array, *, only_score: bool = False
    ) -> tuple[Score, Array]:
        """`evaluate` with the parameters `flat` (P,)."""
        network, normalization, batch, _ = self._scored
        with self.network.holding(flat), self._one_blas_thread():
            return evaluation.evaluate(
                network, part, normalization, self.options.loss, batch, only_score=only_score
            )

    def predict(self, images: NDArray[Any], parameters: Array | None = None) -> Array:
        """The predictions (N, K) float32 for examples as they are in the data, (N, ...) or (N, D).

        The examples are normalized like the training examples. parameters: (P,); None for the
        current ones. In a classification, predictions are the probabilities of the classes.
        """
        flat = self.evaluated if parameters is None else parameters
        values = images.reshape(len(images), -1)
        inputs = np.empty(values.shape, np.float32)
        self.normalization.apply(values, out=inputs)
        with self.network.holding(flat):
            outputs = self.network.predict(inputs)
        predictions = np.empty_like(outputs)
        self.options.loss.predict(outputs, predictions)
        return predictions

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """All that the next epoch depends on: arrays by name, and JSON-serializable values."""
        arrays: dict[str, NDArray[Any]] = {
            "parameters": self.network.parameters.flat,
            "best": self.best_parameters,
            **{f"optimizer.{name}": array for name, array in self.optimizer.state.items()},
        }
        if self.average is not None:
            arrays["average"] = self.average.flat
        return arrays, {
            "finished": self.finished,
            "best_epoch": self.monitor.best_epoch,
            "best_error": self.monitor.best_value,  # its name in all checkpoints
            "improved_epoch": self.monitor.improved_epoch,
            "improved_error": self.monitor.improved_value,
            "generators": randomness.states(self.generators),
        }

    def restore(self, arrays: dict[str, NDArray[Any]], rest: dict[str, Any]) -> None:
        """Restore the saved `state` of a trainer with the same arguments."""
        own, _ = self.state()
        if own.keys() != arrays.keys():
            names = ", ".join(sorted(own.keys() ^ arrays.keys()))
            raise ValueError(
                f"the checkpoint's arrays do not match the trainer's: {names}; an optimizer must "
                "create all of its state in its constructor"
            )
        for name, array in own.items():
            array[...] = arrays[name]
        self.finished, self.monitor.best_epoch = rest["finished"], rest["best_epoch"]
        # Earlier versions tested the best epoch, the earliest in ties.
        self.monitor.improved_epoch = rest.get("improved_epoch", rest["best_epoch"])
        if self.monitor.is_required:  # otherwise earlier versions saved a meaningless number
            self.monitor.best_value = rest["best_error"]
            self.monitor.improved_value = rest.get("improved_error", rest["best_error"])
        randomness.restore(self.generators, rest["generators"])

    def _lr(self, step: int) -> float:
        """The learning rate of a step of the current epoch, counted from 0."""
        return self.options.lr * self.options.schedule(self.finished + step / self._steps_per_epoch)

    def _drop_inputs(self, inputs: Array) -> None:
        """Apply input dropout to a block of inputs (n, D), in place."""
        if self._input_mask is not None:
            mask = self._input_mask[: len(inputs)]
            draw_mask(self.options.input_dropout, self.generators["dropout"], mask)
            np.multiply(inputs, mask, out=inputs)

    def _finish(self, recorder: Recorder) -> Result:
        """Score the test set with the weights that were kept and call the recorder's `final`."""
        test = self.dataset.test
        values: dict[str, float] = {}
        probabilities = np.empty((0, self.network.outputs), np.float32)
        if len(test):  # empty for arrays in memory without a test set
            with np.errstate(over="ignore", invalid="ignore"):
                score, probabilities = self._evaluate(test, self.best_parameters)
                values = self._values("test", score, probabilities, _truth(test))
            check_finite(self.finished, values, self.options.lr)  # the last step can diverge
        values |= self.monitor.best()
        recorder.final(self.finished, values)
        return Result(self.monitor.best_epoch, values, probabilities)


def _truth(part: Part) -> NDArray[Any]:
    """The labels (n,) of a part, or its targets (n, K) of a regression."""
    return part.labels if part.rows is None else part.labels[part.rows]


def train(
    network: Network,
    dataset: Dataset,
    optimizer: Optimizer,
    normalization: Normalization,
    options: Options,
    *,
    recorder: Recorder | None = None,
    progress: bool = False,
    threads: int | Literal["auto"] = "auto",
) -> Result:
    """Train in memory, without files; see `Trainer` for the arguments.

    recorder: called after each epoch and at the end. progress: print one line per epoch. threads:
    of the training; "auto" applies a fixed rule (threads.py), because a second thread slows small
    products down. With backend="auto" in the options, "numba" is used if Numba is installed. Raises
    `Diverged` when a metric is not finite.
    """
    if options.maximize is None and metrics.is_higher_better(options.objective.rpartition("/")[2]):
        raise ValueError(
            f"objective={options.objective!r}: its name suggests that higher is better; set "
            "maximize=True, or maximize=False if lower is better"
        )
    if options.backend == "auto":
        options = replace(options, backend="numpy" if numba_loading.obstacle() else "numba")
    recorder = recorder or Silence()
    if progress:
        recorder = Lines(options.epochs, recorder)
    count = threads_of(network, type(optimizer), options, cores(), threads)
    options = replace(options, threads=count)
    with threadpool_limits(limits=count):
        return Trainer(network, dataset, optimizer, normalization, options).run(recorder)
