"""docs/tutorial.md: its code runs, prints what the page says, and its pictures are drawn."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import threadpool_limits

from tests import tutorial
from tests.conftest import ROOT, Command

NUMBER = re.compile(r"\d+(?:\.\d+)?")
TEXT = tutorial.PAGE.read_text()
SHORT = {"lr, epochs = create(generator), 0.3, 16": "lr, epochs = create(generator), 0.3, 1"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The matrices are small."""
    with threadpool_limits(1):
        yield


def numbers(lines: list[str]) -> list[float]:
    return [float(number) for line in lines for number in NUMBER.findall(line)]


def words(lines: list[str]) -> list[str]:
    return [NUMBER.sub("N", line) for line in lines]


def test_the_code_prints_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one epoch: to the letter before the training, that epoch's numbers nearly."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    trained, told = False, 0
    for block, printed in tutorial.run(names, SHORT):
        expected = tutorial.expected(block)
        told += len(expected)
        if "epochs + 1" in block:
            trained = True
            assert len(printed) == 1 < len(expected)
            assert numbers(printed) == pytest.approx(numbers(expected[:1]), rel=0.2)
        elif trained:
            assert words(printed) == words(expected)
        else:
            assert printed == expected
    assert trained
    assert told == TEXT.count("\n# ->") == 13
    check_pictures(tutorial.draw(names, tmp_path))


@pytest.mark.accuracy
def test_every_number_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products differ in their last bits between machines, and after 16 epochs in the errors."""
    monkeypatch.chdir(tmp_path)
    for block, printed in tutorial.run({}):
        expected = tutorial.expected(block)
        assert words(printed) == words(expected)
        if "was best" not in block:
            assert numbers(printed) == pytest.approx(numbers(expected), rel=0.2, abs=0.4)
        else:
            assert numbers(printed)[1] == pytest.approx(numbers(expected)[1], abs=0.4)


def check_pictures(paths: list[Path]) -> None:
    """The page shows these pictures, of these sizes, and each part of them shows something."""
    shown = re.findall(r"!\[[^\]]+\]\((.+\.png)\)", TEXT)
    assert [path.name for path in paths] == shown
    for path in paths:
        with Image.open(path) as drawn, Image.open(ROOT / "docs" / path.name) as kept:
            assert drawn.size == kept.size
            pixels = np.asarray(drawn.convert("RGB"), np.int16)
        if "curves" in path.name:
            for panel in np.array_split(pixels, 2, axis=1):
                for line in ((31, 119, 180), (255, 127, 14)):  # training, validation
                    assert (abs(panel - line).max(axis=2) < 8).any(), (path.name, line)
        else:
            for tile in np.array_split(pixels, tutorial.TILES, axis=1):
                assert 0.02 < (tile < 128).all(axis=2).mean() < 0.5, path.name


@pytest.mark.service
def test_every_command(command: Command) -> None:
    """Those of the trainer in short; the first one is run by the tests above."""
    first, *lines = [line for block in tutorial.blocks("sh") for line in block.splitlines()]
    assert first == "python tests/tutorial.py --pictures docs"
    assert len(lines) == 2
    for line in lines:
        python, m, *arguments = shlex.split(line)
        assert (python, m) == ("python", "-m")
        short = ("epochs=1", "dataset.num_train=300", "width=16", "seed=1", "tracking=none")
        done = command(*[a for a in arguments if not a.startswith("seed=")], *short)
        assert done.returncode == 0, done.stderr


def test_the_results_are_those_of_the_readme() -> None:
    """Rows of recipes: network and test error."""
    row = re.compile(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", re.MULTILINE)
    readme = {name: cells for name, *cells in row.findall((ROOT / "README.md").read_text())}
    rows = row.findall(TEXT)
    assert [name for name, *_ in rows] == ["article", "quick", "best"]
    for name, *cells in rows:
        assert cells == readme[name]
