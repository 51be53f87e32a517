"""Scoring a network: every example, in file order, whatever the training's batch size."""

import numpy as np
from numpy.typing import NDArray

from harness.data.batches import Blocks
from harness.data.dataset import Part
from harness.data.normalization import Normalization
from harness.nn.losses import cross_entropy, softmax
from harness.nn.metrics import Score, misclassified
from harness.nn.network import Network

EVALUATION_BATCH = 1000


def evaluate(
    network: Network, part: Part, normalization: Normalization
) -> tuple[Score, NDArray[np.float32]]:
    """Score every example of `part`.

    Returns the sums of loss and errors and the class probabilities (n, C) float32.
    """
    classes, batch = network.sizes[-1], min(EVALUATION_BATCH, len(part))
    workspace = network.workspace(batch)
    blocks = Blocks(part, normalization, classes=classes, batch=batch)
    probabilities = np.empty((len(part), classes), np.float32)
    score, begin = Score(), 0
    for block in blocks():
        for start in range(0, len(block.inputs), batch):
            inputs = block.inputs[start : start + batch]
            logits = workspace.output[: len(inputs)]
            network.forward(inputs, workspace, logits)
            score.add(
                cross_entropy(logits, block.targets[start : start + batch]),
                misclassified(logits, block.labels[start : start + batch]),
            )
            out = probabilities[begin : begin + len(inputs)]
            softmax(logits, out, workspace.row[: len(inputs)])
            begin += len(inputs)
    return score, probabilities
