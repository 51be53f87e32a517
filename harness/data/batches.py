"""Turn memory-mapped inputs into shuffled, normalized batches with one-hot or regression targets.

Inputs stay memory-mapped in their own type. One block of rows at a time is gathered and normalized
into a float32 buffer that fits in the cache, and the training batches are slices of that buffer. So
memory does not grow with the data set, and the work per batch is small.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.augmentation import Augmentation
from harness.data.dataset import Part
from harness.data.normalization import Normalization

BLOCK_BYTES = 4 << 20  # of float32 inputs: about one core's share of a last-level cache


class Block(NamedTuple):
    """Consecutive examples of an epoch.

    inputs (n, D) float32, targets (n, outputs) float32, labels as in `Part`: (n,) whole numbers, or
    (n, K) float32 targets of a regression.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32]
    labels: NDArray[Any]


def shuffled(count: int, generator: np.random.Generator) -> NDArray[np.uint32]:
    """A uniformly random permutation of 0..count-1, (count,) uint32.

    It is the order of `generator.permutation(count)` in half the memory, and the only allocation
    of a training that grows with the number of examples.
    """
    order = np.arange(count, dtype=np.uint32)
    generator.shuffle(order)
    return order


class Blocks:
    """Iterates over a part of a data set in blocks whose length is a multiple of `batch`.

    All blocks share one set of buffers: a block is valid until the next one is taken.
    normalization: None for inputs as they are in the data. classes: the number of classes C; not
    used in a regression. smoothing: share of each target spread evenly over the classes (Szegedy
    et al., 2016).
    """

    def __init__(
        self,
        part: Part,
        normalization: Normalization | None,
        *,
        classes: int,
        batch: int,
        smoothing: float = 0.0,
    ) -> None:
        self._part = part
        self._normalization = normalization
        self._targets = None if part.labels.ndim == 2 else _smoothed(classes, smoothing)
        pixels = part.inputs.shape[1]
        rows = max(1, BLOCK_BYTES // (4 * pixels) // batch) * batch
        self.length = min(rows, len(part))
        dtype = part.inputs.dtype
        self._inputs = np.empty(
            (self.length, pixels), dtype if normalization is None else np.float32
        )
        self._raw = (
            self._inputs if dtype == self._inputs.dtype else np.empty_like(self._inputs, dtype)
        )
        # Input of an augmentation, which cannot work in place; allocated on first use.
        self._apart: NDArray[np.float32] | None = None

    def __call__(
        self,
        order: NDArray[np.uint32] | None = None,
        augmentation: Augmentation | None = None,
        generator: np.random.Generator | None = None,
    ) -> Iterator[Block]:
        """The blocks of all examples; the last one can be shorter.

        order: (n,) positions within the part, None for file order. augmentation: deforms the images
        with random numbers from `generator`; None for no deformation.
        """
        part = self._part
        for begin in range(0, len(part), self.length):
            end = min(begin + self.length, len(part))
            rows = np.arange(begin, end) if order is None else order[begin:end]
            if part.rows is not None:
                rows = part.rows[rows]
            whole = self._raw
            if augmentation is not None and whole is self._inputs:
                if self._apart is None:
                    self._apart = np.empty_like(self._inputs)
                whole = self._apart
            raw, inputs = whole[: end - begin], self._inputs[: end - begin]
            np.take(part.inputs, rows, axis=0, out=raw, mode="clip")
            if whole is self._inputs:
                raw = inputs  # the same object, so `apply` can normalize it in place
            if self._normalization is None:
                assert augmentation is None, "an augmentation writes normalized inputs"
            elif augmentation is None:
                self._normalization.apply(raw, out=inputs)
            else:
                assert generator is not None, "an augmentation draws random numbers"
                augmentation(raw, generator, out=inputs)
                self._normalization.apply(inputs, out=inputs)
            labels = part.labels[rows]
            targets = labels if self._targets is None else self._targets[labels]
            yield Block(inputs, targets, labels)


def _smoothed(classes: int, smoothing: float) -> NDArray[np.float32]:
    """The targets of each class, (C, C): one-hot vectors, possibly smoothed."""
    table = np.eye(classes, dtype=np.float32)
    table *= 1 - smoothing
    table += smoothing / classes
    return table
