"""Optimizers: rules that turn the gradients of a batch into a change of the parameters.

An optimizer belongs to one set of parameters, and its state has the same layout. `state` is all of
its state as named arrays, to be saved in checkpoints. `step` changes the parameters in place and
allocates nothing. Weight decay applies to weights, never to biases.

    sgd       w -= lr (g + decay w)
    momentum  v = m v - lr (g + decay w);  w += v   (Nesterov: w += m v - lr (g + decay w))
    adam      w -= lr m^ / (sqrt(v^) + eps) with the running means m, v of g + decay w and of its
              square, corrected for starting at zero (Kingma and Ba, 2015)
    adamw     adam on g alone, plus w -= lr decay w (Loshchilov and Hutter, 2019)

Nesterov's form is that of Sutskever et al. (2013) as deep-learning libraries write it, with the
gradient taken at the current parameters.
"""

import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Protocol

import numpy as np
from annotated_types import Ge, Gt, Lt
from numpy.typing import NDArray

from harness.nn.parameters import Parameters

__all__ = ["OPTIMIZERS", "SGD", "Adam", "AdamW", "Momentum", "Optimizer"]

Array = NDArray[np.floating[Any]]
CHUNK = 1 << 15  # parameters updated at a time; they stay in the cache


class Gradient(Protocol):
    """The gradient of a batch's loss, not yet written anywhere."""

    def into(self, out: Array, factor: float = 1.0) -> Array:
        """Write `factor` times the gradient into `out` (P,), laid out like `Parameters.flat`.

        Returns `out`. The factor adds almost no time.
        """


class Optimizer(Protocol):
    """The interface of an optimizer. Its factory is called with the `Parameters` that it changes.

    A factory with a keyword-only argument `weight_decay` gets the value of that key.
    """

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """The named arrays that `step` changes; writing into them restores an earlier state."""

    def step(self, gradient: Gradient, lr: float) -> Any:
        """Update `parameters.flat` in place. lr: the learning rate of this step."""


class SGD:
    """Stochastic gradient descent."""

    def __init__(self, parameters: Parameters, *, weight_decay: float = 0.0) -> None:
        self._parameters = parameters
        self._change = parameters.zeros_like()
        self.weight_decay = weight_decay

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """Empty: plain gradient descent has no state."""
        return {}

    def step(self, gradient: Gradient, lr: float) -> None:
        """w -= lr (g + decay w)."""
        gradient.into(self._change.flat, -lr)  # reads the weights, so before they shrink
        _shrink(self._parameters, 1 - lr * self.weight_decay)
        np.add(self._parameters.flat, self._change.flat, out=self._parameters.flat)


class Momentum:
    """Gradient descent with a velocity, optionally in Nesterov's form."""

    def __init__(
        self,
        parameters: Parameters,
        *,
        weight_decay: float = 0.0,
        momentum: Annotated[
            float, Ge(0), Lt(1), "share of the velocity that each step keeps"
        ] = 0.9,
        nesterov: Annotated[bool, "Nesterov's form of momentum"] = True,
    ) -> None:
        self._parameters = parameters
        self._change = parameters.zeros_like()
        self._decayed = parameters.zeros_like() if weight_decay else None
        self._velocity = parameters.zeros_like()
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.nesterov = nesterov

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """The velocity."""
        return {"velocity": self._velocity.flat}

    def step(self, gradient: Gradient, lr: float) -> None:
        """v = m v - lr (g + decay w); w += v, or w += m v - lr (g + decay w)."""
        gradient.into(self._change.flat, -lr)
        if self._decayed is not None:
            _add_decay(self._parameters, self._change, self._decayed, -lr * self.weight_decay)
        for part in _parts(self._parameters):
            w, v = self._parameters.flat[part], self._velocity.flat[part]
            change = self._change.flat[part]
            np.multiply(v, self.momentum, out=v)
            np.add(v, change, out=v)
            if self.nesterov:
                np.add(w, change, out=w)
                np.multiply(v, self.momentum, out=change)
                np.add(w, change, out=w)
            else:
                np.add(w, v, out=w)


class Adam:
    """Adam, with weight decay added to the gradient."""

    _decoupled = False

    def __init__(
        self,
        parameters: Parameters,
        *,
        weight_decay: float = 0.0,
        beta1: Annotated[float, Ge(0), Lt(1), "decay of the running mean of the gradient"] = 0.9,
        beta2: Annotated[
            float, Ge(0), Lt(1), "decay of the running mean of the squared gradient"
        ] = 0.999,
        epsilon: Annotated[float, Gt(0), "added to the root of the mean square"] = 1e-8,
    ) -> None:
        self._parameters = parameters
        self._gradient = parameters.zeros_like()
        self._scratch = parameters.zeros_like()
        self._mean = parameters.zeros_like()
        self._square = parameters.zeros_like()
        self._steps = np.zeros(1, np.int64)
        self.weight_decay = weight_decay
        self.betas = beta1, beta2
        self.epsilon = epsilon

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """The running means of gradient and square, and the number of steps."""
        return {"mean": self._mean.flat, "square": self._square.flat, "steps": self._steps}

    def step(self, gradient: Gradient, lr: float) -> None:
        """One step of Adam or AdamW."""
        (beta1, beta2), decay = self.betas, self.weight_decay
        gradient.into(self._gradient.flat, 1 - beta1)  # scaling the small deltas is cheap
        if self._decoupled:  # AdamW
            _shrink(self._parameters, 1 - lr * decay)
        elif decay:
            _add_decay(self._parameters, self._gradient, self._scratch, (1 - beta1) * decay)
        self._steps += 1
        steps = int(self._steps[0])
        # m / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + epsilon), with the constants combined
        root = math.sqrt(1 - beta2**steps)
        rate, epsilon = -lr * root / (1 - beta1**steps), self.epsilon * root
        for part in _parts(self._parameters):
            w, g, scratch = (
                p.flat[part] for p in (self._parameters, self._gradient, self._scratch)
            )
            mean, square = self._mean.flat[part], self._square.flat[part]
            np.multiply(mean, beta1, out=mean)
            np.add(mean, g, out=mean)
            np.multiply(g, g, out=g)
            np.multiply(g, (1 - beta2) / (1 - beta1) ** 2, out=g)
            np.multiply(square, beta2, out=square)
            np.add(square, g, out=square)
            np.sqrt(square, out=scratch)
            np.add(scratch, epsilon, out=scratch)
            np.divide(mean, scratch, out=scratch)
            np.multiply(scratch, rate, out=scratch)
            np.add(w, scratch, out=w)


class AdamW(Adam):
    """Adam with decoupled weight decay, applied directly to the weights."""

    _decoupled = True


def _parts(parameters: Parameters) -> Iterator[slice]:
    """Slices of CHUNK parameters that cover the flat vector (1.6x as fast as one pass over all)."""
    for begin in range(0, len(parameters.flat), CHUNK):
        yield slice(begin, begin + CHUNK)


def _shrink(parameters: Parameters, factor: float) -> None:
    """Multiply the weights, not the biases, by `factor`."""
    if factor != 1:
        for weights in parameters.weights:
            np.multiply(weights, factor, out=weights)


def _add_decay(parameters: Parameters, out: Parameters, scratch: Parameters, factor: float) -> None:
    """Add factor * weights to the weights of `out`; `scratch` has the same layout."""
    arrays = zip(parameters.weights, out.weights, scratch.weights, strict=True)
    for weights, change, room in arrays:
        np.multiply(weights, factor, out=room)
        np.add(change, room, out=change)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "adam": Adam,
    "adamw": AdamW,
}
