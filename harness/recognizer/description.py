"""Check weights and their description before memory is taken for them.

A weights file has a digest of its own, so one that was made on purpose passes it. What is checked
here is what a network is built from: every array has exactly the shape that the sizes say (NumPy
would broadcast an array of one element to any size), and every number is finite.
"""

import itertools
import math
from typing import Any

import numpy as np

from harness.data.arrays import MAX_CLASSES, TYPES, checked_names
from harness.job.trained import RANGE
from harness.nn.activations import ACTIVATIONS
from harness.recognizer import calibration
from harness.runfolder.checkpoint import Arrays

DTYPES = tuple(dtype.name for dtype in TYPES)
LARGEST = float(np.finfo(np.float32).max)


def check(arrays: Arrays, description: dict[str, Any]) -> None:
    """Raise `ValueError` naming the first part that no trained network has.

    arrays: `layer1.weights` (inputs, outputs), `layer1.bias` (outputs,) and so on, float32.
    description: sizes, activation, normalization, image_shape (of any example), run, and if there
    are some class_names, calibration, range (of the training data) and dtype (of the inputs, else
    uint8); the rest is ignored.
    """
    if "parts" in description:
        outputs = description.get("outputs")
        if type(outputs) is not int or not isinstance(description["parts"], dict):
            raise ValueError("parts: expected those of a network and the number of its outputs")
        sizes = [math.prod(_whole_numbers(description, "image_shape")), outputs]
    else:
        sizes = _whole_numbers(description, "sizes")
    if len(sizes) < 2 or sizes[-1] > MAX_CLASSES:
        raise ValueError(
            f"sizes: expected inputs to at most {MAX_CLASSES} classes, found {_short(sizes)}"
        )
    shape = _whole_numbers(description, "image_shape")
    if math.prod(shape) != sizes[0]:
        raise ValueError(
            f"image_shape: expected the shape of {sizes[0]} inputs, found {_short(shape)}"
        )
    dtype = description.get("dtype", "uint8")
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected {', '.join(DTYPES)}, found {_short(dtype)}")
    if "class_names" in description:
        names = checked_names(description["class_names"], "class_names")
        if len(names) != sizes[-1]:
            raise ValueError(f"class_names: expected {sizes[-1]} names, found {len(names)}")
    for name, known in (("activation", set(ACTIVATIONS)), ("run", None)):
        if name == "activation" and "parts" in description:
            continue
        text = description.get(name)
        if not isinstance(text, str) or not text.isprintable() or (known and text not in known):
            expected = "a name" if known is None else ", ".join(ACTIVATIONS)
            raise ValueError(f"{name}: expected {expected}, found {_short(text)}")
    _check_normalization(description.get("normalization"))
    if RANGE in description:
        _check_range(description[RANGE])
    if "calibration" in description:
        fitted = description["calibration"]
        calibration.check(fitted.get("temperature") if isinstance(fitted, dict) else fitted)
    if "parts" not in description:
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
        or set(value) not in ({"name", "scale", "shift"}, {"name"})
        or not isinstance(value["name"], str)
        or not all(is_number(value[key]) for key in value if key != "name")
    ):
        raise ValueError(f"normalization: expected name, scale and shift, found {_short(value)}")


def _check_range(value: Any) -> None:
    is_pair = isinstance(value, list | tuple) and len(value) == 2 and all(map(is_number, value))
    if not is_pair or value[0] > value[1]:
        raise ValueError(f"{RANGE}: expected the lowest and the highest value, found "
                         f"{_short(value)}")  # fmt: skip


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
