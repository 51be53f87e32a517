"""Parts of my own: an activation, an optimizer and a metric.

Keyword-only arguments with annotations and defaults are keys: `optimizer.beta1=0.95`.
"""

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


class Swish:
    """a = z s with s = sigmoid(beta z) (Ramachandran et al., 2017); da/dz = s + beta a (1 - s)."""

    initialization, needs_input = "he", True

    def __init__(self, *, beta: float = 1.0) -> None:
        self.beta = beta

    def forward(self, z: Array, out: Array) -> None:
        """Write the activations of z into `out`."""
        np.multiply(z, self._gate(z), out=out)

    def derivative(self, z: Array, a: Array, out: Array) -> None:
        """Write da/dz into `out`."""
        gate = self._gate(z)
        np.add(gate, self.beta * a * (1 - gate), out=out)

    def _gate(self, z: Array) -> Array:
        gate: Array = 1 / (1 + np.exp(-np.maximum(self.beta * z, -80)))
        return gate


class Lion:
    """Steps of equal size along the sign of a momentum (Chen et al., 2023)."""

    def __init__(
        self,
        parameters: Any,
        *,
        lr: float = 0.001,
        weight_decay: float = 0.0,
        beta1: Annotated[float, "share of the momentum in a step"] = 0.9,
        beta2: Annotated[float, "decay of the momentum"] = 0.99,
    ) -> None:
        self.parameters, self.weight_decay = parameters, weight_decay
        self.betas = beta1, beta2
        self.momentum, self.gradient = (
            np.zeros_like(parameters.flat),
            np.zeros_like(parameters.flat),
        )

    @property
    def state(self) -> dict[str, Array]:
        """What a checkpoint keeps."""
        return {"momentum": self.momentum}

    def step(self, gradient: Any, lr: float) -> None:
        """Update the parameters in place."""
        g, m, (beta1, beta2) = gradient.into(self.gradient), self.momentum, self.betas
        for weights in self.parameters.weights:
            weights *= 1 - lr * self.weight_decay
        self.parameters.flat[:] -= lr * np.sign(beta1 * m + (1 - beta1) * g)
        m *= beta2
        m += (1 - beta2) * g


def top3_error(probabilities: Array, labels: NDArray[Any]) -> float:
    """The share of examples whose class is not among the three most probable ones."""
    best = np.argsort(probabilities, axis=1)[:, -3:]
    return float(np.mean(~(best == labels[:, None]).any(axis=1)))
