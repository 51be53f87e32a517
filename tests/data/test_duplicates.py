"""Examples that are in two parts of a data set are counted once, when it is extracted."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from harness.data import arrays, dataset, duplicates
from harness.data.integrity import META
from harness.data.own_data import Examples, write


def _parts(**change: np.ndarray) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    found = {
        f"x_{part}": generator.normal(size=(count, 4)).astype(np.float32)
        for part, count in (("train", 60), ("test", 30), ("val", 20))
    }
    labels = {f"y_{name[2:]}": np.arange(len(x), dtype=np.uint8) % 3 for name, x in found.items()}
    return found | labels | change


def test_nothing_is_said_of_parts_that_share_no_example() -> None:
    assert duplicates.lines(_parts()) == []


@pytest.mark.parametrize("block", [1 << 20, 40])
def test_examples_of_two_parts_are_counted(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their labels: the same input with another label is another example."""
    monkeypatch.setattr(arrays, "CHUNK", block)
    own = _parts()
    own["x_test"][:7], own["y_test"][:7] = own["x_train"][50:57], own["y_train"][50:57]
    own["x_test"][7], own["y_test"][7] = own["x_train"][3], own["y_train"][3] + 1
    assert duplicates.lines(own) == ["7 of 30 test examples are also training examples"]
    own["x_val"], own["y_val"] = own["x_test"], own["y_test"]
    assert duplicates.lines(own) == [
        "7 of 30 test examples are also training examples",
        "7 of 30 validation examples are also training examples",
        "30 of 30 test examples are also validation examples",
    ]


def test_targets_and_too_many_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = {f"y_{part}": np.ones((n, 2), np.float32) for part, n in (("train", 60), ("test", 30),
                                                                      ("val", 20))}  # fmt: skip
    own = _parts(**targets)
    own["x_test"] = own["x_train"][:30]
    assert duplicates.lines(own) == ["30 of 30 test examples are also training examples"]
    monkeypatch.setattr(duplicates, "MOST", 109)
    assert duplicates.lines(own) == []


def test_sixty_thousand_images_take_a_fraction_of_a_second() -> None:
    images = np.random.default_rng(0).integers(0, 256, (70_000, 784), dtype=np.uint8)
    labels = np.zeros(70_000, np.uint8)
    parts = {"x_train": images[:60_000], "y_train": labels[:60_000],
             "x_test": images[60_000:], "y_test": labels[60_000:]}  # fmt: skip
    begin = time.process_time()
    assert duplicates.lines(parts) == []
    assert time.process_time() - begin < 1.0


def test_the_data_set_keeps_the_count(tmp_path: Path) -> None:
    """Of idx files as of arrays; the known data sets are not compared."""
    images = np.zeros((40, 4, 4), np.uint8)
    labels = np.arange(40, dtype=np.uint8) % 2
    write(Examples(images, labels, ["a", "b"]), tmp_path / "idx", test_share=0.25)
    cache = tmp_path / "cache"
    data = dataset.load("idx", folder=str(tmp_path / "idx"), cache=cache, num_val=4)
    assert data.duplicates == ("10 of 10 test examples are also training examples",)
    known = dataset.load("mnist", cache=cache)
    assert known.duplicates == ()
    assert "duplicates" not in json.loads((cache / known.sha256 / META).read_text())
