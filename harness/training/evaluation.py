"""Score a network on every example, in file order, independently of the training batch size."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.batches import Blocks
from harness.data.dataset import Part
from harness.data.normalization import Normalization
from harness.nn import denormals
from harness.nn.loss_checks import check_predictions
from harness.nn.losses import LOSSES, CrossEntropy, Loss
from harness.nn.metrics import Metric, Score, misclassified
from harness.nn.network import Network
from harness.training.pace import Workers

EVALUATION_BATCH = 1000


class Scored(NamedTuple):
    """A network prepared for evaluation.

    normalization: of its inputs; None for inputs as they are in the data. batch: examples per
    call. workers: as in `Parts`.
    """

    network: Network
    normalization: Normalization | None
    batch: int = EVALUATION_BATCH
    workers: Workers | None = None


def evaluate(
    network: Network,
    part: Part,
    normalization: Normalization | None,
    loss: Loss | None = None,
    batch: int = EVALUATION_BATCH,
    *,
    only_score: bool = False,
) -> tuple[Score, NDArray[np.float32]]:
    """Score every example of `part`.

    loss: None for cross-entropy. only_score: whether the caller needs no predictions. The other
    arguments: see `Scored`. Returns the sums of losses and errors and the predictions (n, K)
    float32: class probabilities, or the numbers of a regression, which counts no errors. With
    `only_score` there are none, (0, K), but those of a custom loss are still checked.
    """
    loss = loss or CrossEntropy()
    is_predicted = not only_score or type(loss) not in LOSSES.values()
    batch = min(batch, len(part))
    blocks = Blocks(part, normalization, classes=network.outputs, batch=batch)
    predictions = np.empty((len(part) if is_predicted else 0, network.outputs), np.float32)
    score, begin = Score(), 0
    with denormals.flushed():
        for block in blocks():
            for start in range(0, len(block.inputs), batch):
                few = slice(start, start + batch)
                outputs = network.forward(block.inputs[few])
                made = predictions[begin : begin + len(outputs)] if is_predicted else None
                add(score, loss, outputs, block.targets[few], block.labels[few], made)
                begin += len(outputs)
    return score, predictions


def add(
    score: Score,
    loss: Loss,
    outputs: NDArray[np.float32],
    targets: NDArray[np.float32],
    labels: NDArray[Any],
    predictions: NDArray[np.float32] | None = None,
) -> None:
    """Add the losses of `outputs` (n, K), and in a classification the errors, to `score`.

    Errors are counted on the predictions. predictions: (n, K), overwritten with those of the loss;
    None if the caller needs none. The softmax of cross-entropy keeps the order of the outputs, so
    its errors are counted without it. Raises `ValueError` when a custom loss predicts anything but
    probabilities (classification) or finite numbers (regression).
    """
    is_classification, keeps_order = loss.kind == "classification", type(loss) is CrossEntropy
    if predictions is None and is_classification and not keeps_order:
        predictions = np.empty_like(outputs)
    if predictions is not None:
        loss.predict(outputs, predictions)
    wrong = 0
    if is_classification:
        counted = outputs if keeps_order or predictions is None else predictions
        wrong = misclassified(counted, labels)
    losses = np.asarray(loss.value(outputs, targets))
    if predictions is not None and type(loss) not in LOSSES.values():
        check_predictions(loss, predictions[np.isfinite(losses)])  # for others, training diverged
    score.add(losses, wrong)


def values(
    prefix: str,
    score: Score,
    loss: Loss,
    metrics: Mapping[str, Metric],
    predictions: NDArray[np.float32],
    truth: NDArray[Any],
) -> dict[str, float]:
    """`prefix/loss`, `prefix/error` of a classification, and each of `metrics` as `prefix/NAME`.

    predictions: (n, K). truth: labels (n,), or targets (n, K) of a regression. Raises `ValueError`
    for a metric that does not return a number.
    """
    found = {f"{prefix}/loss": score.loss}
    if loss.kind == "classification":
        found[f"{prefix}/error"] = score.error
    for name, metric in metrics.items():
        value: Any = metric(predictions, truth)
        try:
            number = None if isinstance(value, str | bytes) else float(value)
        except (TypeError, ValueError):
            number = None
        if number is None:
            raise ValueError(f"metric {name}: expected a number, found {value!r}")
        found[f"{prefix}/{name}"] = number
    return found
