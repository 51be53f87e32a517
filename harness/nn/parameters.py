"""The parameters of a network: one flat vector, and named arrays that are views into it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[np.floating[Any]]
Shape = tuple[int, ...]


CACHE_LINE = 64  # bytes


def aligned(shape: Shape, dtype: DTypeLike) -> Array:
    """Zeros aligned to a cache line, so vectors of a row do not cross two lines.

    Measured: otherwise, sums over rows of weights take up to twice as long.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + CACHE_LINE, np.uint8)
    begin = -memory.ctypes.data % CACHE_LINE
    array: Array = memory[begin : begin + size].view(dtype).reshape(shape)
    return array


class Parameters:
    """All parameters of a network.

    Elementwise code (optimizers, averages) uses `flat` (P,); `arrays` has its parts by name, in
    order: `layer1.weights`, `layer1.bias`, `layer2.weights` and so on. shapes: by the same names.
    weights: the arrays of two or more dimensions; weight decay applies to them, not to biases.
    """

    def __init__(self, shapes: Mapping[str, Shape], flat: Array) -> None:
        self.shapes = dict(shapes)
        self._flat = flat
        self.arrays: dict[str, Array] = {}
        begin = 0
        for name, shape in self.shapes.items():
            end = begin + math.prod(shape)
            self.arrays[name] = flat[begin:end].reshape(shape)
            begin = end
        assert begin == len(flat), "the flat vector must hold exactly the arrays"
        self.weights = [array for array in self.arrays.values() if array.ndim > 1]

    @property
    def flat(self) -> Array:
        """All parameters (P,); `arrays` are views of it.

        Change it only in place. Assigning another array, which the network would not use, raises
        `AttributeError`.
        """
        return self._flat

    @flat.setter
    def flat(self, array: Array) -> None:
        if array is not self._flat:  # `flat -= step` assigns the same one
            raise AttributeError(
                "flat cannot be replaced, because the network would keep using the old array; "
                "change it in place: flat[:] = ..."
            )

    @classmethod
    def zeros(cls, shapes: Mapping[str, Shape], dtype: DTypeLike = np.float32) -> "Parameters":
        """All-zero parameters of the given shapes."""
        count = sum(math.prod(shape) for shape in shapes.values())
        return cls(shapes, aligned((count,), dtype))

    def zeros_like(self) -> "Parameters":
        """Zeros of the same layout, for an optimizer's state or a gradient."""
        return Parameters.zeros(self.shapes, self.flat.dtype)
