"""Decide what the compiled epoch can train. Can be imported without Numba.

This is an allow-list: a setting that differs from its default and is not named here makes the
training unsupported, so an option added later is rejected until the kernel implements it.
"""

from collections.abc import Mapping
from typing import Any

from harness.nn.activations import ACTIVATIONS
from harness.nn.layers import Activate, Dense
from harness.nn.network import Network

# The number that tells the kernel the activation.
ACTIVATION_CODES = {"sigmoid": 0, "tanh": 1, "relu": 2}
OPTIMIZERS = ("sgd",)
NORMALIZATIONS = ("minmax", "unit", "standard", "none")  # one scale and one shift for all inputs
MAX_BATCH = 32  # above it, kernels that process a whole batch at once are faster
INK_SHARE = 0.3  # share of nonzero inputs up to which sums over them are faster than a product

# The kernel supports every value of these, or does not depend on them.
FREE = frozenset(
    {"backend", "epochs", "label_smoothing", "lr", "maximize", "objective", "patience", "schedule",
     "seed", "threads", "ties", "weights"}
)  # fmt: skip


def unsupported(settings: Mapping[str, Any]) -> dict[str, str]:
    """Why the compiled epoch cannot train with `settings`: name -> what it expects instead.

    settings: those that differ from their defaults, by name. `hidden` is the tuple of hidden layer
    widths; `model`, `activation`, `loss`, `normalization` and `optimizer` are names, `inputs` is
    the dtype of the data, `ink` the share of nonzero inputs, `batch` a count. An option of a part
    is named `part.option`; it is not checked if the part is in FREE or already unsupported. The
    result is empty when everything is supported.
    """
    expected: dict[str, str] = {}
    for name, value in settings.items():
        part = name.partition(".")[0]
        if part in FREE or part in expected or _is_supported(name, value):
            continue
        expected[name] = _EXPECTED.get(name, f"no {name}")
    return expected


def structure(network: Network) -> dict[str, Any]:
    """The settings `hidden` and `activation` of a perceptron; `model` for any other network."""
    kinds = [type(layer) for layer in network.layers]
    if kinds != [*[Dense, Activate] * (len(kinds) // 2), Dense]:
        return {"model": "-".join(kind.__name__ for kind in kinds)}
    widths = tuple(layer.outputs for layer in network.layers[:-1] if isinstance(layer, Dense))
    used = {type(layer.activation) for layer in network.layers if isinstance(layer, Activate)}
    names = [name for name in ACTIVATION_CODES if used == {ACTIVATIONS[name]}]
    return {"hidden": widths, "activation": names[0] if names else "another"}


def _is_supported(name: str, value: Any) -> bool:
    match name:
        case "hidden":
            return len(value) == 1
        case "activation":
            return value in ACTIVATION_CODES
        case "model":
            return bool(value == "mlp")
        case "loss":
            return bool(value == "cross_entropy")
        case "inputs":
            return bool(value == "uint8")
        case "normalization":
            return value in NORMALIZATIONS
        case "optimizer":
            return value in OPTIMIZERS
        case "batch":
            return bool(value <= MAX_BATCH)
        case "ink":
            return bool(value < INK_SHARE)
        case _:
            return False


_EXPECTED = {
    "model": "model=mlp without dropout",
    "hidden": "one hidden layer",
    "loss": "loss=cross_entropy",
    "normalization": "normalization=" + " or ".join(NORMALIZATIONS),
    "activation": "activation=" + " or ".join(ACTIVATION_CODES),
    "optimizer": "optimizer=" + " or ".join(OPTIMIZERS),
    "batch": f"batch up to {MAX_BATCH}",
    "augmentation": "augmentation=none",
    "inputs": "labeled uint8 data",
    "ink": f"less than {INK_SHARE:.0%} of the inputs other than 0",
}
