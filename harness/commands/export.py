"""The extracted sets as JSON, the tutorial's own way of skipping extraction in later runs.

It is here for the comparison: the memory-mapped cache is smaller and opens a thousand times faster
(`python tests/benchmarks/bench_cache.py` prints both).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.atomic import write_atomically
from harness.data.dataset import Dataset, Part


def export_json(dataset: Dataset, folder: Path) -> list[Path]:
    """Write `train.json` and `test.json`: {"images": N rows of D pixels, "labels": N numbers}."""
    paths = []
    for name, part in (("train", dataset.train), ("test", dataset.test)):
        path = folder / f"{name}.json"
        content = json.dumps(_plain(part), separators=(",", ":")).encode()
        write_atomically(path, lambda file, content=content: file.write(content))  # type: ignore[misc]  # bound now
        paths.append(path)
    return paths


def load_json(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (N, D) and labels (N,), uint8, from a file that `export_json` wrote."""
    content = json.loads(path.read_text())
    return np.array(content["images"], np.uint8), np.array(content["labels"], np.uint8)


def _plain(part: Part) -> dict[str, Any]:
    rows = slice(None) if part.rows is None else part.rows
    return {"images": part.images[rows].tolist(), "labels": part.labels[rows].tolist()}
