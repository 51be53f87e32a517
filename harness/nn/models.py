"""Models: functions that make the layers of a network, in one name table.

    mlp    a perceptron: hidden layers of `width` units with an activation, then the outputs
    conv   convolutions with an activation and max-pooling, then a perceptron; for images

The outputs have no activation; the loss applies one if needed, such as softmax.
"""

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Annotated, Any, Protocol

from annotated_types import Ge

from harness.nn.activations import Activation, Sigmoid
from harness.nn.convolution import Conv2D, Flatten, MaxPool2D, Reshape
from harness.nn.layers import Activate, Dense, Dropout, Layer
from harness.nn.parameters import Shape

__all__ = ["MODELS", "Model", "conv", "mlp"]

Count = Annotated[int, Ge(1)]


class Model(Protocol):
    """The interface of a model: a function that is called with two positional arguments."""

    def __call__(self, input_shape: Shape, outputs: int) -> list[Layer]:
        """New layers with `outputs` outputs for examples of `input_shape`, passed flat, (B, D)."""


def mlp(
    input_shape: Shape,
    outputs: int,
    *,
    width: int | Sequence[int] = 256,
    depth: int = 1,
    activation: Activation | None = None,
    dropout: float = 0.0,
) -> list[Layer]:
    """A multi-layer perceptron.

    width: units of a hidden layer; a list sets each hidden layer, and `depth` is ignored. depth:
    number of hidden layers. activation: of the hidden layers; sigmoid for None. It determines their
    initialization; the output layer always uses Glorot's. dropout: share of hidden units set to
    zero at each training step.
    """
    if isinstance(depth, bool) or not isinstance(depth, Integral) or depth < 0:
        raise ValueError(f"mlp: depth={depth!r}: expected a whole number of at least 0")
    widths = tuple[Any, ...](width) if _is_several(width) else (width,) * int(depth)
    for units in widths:
        if isinstance(units, bool) or not isinstance(units, Integral) or units < 1:
            raise ValueError(f"mlp: width={width!r}: expected whole numbers of at least 1")
    activation = Sigmoid() if activation is None else activation
    layers: list[Layer] = []
    for units in widths:
        layers += [Dense(units, initialization=activation.initialization), Activate(activation)]
        layers += [Dropout(dropout)] if dropout else []
    return [*layers, Dense(outputs)]


def conv(
    input_shape: Shape,
    outputs: int,
    *,
    channels: Annotated[Sequence[Count], "channels of each convolution"] = (8, 16),
    kernel: Annotated[Count | Sequence[Count], "rows and columns of a kernel"] = 3,
    pool: Annotated[Count | Sequence[Count], "max-pooling after each convolution; 1: none"] = 2,
    width: int | Sequence[int] = 128,
    activation: Activation | None = None,
    dropout: float = 0.0,
) -> list[Layer]:
    """Convolutions, each with an activation and max-pooling, then an `mlp` of `width`.

    input_shape: (rows, columns) or (rows, columns, channels). kernel, pool: one number, or a list
    with one for each convolution. Raises `ValueError` for other shapes, and for lists of another
    length.
    """
    if len(input_shape) not in (2, 3):
        raise ValueError(
            "expected images (rows, columns) or (rows, columns, channels), found "
            f"examples of shape {tuple(input_shape)}; use model=mlp"
        )
    activation = Sigmoid() if activation is None else activation
    layers: list[Layer] = [Reshape(*input_shape, *[1] * (3 - len(input_shape)))]
    kernels, pools = (
        _each(name, size, channels) for name, size in (("kernel", kernel), ("pool", pool))
    )
    for count, side, window in zip(channels, kernels, pools, strict=True):
        layers += [Conv2D(count, side, initialization=activation.initialization)]
        layers += [Activate(activation)]
        layers += [MaxPool2D(window)] if window != 1 else []
    dense = mlp(input_shape, outputs, width=width, activation=activation, dropout=dropout)
    return [*layers, Flatten(), *dense]


def _is_several(sizes: Any) -> bool:
    """Whether `sizes` has one size per layer; the layers check the sizes themselves."""
    return isinstance(sizes, Iterable) and not isinstance(sizes, str)


def _each(name: str, size: Any, channels: Sequence[int]) -> Sequence[int]:
    """The size of each convolution, one for each of `channels`."""
    sizes = tuple[Any, ...](size) if _is_several(size) else (size,) * len(channels)
    if len(sizes) != len(channels):
        raise ValueError(
            f"{name}={list(sizes)}: expected one number, or one for each of the {len(channels)} "
            "convolutions in channels"
        )
    return sizes


MODELS: dict[str, Callable[..., list[Layer]]] = {"mlp": mlp, "conv": conv}
