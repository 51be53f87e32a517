"""A network whose layers are compiled where they have a twin; the others stay as they are."""

import itertools
from collections.abc import Iterator

from harness.nn import layers
from harness.nn.compiled.ink_layer import InkDense
from harness.nn.compiled.rows import Rows, has_row_kernel
from harness.nn.compiled.workers import Workers
from harness.nn.network import Network


def compiled(
    network: Network, ink: tuple[float, float] | None, batch: int, workers: Workers
) -> Network:
    """A network with the parameters of `network`, for training with up to `batch` examples.

    ink: scale and shift of the normalization; then the network takes images of uint8, as they are
    in the data. None for normalized inputs.
    """

    def twins() -> Iterator[layers.Layer]:
        rest = list(network.layers)
        if ink is not None and type(first := rest[0]) is layers.Dense:
            yield InkDense(first.outputs, *ink, workers=workers)
            del rest[0]
        for has_kernel, group in itertools.groupby(rest, has_row_kernel):
            if has_kernel:
                yield Rows(list(group), network.parameters.flat, batch, workers)
            else:
                yield from group

    return network.with_layers(list(twins()))
