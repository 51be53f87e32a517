"""A training function of my own: softmax regression. Its dataclass has its keys."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import TrainingRun


@dataclass
class Settings:
    """Keys of this trainer: `trainer.rate=0.5`."""

    rate: float = 0.3
    batch: int = 100


def fit(settings: Settings, run: TrainingRun) -> None:
    """Train; `run` has the data, and takes the results."""
    x, y = run.dataset.train.arrays()
    weights = np.zeros((x[0].size, run.dataset.classes))
    if run.restored:
        weights = np.load(run.restored / "weights.npy")
    for epoch in run.epochs():
        order = np.random.default_rng((run.seed, epoch)).permutation(len(x))
        for rows in np.array_split(order, max(1, len(x) // settings.batch)):
            p = probabilities(x[rows], weights)
            p[np.arange(len(rows)), y[rows]] -= 1
            weights -= settings.rate * inputs(x[rows]).T @ p / len(rows)
        values = {"train/error": error(run.dataset.train, weights)}
        if run.dataset.val is not None:
            values["val/error"] = error(run.dataset.val, weights)
        run.log(epoch, values, partial(save, weights))
    if run.best:
        weights = np.load(run.best / "weights.npy")
    x, y = run.dataset.test.arrays()
    run.final({"test/error": error(run.dataset.test, weights)})
    run.predictions(y, probabilities(x, weights))


def save(weights: NDArray[np.float64], folder: Path) -> None:
    """Write the state into a checkpoint's folder."""
    np.save(folder / "weights.npy", weights)


def inputs(x: NDArray[Any]) -> NDArray[np.float64]:
    """Pixels 0 to 255 as numbers in [0, 1], one row an example."""
    return x.reshape(len(x), -1) / 255


def probabilities(x: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The class probabilities (N, C)."""
    z = inputs(x) @ weights
    p: NDArray[np.float64] = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p


def error(part: Any, weights: NDArray[np.float64]) -> float:
    """The share of wrong classes."""
    x, y = part.arrays()
    return float(np.mean(probabilities(x, weights).argmax(axis=1) != y))
