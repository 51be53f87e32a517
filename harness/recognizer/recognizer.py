"""A trained network ready to be asked: weights, the run's own normalization, the temperature.

It is made from safetensors and JSON alone; the digest of the weights is checked, and nothing in the
file is ever executed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.normalization import Normalization
from harness.nn.activations import ACTIVATIONS
from harness.nn.losses import softmax
from harness.nn.network import Network, Parameters, count_parameters
from harness.recognizer import preprocess
from harness.recognizer.preprocess import Seen
from harness.runfolder import checkpoint

BATCH = 256
UNSURE = 0.8  # a calibrated probability below this is no answer to rely on


@dataclass(frozen=True)
class Answer:
    """What was read in one picture.

    seen: what the preprocessing found; probabilities: (C,) float32, None when no digit was found.
    """

    seen: Seen
    probabilities: NDArray[np.float32] | None = None

    @property
    def digit(self) -> int | None:
        """The most probable class."""
        return None if self.probabilities is None else int(self.probabilities.argmax())

    @property
    def probability(self) -> float:
        """Of the most probable class; 0 when no digit was found."""
        return 0.0 if self.probabilities is None else float(self.probabilities.max())

    @property
    def unsure(self) -> bool:
        """Whether a digit was found but the answer should not be relied on."""
        return self.probabilities is not None and self.probability < UNSURE


class Recognizer:
    """Answers for images; made by `load`. Not for several threads at once: it owns its buffers."""

    def __init__(self, arrays: checkpoint.Arrays, description: dict[str, Any]) -> None:
        sizes = description["sizes"]
        flat = np.empty(count_parameters(sizes), np.float32)
        self.network = Network(Parameters(sizes, flat), description["activation"])
        for number, layer in enumerate(self.network.parameters.layers, 1):
            layer.weights[:] = arrays[f"layer{number}.weights"]
            layer.bias[:] = arrays[f"layer{number}.bias"]
        self.normalization = Normalization(**description["normalization"])
        rows, columns = description["image_shape"]
        self.image_shape: tuple[int, int] = (rows, columns)
        self.temperature = float(description.get("calibration", {}).get("temperature", 1.0))
        self.description = description
        self._workspace = self.network.workspace(BATCH)
        self._inputs = np.empty((BATCH, sizes[0]), np.float32)

    @property
    def classes(self) -> int:
        """How many classes it tells apart."""
        return self.network.sizes[-1]

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities (N, C) of prepared images (N, rows, columns) or (N, D), uint8."""
        pixels = images.reshape(len(images), -1)
        if pixels.dtype != np.uint8 or pixels.shape[1] != self.network.sizes[0]:
            raise ValueError(
                f"images: expected (N, {self.image_shape[0]}, {self.image_shape[1]}) or "
                f"(N, {self.network.sizes[0]}) of uint8, found {images.shape} of {images.dtype}"
            )
        found = np.empty((len(pixels), self.classes), np.float32)
        for begin in range(0, len(pixels), BATCH):
            block = pixels[begin : begin + BATCH]
            inputs, logits = self._inputs[: len(block)], self._workspace.output[: len(block)]
            self.normalization.apply(block, out=inputs)
            self.network.forward(inputs, self._workspace, logits)
            logits /= self.temperature
            out = found[begin : begin + len(block)]
            softmax(logits, out, self._workspace.row[: len(block)])
        return found

    def read(self, pictures: list[NDArray[Any]]) -> list[Answer]:
        """Find and read the digit of each picture (rows, columns), gray values 0..255."""
        return self.answer([preprocess.find(each, self.image_shape) for each in pictures])

    def answer(self, seen: list[Seen]) -> list[Answer]:
        """Read what the preprocessing found, all of it at once."""
        images = [each.image for each in seen if each.image is not None]
        found = iter(self.probabilities(np.stack(images)) if images else ())
        return [Answer(each, None if each.image is None else next(found)) for each in seen]


def load(path: Path, **more: Any) -> Recognizer:
    """A recognizer from a weights file; `more` is added to its description.

    Raises `ValueError` naming the file when it is missing, damaged, or not of this harness.
    """
    arrays, description = checkpoint.load(path)
    try:
        if description["activation"] not in ACTIVATIONS:
            raise ValueError(f"activation {description['activation']!r}")
        return Recognizer(arrays, description | more)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected the weights of a run, found {error}") from error
