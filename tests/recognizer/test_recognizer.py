"""A recognizer computes softmax(z / T) of the run's network, for any number of images."""

from pathlib import Path

import numpy as np
import pytest

from harness.recognizer import recognizer
from harness.recognizer.preprocess import Preprocessed
from harness.recognizer.recognizer import BATCH, Answer, Recognizer

SIZES = (6, 5, 3)
DESCRIPTION = {
    "run": "abc", "sizes": SIZES, "activation": "tanh", "image_shape": (2, 3),
    "normalization": {"name": "x", "scale": 0.01, "shift": -0.5},
    "calibration": {"temperature": 1.7},
}  # fmt: skip


def small(**extra: object) -> tuple[Recognizer, dict[str, np.ndarray]]:
    """A network with random weights, and these weights."""
    random = np.random.default_rng(4)
    arrays = {
        "layer1.weights": random.normal(0, 1, (6, 5)).astype(np.float32),
        "layer1.bias": random.normal(0, 1, 5).astype(np.float32),
        "layer2.weights": random.normal(0, 1, (5, 3)).astype(np.float32),
        "layer2.bias": random.normal(0, 1, 3).astype(np.float32),
    }
    return Recognizer(arrays, DESCRIPTION | extra), arrays


def test_probabilities_by_the_formula() -> None:
    network, arrays = small()
    images = np.random.default_rng(5).integers(0, 256, (2 * BATCH + 7, 2, 3)).astype(np.uint8)
    x = images.reshape(-1, 6) * 0.01 - 0.5
    a = np.tanh(x @ arrays["layer1.weights"] + arrays["layer1.bias"])
    powers = np.exp((a @ arrays["layer2.weights"] + arrays["layer2.bias"]) / 1.7)
    expected = powers / powers.sum(axis=1, keepdims=True)
    probabilities = network.probabilities(images)
    assert probabilities.dtype == np.float32
    assert probabilities == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(network.probabilities(images.reshape(-1, 6)), probabilities)
    assert (network.run_id, network.classes, network.temperature) == ("abc", 3, 1.7)


def test_a_batch_is_classified_in_order() -> None:
    network, _ = small()
    images = np.random.default_rng(6).integers(0, 256, (3, 2, 3)).astype(np.uint8)
    empty = Preprocessed(None, "no digit found")
    batch = [Preprocessed(images[0]), empty, Preprocessed(images[1]), Preprocessed(images[2])]
    answers = network.classify(batch)
    assert [answer.preprocessed for answer in answers] == batch
    assert answers[1].probabilities is None
    expected = network.probabilities(images)
    for answer, row in zip([answers[0], *answers[2:]], expected, strict=True):
        assert np.array_equal(answer.probabilities, row)
    assert network.classify([empty])[0].digit is None


@pytest.mark.parametrize(
    ("probabilities", "digit", "probability", "unsure"),
    [([0.1, 0.9], 1, 0.9, False), ([0.6, 0.4], 0, 0.6, True), (None, None, 0.0, False)],
)
def test_an_answer(
    probabilities: list[float] | None, digit: int | None, probability: float, unsure: bool
) -> None:
    row = None if probabilities is None else np.array(probabilities, np.float32)
    answer = Answer(Preprocessed(None), row)
    assert (answer.digit, answer.unsure) == (digit, unsure)
    assert answer.probability == pytest.approx(probability)


@pytest.mark.parametrize("images", [np.zeros((1, 7), np.uint8), np.zeros((1, 6), np.float32)])
def test_wrong_images_are_rejected(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="images: expected"):
        small()[0].probabilities(images)


def test_other_files_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(ValueError, match=r"x\.safetensors"):
        recognizer.load(path)
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"x\.safetensors"):
        recognizer.load(path)
