"""Check weights and their description before memory is taken for them.

A weights file has a digest of its own, so one that was made on purpose passes it. What is checked
here is what a network is built from: every array has exactly the shape that the sizes say (NumPy
would broadcast an array of one element to any size), and every number is finite.
"""

import itertools
from typing import Any

import numpy as np

from harness.nn.activations import ACTIVATIONS
from harness.recognizer import calibration
from harness.runfolder.checkpoint import Arrays

LARGEST = float(np.finfo(np.float32).max)
MAX_CLASSES = 256  # labels are bytes


def check(arrays: Arrays, description: dict[str, Any]) -> None:
    """Raise `ValueError` naming the first part that no trained network has.

    arrays: `layer1.weights` (inputs, outputs), `layer1.bias` (outputs,) and so on, float32.
    description: sizes, activation, normalization, image_shape, run, and calibration if there is
    one; everything else is ignored.
    """
    sizes = _whole_numbers(description, "sizes")
    if len(sizes) < 2 or sizes[-1] > MAX_CLASSES:
        raise ValueError(f"sizes: expected inputs to at most 256 classes, found {_short(sizes)}")
    rows_columns = _whole_numbers(description, "image_shape")
    if len(rows_columns) != 2 or rows_columns[0] * rows_columns[1] != sizes[0]:
        raise ValueError(
            f"image_shape: expected rows and columns of {sizes[0]} inputs, found "
            f"{_short(rows_columns)}"
        )
    for name, known in (("activation", set(ACTIVATIONS)), ("run", None)):
        text = description.get(name)
        if not isinstance(text, str) or not text.isprintable() or (known and text not in known):
            expected = "a name" if known is None else ", ".join(ACTIVATIONS)
            raise ValueError(f"{name}: expected {expected}, found {_short(text)}")
    _check_normalization(description.get("normalization"))
    if "calibration" in description:
        fitted = description["calibration"]
        calibration.check(fitted.get("temperature") if isinstance(fitted, dict) else fitted)
    _check_arrays(arrays, sizes)


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number that float32 can hold: not NaN, infinite, or a truth."""
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST


def _whole_numbers(description: dict[str, Any], name: str) -> list[int]:
    value = description.get(name)
    if not isinstance(value, list | tuple) or not all(type(v) is int and v > 0 for v in value):
        raise ValueError(f"{name}: expected whole numbers above 0, found {_short(value)}")
    return list(value)


def _check_normalization(value: Any) -> None:
    if (
        not isinstance(value, dict)
        or set(value) != {"name", "scale", "shift"}
        or not isinstance(value["name"], str)
        or not (is_number(value["scale"]) and is_number(value["shift"]))
    ):
        raise ValueError(f"normalization: expected name, scale and shift, found {_short(value)}")


def _check_arrays(arrays: Arrays, sizes: list[int]) -> None:
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 1):
        for name, shape in ((f"layer{number}.weights", (inputs, outputs)),
                            (f"layer{number}.bias", (outputs,))):  # fmt: skip
            array = arrays.get(name)
            if array is None or array.shape != shape or array.dtype != np.float32:
                found = "none" if array is None else f"{array.shape} of {array.dtype}"
                raise ValueError(f"{name}: expected {shape} of float32, found {found}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name}: expected finite numbers, found NaN or infinity")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
