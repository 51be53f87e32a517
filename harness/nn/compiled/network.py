"""A network whose layers are compiled where they have a twin; the others stay as they are."""

import itertools
from collections.abc import Iterator

from harness.nn import layers
from harness.nn.compiled.ink_layer import InkDense
from harness.nn.compiled.layers import CODES, Activate, Dense, Dropout, RowLayer, Rows
from harness.nn.compiled.workers import Workers
from harness.nn.network import Network


def compiled(network: Network, ink: tuple[float, float] | None, workers: Workers) -> Network:
    """A network with the parameters of `network`, for training.

    ink: scale and shift of the normalization; then the network takes images of uint8, as they are
    in the data. None for normalized inputs.
    """
    twins: list[layers.Layer] = []
    below: layers.Dense | None = None
    for number, layer in enumerate(network.layers):
        above = network.layers[number + 1] if number + 1 < len(network.layers) else None
        is_fused = type(above) is layers.Activate and type(above.activation) in CODES
        twin = layer
        if type(layer) is layers.Dense:
            if number == 0 and ink is not None:
                twin = InkDense(layer.outputs, *ink, adds_bias=not is_fused, workers=workers)
            else:
                twin = Dense(layer.outputs, adds_bias=not is_fused, workers=workers)
            below = twin if is_fused else None
        elif type(layer) is layers.Activate and type(layer.activation) in CODES:
            twin = Activate(layer.activation, below, workers)
            below = None
        elif type(layer) is layers.Dropout:
            twin = Dropout(layer.rate, workers)
        twins.append(twin)
    return network.with_layers(list(_in_rows(twins, workers)))


def _in_rows(twins: list[layers.Layer], workers: Workers) -> Iterator[layers.Layer]:
    """The layers, with those that are computed row by row together.

    The first layer stays by itself: nothing below it needs its delta.
    """
    yield twins[0]
    for is_row_layer, group in itertools.groupby(
        twins[1:], lambda twin: isinstance(twin, RowLayer)
    ):
        if is_row_layer:
            yield Rows([twin for twin in group if isinstance(twin, RowLayer)], workers)
        else:
            yield from group
