"""Normalization: map the values of the data to the inputs of the network.

A normalization is fitted to the training part and saved with the weights, so examples are
normalized in the same way wherever the weights are used. The built-in ones are affine,
x = value * scale + shift:

    name      bytes (uint8)                       other numbers
    minmax    0..255 to [-1, 1]                   the range of the training data to [-1, 1]
    unit      0..255 to [0, 1]                    the range of the training data to [0, 1]
    standard  mean 0, standard deviation 1 over all values of the training data
    none      the values as they are

For bytes, minmax and unit map the range of the type, so gray values mean the same in every data
set: with minmax, -1 is background and 1 is full ink, as in the tutorial.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NORMALIZATIONS",
    "Affine",
    "MinMax",
    "Normalization",
    "Standard",
    "Unchanged",
    "Unit",
    "fit",
]

STATE = "normalization."  # prefix of the state's array names in a weights file
BLOCK, FEW = 4096, 256  # examples read at a time; examples that usually suffice for a check
Inputs = NDArray[Any]  # uint8, float32 or float64
Rows = NDArray[np.uint32] | None


class Normalization(Protocol):
    """The interface of a normalization, built-in or custom.

    Its factory is called without positional arguments.
    """

    def fit(self, inputs: Inputs, rows: Rows = None) -> None:
        """Adapt to `inputs[rows]`, the training part.

        inputs: (N, D) uint8, float32 or float64. rows: (n,), None for all.
        """

    @property
    def state(self) -> Mapping[str, NDArray[Any]]:
        """The fitted values by name: arrays of any shape, saved with the weights."""

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set the state to a value of `state`, instead of fitting."""

    def apply(self, inputs: Inputs, out: NDArray[np.float32]) -> None:
        """Normalize `inputs` (n, D) into `out` (n, D) float32, which can be the same array."""


class Affine:
    """x = value * scale + shift, the same for all inputs; `fit` of this class changes nothing."""

    name = "affine"

    def __init__(self, name: str = "affine", scale: float = 1.0, shift: float = 0.0) -> None:
        self.name, self.scale, self.shift = name, scale, shift

    def fit(self, inputs: Inputs, rows: Rows = None) -> None:
        """Keep scale and shift."""

    @property
    def state(self) -> dict[str, NDArray[np.float64]]:
        """`scale` and `shift`, () float64 each."""
        return {"scale": np.array(self.scale), "shift": np.array(self.shift)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take scale and shift from `state`."""
        self.scale, self.shift = float(state["scale"]), float(state["shift"])

    def apply(self, inputs: Inputs, out: NDArray[np.float32]) -> None:
        """Normalize `inputs` (any shape) into `out` (same shape, float32).

        float64 is normalized before it is rounded, to keep small differences of large values.
        """
        if inputs.dtype == np.float64:
            out[...] = inputs * self.scale + self.shift
            return
        if inputs is not out:
            out[...] = inputs
        np.multiply(out, self.scale, out=out)
        np.add(out, self.shift, out=out)


class MinMax(Affine):
    """[-1, 1] from the range of uint8, or from the range of the training data."""

    def __init__(self) -> None:
        super().__init__("minmax")

    def fit(self, inputs: Inputs, rows: Rows = None) -> None:
        """Raises `ValueError` when all values are equal and not bytes."""
        if inputs.dtype == np.uint8:
            self.scale, self.shift = 2 / 255, -1.0
            return
        low, high = _spread(self.name, inputs, rows)
        self.scale = 2 / (high - low)
        self.shift = -1.0 - low * self.scale


class Unit(Affine):
    """[0, 1] from the range of uint8, or from the range of the training data."""

    def __init__(self) -> None:
        super().__init__("unit")

    def fit(self, inputs: Inputs, rows: Rows = None) -> None:
        """Raises `ValueError` when all values are equal and not bytes."""
        if inputs.dtype == np.uint8:
            self.scale, self.shift = 1 / 255, 0.0
            return
        low, high = _spread(self.name, inputs, rows)
        self.scale = 1 / (high - low)
        self.shift = -low * self.scale


class Standard(Affine):
    """Zero mean and unit variance over all values of the training data."""

    def __init__(self) -> None:
        super().__init__("standard")

    def fit(self, inputs: Inputs, rows: Rows = None) -> None:
        """Raises `ValueError` when all values are equal."""
        mean, deviation = _moments(inputs, rows)
        if not deviation > 0:
            raise _no_spread(self.name, inputs, mean)
        self.scale, self.shift = 1 / deviation, -mean / deviation


class Unchanged(Affine):
    """The values as they are."""

    def __init__(self) -> None:
        super().__init__("none")


NORMALIZATIONS: dict[str, Callable[[], Normalization]] = {
    "minmax": MinMax,
    "unit": Unit,
    "standard": Standard,
    "none": Unchanged,
}


def fit(name: str, inputs: Inputs, rows: Rows = None) -> Normalization:
    """The named normalization fitted to `inputs[rows]`, which should be the training part only.

    inputs: (N, D) uint8, float32 or float64. rows: (n,), None for all. Raises `ValueError` for an
    unknown name, and if the range or deviation to divide by is 0.
    """
    if name not in NORMALIZATIONS:
        # Not `override.suggest`: a logged model has a copy of this file, but of no other in `data`.
        near = difflib.get_close_matches(name, NORMALIZATIONS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"normalization {name!r}: expected {', '.join(NORMALIZATIONS)}{hint}")
    made = NORMALIZATIONS[name]()
    made.fit(inputs, rows)
    return made


def is_affine(fitted: Normalization) -> TypeGuard[Affine]:
    """Whether `fitted` applies only scale and shift; a subclass can apply something else."""
    return isinstance(fitted, Affine) and type(fitted).apply is Affine.apply


def state_arrays(fitted: Normalization) -> dict[str, NDArray[Any]]:
    """The state as arrays for a weights file; empty if affine (its description has the state)."""
    if is_affine(fitted):
        return {}
    return {f"{STATE}{name}": np.asarray(array) for name, array in fitted.state.items()}


def load(
    description: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    factories: Mapping[str, Callable[[], Normalization]] = NORMALIZATIONS,
) -> Normalization:
    """A fitted normalization from a weights file.

    description: its name, and its scale and shift if it is affine. arrays: all arrays of the file,
    including those of `state_arrays`. factories: by name. Raises `ValueError` for a name not in
    `factories` or a state without the arrays that `restore` needs.
    """
    name = description["name"]
    if "scale" in description:
        return Affine(name, description["scale"], description["shift"])
    if name not in factories:
        raise ValueError(f"normalization {name!r}: expected {', '.join(factories)}")
    made = factories[name]()
    try:
        made.restore({k.removeprefix(STATE): v for k, v in arrays.items() if k.startswith(STATE)})
    except (LookupError, TypeError) as error:
        raise ValueError(f"normalization {name!r}: its state has no {error}") from None
    return made


def check_spread(name: str, inputs: Inputs, rows: Rows = None) -> None:
    """Raise `ValueError` if `fit` of a built-in normalization would; ignores unknown names.

    Usually reads only the first BLOCK examples.
    """
    first = next(_blocks(inputs, rows))
    if name in NORMALIZATIONS and first.min() == first.max():
        fit(name, inputs, rows)


def narrow_range(inputs: Inputs, rows: Rows = None) -> tuple[int, int] | None:
    """The lowest and highest of uint8 values, if they span less than half the range of uint8.

    Otherwise None, usually after reading only the first FEW examples; always None for other types.
    `minmax` and `unit` map the whole range of uint8, so such data fill less than half of theirs.
    """
    if inputs.dtype != np.uint8:
        return None
    low, high = 255, 0
    for block in _blocks(inputs, rows, first=FEW):
        low, high = min(low, int(block.min())), max(high, int(block.max()))
        if high - low >= 128:
            return None
    return low, high


def recorded_range(
    shape: Sequence[int], inputs: Inputs, rows: Rows = None
) -> tuple[float, float] | None:
    """The range of the training data as recorded with the weights, for `is_beyond`.

    shape: of one example. None for bytes that use more than half of their range, and for examples
    of one dimension, because each column of a table has its own range.
    """
    if len(shape) < 2:
        return None
    return narrow_range(inputs, rows) if inputs.dtype == np.uint8 else _ends(inputs, rows)


def is_beyond(known: Sequence[float], values: Inputs) -> bool:
    """Whether values are outside a known range, (lowest, highest), by more than its width."""
    low, high = known
    width = high - low
    return bool(width > 0 and (values.min() < low - width or values.max() > high + width))


def _blocks(inputs: Inputs, rows: Rows, first: int = BLOCK) -> Iterator[Inputs]:
    """The examples, `first` and then BLOCK at a time."""
    begin, end = 0, first
    total = len(inputs) if rows is None else len(rows)
    while begin < total:
        part = slice(begin, end)
        yield inputs[part] if rows is None else inputs[rows[part]]
        begin, end = end, end + BLOCK


def _ends(inputs: Inputs, rows: Rows) -> tuple[float, float]:
    """The lowest and the highest value."""
    ends = [(float(block.min()), float(block.max())) for block in _blocks(inputs, rows)]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _spread(name: str, inputs: Inputs, rows: Rows) -> tuple[float, float]:
    """The lowest and the highest value. Raises `ValueError` when they are equal."""
    low, high = _ends(inputs, rows)
    if low == high:
        raise _no_spread(name, inputs, low)
    return low, high


def _moments(inputs: Inputs, rows: Rows) -> tuple[float, float]:
    """Mean and standard deviation: of bytes from exact counts, of other numbers in float64."""
    if inputs.dtype == np.uint8:
        counts = np.zeros(256, np.int64)
        for block in _blocks(inputs, rows):
            counts += np.bincount(block.ravel(), minlength=256)
        grays = np.arange(256)
        mean = float(counts @ grays) / int(counts.sum())
        return mean, float(np.sqrt(counts @ (grays - mean) ** 2 / counts.sum()))
    count = (len(inputs) if rows is None else len(rows)) * inputs.shape[1]
    mean = sum(float(block.sum(dtype=np.float64)) for block in _blocks(inputs, rows)) / count
    squares = (
        float(np.square(np.subtract(block, mean, dtype=np.float64)).sum())
        for block in _blocks(inputs, rows)
    )
    return mean, (sum(squares) / count) ** 0.5


def _no_spread(name: str, inputs: Inputs, value: float) -> ValueError:
    what, other = ("pixel", "minmax") if inputs.dtype == np.uint8 else ("value", "none")
    return ValueError(
        f"normalization {name!r}: every training {what} is {value:g}, so there is no spread to "
        f"divide by; use normalization={other} or look at the data"
    )
