"""Hostile weights with a valid digest of their own are one line, before memory is taken."""

import json
import resource
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.recognizer import recognizer
from harness.recognizer.description import check
from harness.recognizer.recognizer import Recognizer
from harness.runfolder import checkpoint
from tests.conftest import ROOT
from tests.recognizer.test_recognizer import DESCRIPTION, small

NORMAL = {"name": "x", "scale": 0.01, "shift": -0.5}


def test_a_trained_network_passes() -> None:
    _, arrays = small()
    check(arrays, DESCRIPTION)
    check(arrays, {key: value for key, value in DESCRIPTION.items() if key != "calibration"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sizes", None),
        ("sizes", "653"),
        ("sizes", [6]),
        ("sizes", [6, 5.0, 3]),
        ("sizes", [6, True, 3]),
        ("sizes", [6, -5, 3]),
        ("sizes", [6, 5, 0]),
        ("sizes", [6, 5, 4]),
        ("sizes", [6, 10**12, 3]),
        ("sizes", [6, 5, 3, 3]),
        ("sizes", [6, 5, 300]),
        ("range", [0, 16, 255]),
        ("range", [16, 0]),
        ("range", ["0", "16"]),
        ("range", None),
        ("image_shape", [3, 3]),
        ("image_shape", [7]),
        ("image_shape", []),
        ("class_names", ["a", "b"]),
        ("class_names", ["a", "b", "b"]),
        ("class_names", ["a", "b", 3]),
        ("class_names", ["a", "b", "c\x1b[2J"]),
        ("class_names", "abc"),
        ("dtype", "object"),
        ("dtype", ["uint8"]),
        ("image_shape", [[2], [3]]),
        ("image_shape", {"rows": 2}),
        ("activation", "softplus"),
        ("activation", ["relu"]),
        ("activation", None),
        ("run", 7),
        ("run", "a\nb"),
        ("normalization", None),
        ("normalization", [0.01, -0.5]),
        ("normalization", NORMAL | {"scale": float("nan")}),
        ("normalization", NORMAL | {"shift": 10**400}),
        ("normalization", NORMAL | {"shift": "0"}),
        ("normalization", NORMAL | {"more": 1}),
        ("calibration", None),
        ("calibration", []),
        ("calibration", {}),
        ("calibration", {"temperature": 0.0}),
        ("calibration", {"temperature": float("inf")}),
        ("calibration", {"temperature": [1.0]}),
    ],
)
def test_another_description_is_refused(key: str, value: object, tmp_path: Path) -> None:
    _, arrays = small()
    description = dict(DESCRIPTION) | {key: value}
    checkpoint.save(tmp_path / "x.safetensors", arrays, description)
    with pytest.raises(ValueError, match=r"x\.safetensors: expected the weights") as caught:
        recognizer.load(tmp_path / "x.safetensors")
    assert "\n" not in str(caught.value)


def one(value: float, *shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.full(shape, value, dtype)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("layer1.weights", one(0.1, 5, 6)),
        ("layer1.weights", one(0.1, 1, 1)),
        ("layer1.bias", one(0.1, 1)),
        ("layer2.bias", one(0.1)),
        ("layer2.bias", one(0.1, 3, dtype=np.float64)),
        ("layer2.weights", one(np.nan, 5, 3)),
        ("layer2.weights", one(np.inf, 5, 3)),
        ("layer2.weights", None),
    ],
)
def test_other_arrays_are_refused(name: str, array: np.ndarray | None) -> None:
    _, arrays = small()
    changed = {**arrays, name: array}
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        check({key: value for key, value in changed.items() if value is not None}, DESCRIPTION)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        [],
        {"sha256": "0"},
        {"description": {}},
        {"description": [], "sha256": "0"},
        {"description": "text", "sha256": ["0"]},
        "[" * 100_000,
    ],
)
def test_another_header_is_refused(metadata: Any, tmp_path: Path) -> None:
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    header = json.dumps({"__metadata__": {"harness": text}}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ValueError, match=r"x\.safetensors") as caught:
        recognizer.load(tmp_path / "x.safetensors")
    assert "\n" not in str(caught.value)


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: limits of address space")
def test_a_kilobyte_cannot_ask_for_gigabytes(tmp_path: Path) -> None:
    """Arrays of one element would broadcast to 784-1500000-10."""
    sizes = [784, 1_500_000, 10]
    shapes = {"layer1.weights": (1, 1), "layer1.bias": (1,), "layer2.weights": (1, 1)}
    arrays = {name: one(0.1, *shape) for name, shape in shapes.items()} | {"layer2.bias": one(0, 1)}
    description = dict(DESCRIPTION) | {"sizes": sizes, "image_shape": [28, 28]}
    checkpoint.save(tmp_path / "x.safetensors", arrays, description)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, tmp_path / "x.safetensors"],
        capture_output=True, text=True, preexec_fn=limit_memory,
        env={"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.endswith("found (1, 1) of float32\n"), done.stderr


PARTS = {"activation": "relu", "loss": "cross_entropy", "normalization": "minmax"}
CONV = {"name": "conv", "channels": [1], "kernel": 1, "pool": 2}


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: limits of address space")
@pytest.mark.parametrize(
    ("model", "shared", "image_shape", "expected"),
    [
        ({"name": "mlp"}, {"depth": 10**9}, [28, 28], "shared: expected width, depth and dropout"),
        ({"name": "mlp"}, {"width": [5, 10**6]}, [28, 28], "found (1, 1) of float32"),
        ({"name": "mlp"}, {"width": "abc"}, [28, 28], "shared: expected width, depth and dropout"),
        ({"name": "mlp"}, {"width": 10**30}, [28, 28], "computes at most 67,108,864 numbers"),
        ({"name": "mlp"}, {"dropout": "0"}, [28, 28], "shared: expected width, depth and dropout"),
        (CONV | {"channels": [10**9]}, {}, [28, 28], "computes at most 67,108,864 numbers"),
        (CONV | {"pool": 1 << 16}, {}, [1 << 16, 1 << 16], "computes at most 67,108,864 numbers"),
        (CONV | {"pool": 4096}, {}, [4096, 4096], "computes at most 67,108,864 numbers"),
        (CONV | {"kernel": 400}, {}, [800, 800], "computes at most 67,108,864 numbers"),
    ],
)
def test_parts_cannot_ask_for_gigabytes(
    tmp_path: Path, model: Any, shared: Any, image_shape: list[int], expected: str
) -> None:
    arrays = {f"layer{n}.weights": one(0.1, 1, 1) for n in (1, 2, 3)}
    arrays |= {f"layer{n}.bias": one(0.1, 1) for n in (1, 2, 3)}
    nodes = {kind: {"name": name} for kind, name in PARTS.items()} | {"model": model}
    description = {key: value for key, value in DESCRIPTION.items() if key != "sizes"} | {
        "parts": nodes, "shared": {"width": 1, "depth": 1, "dropout": 0} | shared, "outputs": 1,
        "image_shape": image_shape, "normalization": NORMAL,
    }  # fmt: skip
    checkpoint.save(tmp_path / "x.safetensors", arrays, description)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, tmp_path / "x.safetensors"], timeout=60,
        capture_output=True, text=True, preexec_fn=limit_memory,
        env={"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert expected in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1


LOAD = """
import sys
from pathlib import Path
from harness.recognizer import recognizer
try:
    recognizer.load(Path(sys.argv[1]))
except ValueError as error:
    print(error)
"""


def test_an_answer_that_is_no_number_is_an_error() -> None:
    _, arrays = small()
    large = {name: np.full_like(array, 3e38) for name, array in arrays.items()}
    network = Recognizer(large, DESCRIPTION)
    with pytest.raises(ValueError, match="run abc: its weights are too large"):
        network.probabilities(np.full((1, 2, 3), 255, np.uint8))


@pytest.mark.parametrize("parts", [{}, {"model": "mlp"}, dict.fromkeys(PARTS), []])
def test_parts_that_are_missing_are_one_line(tmp_path: Path, parts: Any) -> None:
    _, arrays = small()
    description = {key: value for key, value in DESCRIPTION.items() if key != "sizes"}
    shared = {"width": 5, "depth": 1, "dropout": 0}
    description |= {"parts": parts, "shared": shared, "outputs": 3}
    checkpoint.save(tmp_path / "x.safetensors", arrays, description)
    with pytest.raises(
        ValueError, match=r"x\.safetensors: expected the weights of a run"
    ) as caught:
        recognizer.load(tmp_path / "x.safetensors")
    assert "\n" not in str(caught.value)
