"""Make a network in which compiled twins replace the layers that have one."""

from collections.abc import Iterator
from itertools import takewhile

from harness.nn import convolution, layers
from harness.nn.activations import Activation
from harness.nn.compiled.convolution import Conv2D
from harness.nn.compiled.ink_layer import InkDense
from harness.nn.compiled.pooling import MaxPool2D
from harness.nn.compiled.rows import Rows, has_row_kernel
from harness.nn.compiled.unpooled import Unpooled
from harness.nn.compiled.workers import Workers
from harness.nn.network import Network


def compiled(
    network: Network, ink: tuple[float, float] | None, batch: int, workers: Workers
) -> Network:
    """A network that shares the parameters of `network`, for batches of up to `batch` examples.

    ink: scale and shift of the normalization, for a network that takes uint8 or float32 images as
    they are in the data; None for normalized inputs.
    """

    def twins() -> Iterator[layers.Layer]:
        left = list(network.layers)
        while left:
            first = left[0]
            if len(left) == len(network.layers) and ink and type(first) is layers.Dense:
                yield InkDense(first.outputs, *ink, workers=workers)
            elif rows := list(takewhile(has_row_kernel, left)):
                yield Rows(rows, network.parameters.flat, batch, workers)
                del left[1 : len(rows)]
            elif type(first) is convolution.Conv2D:
                activation, pool = _above(left)
                kind = Unpooled if pool == 1 else Conv2D
                yield kind(first, activation, pool, workers=workers)
                del left[1 : 1 + (activation is not None) + (pool != 1)]
            elif type(first) is convolution.MaxPool2D:
                yield MaxPool2D(first.size)
            else:
                yield first
            del left[0]

    return network.with_layers(list(twins()))


def _above(left: list[layers.Layer]) -> tuple[Activation | None, int]:
    """The activation and the pooling window that follow a convolution, or None and 1.

    An activation whose derivative needs its input is computed separately.
    """
    activation, pool, above = None, 1, left[1:]
    first = above[0] if above else None
    if isinstance(first, layers.Activate) and has_row_kernel(first):
        activation = None if first.activation.needs_input else first.activation
    if activation is not None:
        del above[0]
    if above and type(above[0]) is convolution.MaxPool2D:
        pool = above[0].size
    return activation, pool
