"""What the compiled epoch can train. Importable without Numba.

This is an allow-list: a setting that differs from its default and is not named here makes the
training unsupported, so an option added later is refused until the kernel implements it.
"""

from collections.abc import Mapping
from typing import Any

# The number by which the kernel branches on an activation.
ACTIVATION_CODES = {"sigmoid": 0, "tanh": 1, "relu": 2}
OPTIMIZERS = ("sgd",)
MAX_BATCH = 1024  # the kernel lists the ink of a whole batch at once

# The step honors these at any value, or does not depend on them.
FREE = frozenset(
    {"backend", "epochs", "label_smoothing", "lr", "maximize", "objective", "patience", "schedule",
     "seed"}
)  # fmt: skip


def unsupported(settings: Mapping[str, Any]) -> dict[str, str]:
    """Why the compiled epoch cannot train with `settings`: name -> what it expects instead.

    settings: those that differ from their defaults, by name. `hidden` is the tuple of hidden layer
    widths, `activation` and `optimizer` are names, `batch` is a count. An option of a part is
    spelled `part.option`; it follows its part where the part itself is free or refused.
    Empty when everything is supported.
    """
    expected: dict[str, str] = {}
    for name, value in settings.items():
        part = name.partition(".")[0]
        if part in FREE or part in expected or _is_supported(name, value):
            continue
        expected[name] = _EXPECTED.get(name, f"no {name}")
    return expected


def _is_supported(name: str, value: Any) -> bool:
    match name:
        case "hidden":
            return len(value) == 1
        case "activation":
            return value in ACTIVATION_CODES
        case "optimizer":
            return value in OPTIMIZERS
        case "batch":
            return bool(value <= MAX_BATCH)
        case _:
            return False


_EXPECTED = {
    "hidden": "one hidden layer",
    "activation": "activation=" + " or ".join(ACTIVATION_CODES),
    "optimizer": "optimizer=" + " or ".join(OPTIMIZERS),
    "batch": f"batch up to {MAX_BATCH}",
    "augmentation": "augmentation=none",
    "inputs": "labeled data of uint8",
}
