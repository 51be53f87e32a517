"""Central differences in float64, the oracle of every derivative."""

from collections.abc import Callable

import numpy as np

from harness.nn.losses import Loss
from harness.nn.network import Network

STEP = 1e-6


def central(function: Callable[[], float], array: np.ndarray) -> np.ndarray:
    """The derivative of `function` with respect to each element of `array`, which it reads."""
    numeric = np.empty_like(array)
    for index in np.ndindex(*array.shape):
        before = array[index]
        array[index] = before + STEP
        above = function()
        array[index] = before - STEP
        numeric[index] = (above - function()) / (2 * STEP)
        array[index] = before
    return numeric


def assert_equal(exact: np.ndarray, numeric: np.ndarray) -> None:
    np.testing.assert_allclose(exact, numeric, rtol=1e-5, atol=1e-8)


def check_network(
    network: Network, inputs: np.ndarray, targets: np.ndarray, loss: Loss, training: bool = False
) -> None:
    """Every parameter and every input of a float64 network, against central differences."""

    def mean() -> float:
        return float(loss.value(network.forward(inputs, training), targets).mean())

    mean()
    delta = np.empty_like(targets)
    loss.gradient(network.forward(inputs, training), targets, delta)
    gradient = network.backward(delta).into(np.empty_like(network.parameters.flat))
    by_input = network.input_gradient(delta).copy()
    assert_equal(gradient, central(mean, network.parameters.flat))
    assert_equal(by_input, central(mean, inputs))


def moved(network: Network, generator: np.random.Generator) -> Network:
    """The network, with every parameter away from zero."""
    network.parameters.flat += generator.normal(size=len(network.parameters.flat)) * 0.3
    return network
