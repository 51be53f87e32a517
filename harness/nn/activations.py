"""Activation functions and their derivatives, as small functions in one name table.

Every function works in place or into `out=`, on arrays of any shape and dtype. A derivative is
written in terms of the activation's output `a`, which the forward pass keeps:

    sigmoid   a = 1 / (1 + exp(-z))     da/dz = a (1 - a)
    tanh      a = tanh(z)               da/dz = 1 - a^2
    relu      a = max(z, 0)             da/dz = 1 where a > 0, else 0
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Activation:
    """An activation, its derivative, and the initialization that suits it.

    forward(z): replace z by a, in place.
    backward(a, grad, scratch): grad *= da/dz, in place; `scratch` has the shape of a.
    initialization: "glorot" or "he", a name of `network.INITIALIZATIONS`.
    """

    name: str
    forward: Callable[[Array], None]
    backward: Callable[[Array, Array, Array], None]
    initialization: str


def sigmoid(z: Array) -> None:
    """z -> 1 / (1 + exp(-z)), in place; z is clipped at -87 so that exp cannot overflow."""
    np.maximum(z, -87, out=z)
    np.negative(z, out=z)
    np.exp(z, out=z)
    np.add(z, 1, out=z)
    np.reciprocal(z, out=z)


def sigmoid_backward(a: Array, grad: Array, scratch: Array) -> None:
    """grad *= a (1 - a), in place."""
    np.subtract(1, a, out=scratch)
    np.multiply(scratch, a, out=scratch)
    np.multiply(grad, scratch, out=grad)


def tanh(z: Array) -> None:
    """z -> tanh(z), in place."""
    np.tanh(z, out=z)


def tanh_backward(a: Array, grad: Array, scratch: Array) -> None:
    """grad *= 1 - a^2, in place."""
    np.multiply(a, a, out=scratch)
    np.subtract(1, scratch, out=scratch)
    np.multiply(grad, scratch, out=grad)


def relu(z: Array) -> None:
    """z -> max(z, 0), in place."""
    np.maximum(z, 0, out=z)


def relu_backward(a: Array, grad: Array, scratch: Array) -> None:
    """grad *= [a > 0], in place; the derivative at 0 is taken as 0."""
    np.sign(a, out=scratch)
    np.multiply(grad, scratch, out=grad)


ACTIVATIONS = {
    a.name: a
    for a in (
        Activation("sigmoid", sigmoid, sigmoid_backward, "glorot"),
        Activation("tanh", tanh, tanh_backward, "glorot"),
        Activation("relu", relu, relu_backward, "he"),
    )
}
