"""A network whose layers are compiled where they have a twin; the others stay as they are."""

from collections.abc import Sequence

from harness.nn import convolution, layers
from harness.nn.compiled.convolution import Conv2D, Included
from harness.nn.compiled.ink_layer import InkDense
from harness.nn.compiled.layers import CODES, Activate, Dense, Dropout
from harness.nn.compiled.pooling import MaxPool2D
from harness.nn.compiled.unpooled import Unpooled
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
        if number < len(twins):
            continue
        above = network.layers[number + 1 :]
        is_fused = bool(above) and _has_code(above[0])
        twin = layer
        if type(layer) is layers.Dense:
            if number == 0 and ink is not None:
                twin = InkDense(layer.outputs, *ink, adds_bias=not is_fused, workers=workers)
            else:
                twin = Dense(layer.outputs, adds_bias=not is_fused)
            below = twin if is_fused else None
        elif type(layer) is convolution.Conv2D:
            twins += _convolution(layer, above, workers)
            continue
        elif isinstance(layer, layers.Activate) and _has_code(layer):
            twin = Activate(layer.activation, below)
            below = None
        elif type(layer) is layers.Dropout:
            twin = Dropout(layer.rate)
        elif type(layer) is convolution.MaxPool2D:
            twin = MaxPool2D(layer.size)
        twins.append(twin)
    return network.with_layers(twins)


def _convolution(
    layer: convolution.Conv2D, above: Sequence[layers.Layer], workers: Workers
) -> list[layers.Layer]:
    """The twin of a convolution, and of the activation and the pooling above it, if they follow."""
    activation, pool, included = None, 1, 0
    if above and isinstance(above[0], layers.Activate) and _has_code(above[0]):
        activation, included = above[0].activation, 1
    if len(above) > included:
        next_one = above[included]
        if type(next_one) is convolution.MaxPool2D:
            pool, included = next_one.size, included + 1
    kind = Unpooled if pool == 1 else Conv2D
    twin = kind(layer, activation, pool, workers=workers)
    return [twin, *(Included() for _ in range(included))]


def _has_code(layer: layers.Layer) -> bool:
    """Whether a layer is an activation that the kernels know."""
    return type(layer) is layers.Activate and type(layer.activation) in CODES
