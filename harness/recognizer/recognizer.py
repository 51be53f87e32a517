"""A trained network: weights, the run's normalization and loss, a temperature.

It is loaded from safetensors and JSON only. The digest of the weights is checked, and nothing in
the file is executed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.dataset import default_names, is_image
from harness.data.normalization import is_beyond
from harness.job import rehearsal, trained
from harness.job.trained import CODE, RANGE
from harness.nn.losses import predict
from harness.recognizer.description import check
from harness.recognizer.picture import Pixels
from harness.recognizer.preprocess import Preprocessed, prepare
from harness.runfolder import checkpoint, own_code

BATCH = 256
BATCH_NUMBERS = 1 << 26  # inputs of a batch at most: 256 MB
NAME = 80  # characters of the name of a data set
MNIST = "mnist"  # the data set of digits
UNSURE = 0.8  # an answer with a lower calibrated probability is not reliable


@dataclass(frozen=True)
class Answer:
    """The classification of one picture.

    probabilities: (C,) float32; None if the picture has no digit. names: of the classes.
    """

    preprocessed: Preprocessed
    probabilities: NDArray[np.float32] | None = None
    names: Sequence[str] = ()

    @property
    def digit(self) -> int | None:
        """The number of the most probable class; None if the picture has no digit."""
        return None if self.probabilities is None else int(self.probabilities.argmax())

    @property
    def name(self) -> str | None:
        """The name of the most probable class; None if the picture has no digit."""
        return None if self.digit is None else self.names[self.digit]

    @property
    def probability(self) -> float:
        """The probability of the most probable class; 0 if the picture has no digit."""
        return 0.0 if self.probabilities is None else float(self.probabilities.max())

    @property
    def unsure(self) -> bool:
        """Whether the picture has a digit but the answer is not reliable."""
        return self.probabilities is not None and self.probability < UNSURE


class Recognizer:
    """Classifies examples of any shape, or predicts numbers; create it with `load`.

    input_shape: of one example. dtype: of the inputs. class_names: of the C classes, none of a
    regression.

    It reuses its buffers, so only one thread may use it at a time. Raises `ValueError` if the
    weights and their description do not make a network. own: whether it may have parts of the
    user's, which are imported. uncalibrated: why it has no temperature in spite of validation
    examples; else empty.
    """

    def __init__(
        self, arrays: checkpoint.Arrays, description: dict[str, Any], *, own: bool = False
    ) -> None:
        check(arrays, description)
        self.network, self.normalization, self.loss = trained.restore(arrays, description, own=own)
        self.input_shape: tuple[int, ...] = tuple(description["image_shape"])
        self.dtype = np.dtype(description.get("dtype", "uint8"))
        names = description.get("class_names")
        self.class_names = default_names(self.classes) if names is None else tuple(names)
        self.description, self.uncalibrated = description, ""
        self._batch = min(BATCH, max(1, BATCH_NUMBERS // self.network.inputs))
        self._inputs = np.empty((self._batch, self.network.inputs), np.float32)

    @property
    def run_id(self) -> str:
        """The id of the run that trained the network."""
        run_id: str = self.description["run"]
        return run_id

    @property
    def source(self) -> str:
        """Where the network comes from, for display: registered version and run."""
        version = f"{self.description['version']}, " if "version" in self.description else ""
        return f"{version}run {self.run_id}"

    @property
    def remarks(self) -> list[str]:
        """Remarks on its answers to pictures."""
        found = []
        if known := self.value_range:
            found.append(
                f"pictures are rescaled to its training range, {known[0]:g} to {known[1]:g}"
            )
        if self.uncalibrated:
            found.append(f"not calibrated: {self.uncalibrated}")
        return found

    @property
    def temperature(self) -> float:
        """The divisor of logits, or of log probabilities; 1 without calibration."""
        return float(self.description.get("calibration", {}).get("temperature", 1.0))

    @property
    def title(self) -> str:
        """The title of its page: a digit for MNIST, or a picture like those of its data set."""
        name = str(self.description.get("dataset", ""))[:NAME]
        return "Draw a digit" if self.is_of_mnist else f"Draw or open a picture: {name}"

    @property
    def is_of_mnist(self) -> bool:
        """Whether it was trained on MNIST."""
        return bool(self.description.get("dataset", MNIST) == MNIST)

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The lowest and the highest value of the training data, where `recorded_range` has them.

        None for pictures that use more than half of the gray values.
        """
        known = self.description.get(RANGE)
        return None if known is None else (known[0], known[1])

    @property
    def is_regression(self) -> bool:
        """Whether it predicts numbers, not classes."""
        return self.loss.kind == "regression"

    @property
    def classes(self) -> int:
        """The number of classes, C; 0 of a regression."""
        return 0 if self.is_regression else self.network.outputs

    @property
    def own_parts(self) -> list[str]:
        """The parts that are the user's, such as `activation=mine.parts:swish`."""
        return [f"{kind}={name}" for kind, name in own_names(self.description).items()]

    @property
    def reads_pictures(self) -> bool:
        """Whether it was trained to classify pictures."""
        return not self.is_regression and is_image(self.input_shape, self.dtype)

    @property
    def picture_shape(self) -> tuple[int, ...]:
        """(rows, columns) or (rows, columns, 3) of the pictures that the network was trained on.

        Raises `ValueError` for a network of other data.
        """
        if not self.reads_pictures:
            targets = " with numbers as targets" if self.is_regression else ""
            raise ValueError(
                f"run {self.run_id} was trained on {self.dtype} of shape {self.input_shape}"
                f"{targets}, not on pictures of classes; `python -m harness evaluate {self.run_id}`"
                " scores it"
            )
        return self.input_shape

    def probabilities(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Class probabilities (N, C) of preprocessed examples (N, ...) or (N, D).

        Of a regression, the predictions (N, K). Raises `ValueError` for another shape or dtype, and
        if the weights are so large that the answer is not a number.
        """
        pixels = images.reshape(len(images), -1)
        if pixels.dtype != self.dtype or pixels.shape[1] != self.network.inputs:
            raise ValueError(
                f"examples: expected (N, {', '.join(map(str, self.input_shape))}) or "
                f"(N, {self.network.inputs}) of {self.dtype}, found {images.shape} of "
                f"{images.dtype}"
            )
        probabilities = np.empty((len(pixels), self.network.outputs), np.float32)
        # What the user's parts raise is one line; the result is checked below.
        with rehearsal.named(f"run {self.run_id}"), np.errstate(over="ignore", invalid="ignore"):
            for begin in range(0, len(pixels), self._batch):
                rows = slice(begin, begin + self._batch)
                self._forward(pixels[rows], probabilities[rows])
        if not np.isfinite(probabilities).all():
            raise ValueError(f"run {self.run_id}: its weights are too large to give an answer")
        return probabilities

    def _forward(self, pixels: NDArray[Any], out: NDArray[np.float32]) -> None:
        """The probabilities of a batch of examples (B, D), into `out` (B, C)."""
        inputs = self._inputs[: len(pixels)]
        self.normalization.apply(pixels, out=inputs)
        predict(self.loss, self.network.forward(inputs), self.temperature, out)

    def read(self, pictures: list[NDArray[Any]], *, as_is: bool = False) -> list[Answer]:
        """Preprocess and classify pictures, (rows, columns) or (rows, columns, 3), 0 to 255.

        as_is: resize them only, as `import-images --as-is` does. Raises `ValueError` for a network
        of other data.
        """
        shape = self.picture_shape
        return self.classify([prepare(picture, shape, as_is=as_is) for picture in pictures])

    def classify(self, batch: list[Preprocessed]) -> list[Answer]:
        """Classify preprocessed pictures, in one pass through the network."""
        images = [self._as_trained(each) for each in batch if each.image is not None]
        rows = iter(self.probabilities(np.stack(images)) if images else ())
        return [
            Answer(each, None if each.image is None else next(rows), self.class_names)
            for each in batch
        ]

    def _as_trained(self, picture: Preprocessed) -> Pixels:
        """A picture of 0 to 255 in the gray values of the training data.

        One that was only resized stays as it is, unless it is far outside of them.
        """
        image, known = picture.image, self.value_range
        assert image is not None
        if known is None or (picture.as_is and not is_beyond(known, image)):
            return image
        low, high = known
        scaled: Pixels = np.rint(low + image * ((high - low) / 255)).astype(np.uint8)
        return scaled


def reads_pictures(dataset: Mapping[str, Any]) -> bool:
    """Whether a run on this data set reads pictures.

    dataset: of its create record, or of the store, which has other shapes as `input_shape`.
    """
    dtype = np.dtype(dataset.get("dtype", "uint8"))
    shape = dataset.get("image_shape", dataset.get("input_shape", (28, 28)))
    return dataset.get("classes") != 0 and is_image(shape, dtype)


def own_names(description: Mapping[str, Any]) -> dict[str, str]:
    """The `MODULE:NAME` of each part that is the user's, by its kind; of a checked description."""
    parts = description.get("parts", {})
    named = {kind: str(node["name"]) for kind, node in parts.items()}
    return {kind: name for kind, name in named.items() if ":" in name}


def load(path: Path, *, is_local: bool = False, **extra: Any) -> Recognizer:
    """Load a recognizer from a weights file; `extra` is added to its description.

    is_local: whether the user's modules that it needs were compared with its run's journal.
    Otherwise they must be here as the description says, and are found as `own_code.use_same` does.
    Raises `OwnCodeError` if they are not, and `ValueError` naming the file if it is missing,
    damaged, or not written by this harness.
    """
    arrays, description = checkpoint.load(path)
    description |= extra
    try:
        check(arrays, description)
        own = own_names(description)
    except (LookupError, AttributeError, TypeError, ValueError, MemoryError) as error:
        raise ValueError(f"{path}: expected the weights of a run, found {error}") from error
    if not is_local:
        own_code.use_same(own.values(), description.get(CODE), description["run"])
    try:
        return Recognizer(arrays, description, own=True)
    except (LookupError, AttributeError, TypeError, ValueError, MemoryError) as error:
        raise ValueError(f"{path}: expected the weights of a run, found {error}") from error
