"""A recognizer computes softmax(z / T) of the run's network, for any number of images."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from harness.data import normalization
from harness.recognizer import recognizer
from harness.recognizer.preprocess import Preprocessed
from harness.recognizer.recognizer import BATCH, Answer, Recognizer
from harness.runfolder import checkpoint

SIZES = (6, 5, 3)
UNCHANGED = {"name": "none", "scale": 1.0, "shift": 0.0}
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
    with pytest.raises(ValueError, match="examples: expected"):
        small()[0].probabilities(images)


def test_other_files_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(ValueError, match=r"x\.safetensors"):
        recognizer.load(path)
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"x\.safetensors"):
        recognizer.load(path)


class PerInput:
    """A normalization with a state of one number for each input."""

    def __init__(self) -> None:
        self.mean = np.zeros(6)

    def fit(self, inputs: np.ndarray, rows: np.ndarray | None = None) -> None:
        self.mean = inputs.mean(axis=0)

    @property
    def state(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.mean = state["mean"]

    def apply(self, inputs: np.ndarray, out: np.ndarray) -> None:
        np.subtract(inputs, self.mean, out=out, casting="unsafe")


def test_a_state_of_any_shape_is_read_from_the_weights_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(normalization.NORMALIZATIONS, "mine", PerInput)
    examples = np.random.default_rng(3).normal(size=(9, 6)).astype(np.float32)
    fitted = normalization.fit("mine", examples)
    _, arrays = small()
    description = {**DESCRIPTION, "normalization": {"name": "mine"}, "dtype": "float32"}
    description |= {"image_shape": (6,), "class_names": ["a", "b", "c"]}
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, arrays | normalization.state_arrays(fitted), description)
    network = recognizer.load(path)
    inputs = np.zeros((9, 6), np.float32)
    network.normalization.apply(examples, inputs)
    np.testing.assert_allclose(inputs, examples - examples.mean(axis=0), atol=1e-6)
    plain = Recognizer(arrays, DESCRIPTION | {"normalization": UNCHANGED, "dtype": "float32"})
    expected = plain.probabilities(inputs)
    assert network.probabilities(examples) == pytest.approx(expected, abs=1e-6)
    assert network.class_names == ("a", "b", "c")
    with pytest.raises(ValueError, match=r"float32 of shape \(6,\), not on pictures"):
        network.read([np.zeros((28, 28), np.uint8)])
    with pytest.raises(ValueError, match="normalization 'mine': its state has no 'mean'"):
        Recognizer(arrays, description)
    with pytest.raises(ValueError, match="normalization 'other': expected minmax, unit"):
        Recognizer(arrays, description | {"normalization": {"name": "other"}})


def test_a_regression_on_pictures_reads_none() -> None:
    network, arrays = small()
    assert Recognizer(arrays, DESCRIPTION).title == "Draw a digit"
    named = Recognizer(arrays, DESCRIPTION | {"dataset": "<i>" + 100 * "x"})
    assert named.title == f"Draw or open a picture: <i>{77 * 'x'}"
    regression = Recognizer(arrays, DESCRIPTION | {"classes": 0})
    assert (regression.is_regression, regression.classes, regression.class_names) == (True, 0, ())
    assert network.reads_pictures
    with pytest.raises(ValueError, match="with numbers as targets, not on pictures of classes"):
        regression.read([np.zeros((28, 28), np.uint8)])


def test_pictures_get_the_gray_values_of_the_training_data() -> None:
    network, _ = small(range=[0, 16])
    images = np.array([[[0, 255, 128], [64, 8, 16]], [[0, 16, 8], [4, 1, 32]]], np.uint8)
    scaled = np.array([[[0, 16, 8], [4, 1, 1]], [[0, 1, 1], [0, 0, 2]]], np.uint8)
    answers = network.classify([Preprocessed(each) for each in images])
    expected = network.probabilities(scaled)
    for answer, row in zip(answers, expected, strict=True):
        assert np.array_equal(answer.probabilities, row)
    resized = network.classify([Preprocessed(each, as_is=True) for each in images])
    assert np.array_equal(resized[0].probabilities, expected[0])
    kept = network.probabilities(images[1:])[0]
    assert np.array_equal(resized[1].probabilities, kept), "it has the gray values already"
    assert not np.array_equal(resized[1].probabilities, expected[1])
