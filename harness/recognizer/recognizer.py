"""A trained network that classifies pictures: weights, the run's normalization, a temperature.

It is loaded from safetensors and JSON only. The digest of the weights is checked, and nothing in
the file is executed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.normalization import Normalization
from harness.nn.activations import ACTIVATIONS
from harness.nn.losses import CrossEntropy
from harness.nn.models import mlp
from harness.nn.network import Network
from harness.recognizer.description import check
from harness.recognizer.preprocess import Preprocessed, preprocess
from harness.runfolder import checkpoint

BATCH = 256
UNSURE = 0.8  # an answer with a lower calibrated probability is not reliable


@dataclass(frozen=True)
class Answer:
    """The classification of one picture.

    probabilities: (C,) float32; None if the picture has no digit.
    """

    preprocessed: Preprocessed
    probabilities: NDArray[np.float32] | None = None

    @property
    def digit(self) -> int | None:
        """The most probable class; None if the picture has no digit."""
        return None if self.probabilities is None else int(self.probabilities.argmax())

    @property
    def probability(self) -> float:
        """The probability of the most probable class; 0 if the picture has no digit."""
        return 0.0 if self.probabilities is None else float(self.probabilities.max())

    @property
    def unsure(self) -> bool:
        """Whether the picture has a digit but the answer is not reliable."""
        return self.probabilities is not None and self.probability < UNSURE


class Recognizer:
    """Classifies images; create it with `load`.

    It reuses its buffers, so only one thread may use it at a time. Raises `ValueError` if the
    weights and their description do not make a network.
    """

    def __init__(self, arrays: checkpoint.Arrays, description: dict[str, Any]) -> None:
        check(arrays, description)
        inputs, *widths, classes = description["sizes"]
        activation = ACTIVATIONS[description["activation"]]()
        layers = mlp((inputs,), classes, width=widths, activation=activation)
        self.network = Network(layers, inputs)
        for name, array in self.network.parameters.arrays.items():
            array[:] = arrays[name]
        self.normalization = Normalization(**description["normalization"])
        rows, columns = description["image_shape"]
        self.image_shape: tuple[int, int] = (rows, columns)
        self.description = description
        self._loss = CrossEntropy()
        self._inputs = np.empty((BATCH, inputs), np.float32)

    @property
    def run_id(self) -> str:
        """The id of the run that trained the network."""
        run_id: str = self.description["run"]
        return run_id

    @property
    def temperature(self) -> float:
        """What the logits are divided by; 1 without calibration."""
        return float(self.description.get("calibration", {}).get("temperature", 1.0))

    @property
    def classes(self) -> int:
        """The number of classes, C."""
        return self.network.outputs

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities (N, C) of preprocessed images (N, rows, columns) or (N, D), uint8.

        Raises `ValueError` for another shape or dtype, and if the weights are so large that the
        answer is not a number.
        """
        pixels = images.reshape(len(images), -1)
        if pixels.dtype != np.uint8 or pixels.shape[1] != self.network.inputs:
            raise ValueError(
                f"images: expected (N, {self.image_shape[0]}, {self.image_shape[1]}) or "
                f"(N, {self.network.inputs}) of uint8, found {images.shape} of {images.dtype}"
            )
        probabilities = np.empty((len(pixels), self.classes), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # the result is checked below
            for begin in range(0, len(pixels), BATCH):
                rows = slice(begin, begin + BATCH)
                self._forward(pixels[rows], probabilities[rows])
        if not np.isfinite(probabilities).all():
            raise ValueError(f"run {self.run_id}: its weights are too large to give an answer")
        return probabilities

    def _forward(self, pixels: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
        """The probabilities of at most BATCH images (B, D), into `out` (B, C)."""
        inputs = self._inputs[: len(pixels)]
        self.normalization.apply(pixels, out=inputs)
        np.divide(self.network.forward(inputs), self.temperature, out=out)
        self._loss.predict(out, out)

    def read(self, pictures: list[NDArray[Any]]) -> list[Answer]:
        """Preprocess and classify pictures (rows, columns) of gray values 0 to 255."""
        return self.classify([preprocess(picture, self.image_shape) for picture in pictures])

    def classify(self, batch: list[Preprocessed]) -> list[Answer]:
        """Classify preprocessed pictures, in one pass through the network."""
        images = [each.image for each in batch if each.image is not None]
        rows = iter(self.probabilities(np.stack(images)) if images else ())
        return [Answer(each, None if each.image is None else next(rows)) for each in batch]


def load(path: Path, **extra: Any) -> Recognizer:
    """Load a recognizer from a weights file; `extra` is added to its description.

    Raises `ValueError` naming the file if it is missing, damaged, or not written by this harness.
    """
    arrays, description = checkpoint.load(path)
    try:
        return Recognizer(arrays, description | extra)
    except (TypeError, ValueError, MemoryError) as error:
        raise ValueError(f"{path}: expected the weights of a run, found {error}") from error
