"""The compiled epoch as the trainer runs it. Numba is imported only when an epoch starts."""

import numpy as np
from numpy.typing import NDArray

from harness.data.dataset import Part
from harness.data.normalization import Affine, Normalization, is_affine
from harness.nn.compiled import supports
from harness.nn.metrics import Score
from harness.nn.network import Network
from harness.nn.optimizers import SGD, Optimizer
from harness.training.options import Options

CHUNK = 1 << 16  # rows looked up at a time


def unsupported(
    network: Network,
    part: Part,
    optimizer: Optimizer,
    normalization: Normalization,
    options: Options,
) -> str:
    """What the compiled epoch expects instead of the arguments, in words; empty for nothing."""
    settings = options.changed() | supports.structure(network)
    if not is_affine(normalization):
        settings["normalization"] = type(normalization).__name__
    settings["inputs"] = part.inputs.dtype.name
    if type(optimizer) is SGD:
        settings["optimizer"] = "sgd"
        if optimizer.weight_decay:
            settings["weight_decay"] = optimizer.weight_decay
    else:
        settings["optimizer"] = type(optimizer).__name__
    return ", ".join(supports.unsupported(settings).values())


def train_epoch(
    network: Network,
    part: Part,
    order: NDArray[np.uint32],
    lrs: NDArray[np.float64],
    normalization: Normalization,
    options: Options,
) -> Score:
    """Train on the examples of `part` in `order`; changes the network's parameters in place.

    order: (n,) positions within the part, overwritten with rows of the file. lrs: one learning rate
    per step.
    """
    from harness.nn.compiled import ink

    assert isinstance(normalization, Affine), "the kernel needs a scale and a shift"
    if part.rows is not None:
        for begin in range(0, len(order), CHUNK):  # in place: no second array of this length
            chunk = order[begin : begin + CHUNK]
            chunk[:] = part.rows[chunk]
    totals = ink.train_epoch(
        network,
        part.inputs,
        part.labels,
        order,
        lrs.astype(np.float32),
        batch=options.batch,
        affine=(normalization.scale, normalization.shift),
        smoothing=options.label_smoothing,
    )
    return Score(totals.loss, totals.wrong, len(order))
