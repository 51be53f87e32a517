"""Pictures of digits, and the network of tests/recognizer, for the commands that use them."""

from pathlib import Path

import pytest
from PIL import Image

from harness.data import dataset
from tests.recognizer.conftest import outputs  # noqa: F401  # the fixture


@pytest.fixture
def digits(tmp_path: Path, outputs: Path) -> list[Path]:  # noqa: F811
    """Ten test digits, dark on light paper of 120 x 90; the label is in the name."""
    test = dataset.load("mnist", cache=outputs / "cache").test
    paths = []
    for number in range(10):
        paper = Image.new("L", (120, 90), 230)
        digit = Image.fromarray(255 - test.inputs[number].reshape(28, 28)).resize((56, 56))
        paper.paste(digit.point(lambda value: value * 230 // 255), (5 + 5 * number, 20))
        paths.append(tmp_path / f"{number}-{test.labels[number]}.png")
        paper.save(paths[-1])
    return paths
