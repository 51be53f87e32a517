"""What is logged are the weights of the run."""

from pathlib import Path

import numpy as np
from safetensors import safe_open

from harness.recognizer import registry
from harness.recognizer.recognizer import Recognizer
from harness.recognizer.registry import Version
from harness.runfolder import checkpoint
from harness.runfolder.run import Run


def test_the_uri_names_the_alias() -> None:
    assert Version("digits", "3", "champion").uri == "models:/digits@champion"


def test_the_logged_weights_are_those_of_the_run(
    tmp_path: Path, run_folder: Path, trained: Recognizer
) -> None:
    arrays, _ = checkpoint.load(Run(run_folder).weights)
    example = np.zeros((2, 28, 28), np.uint8)
    content = registry.model_content(tmp_path, trained, arrays, example)
    logged, description = checkpoint.load(Path(content["artifacts"]["weights"]))
    assert description["calibration"]["temperature"] == trained.temperature
    assert content["metadata"]["run.id"] == trained.run_id
    assert all(np.array_equal(logged[name], array) for name, array in arrays.items())
    with safe_open(content["artifacts"]["weights"], framework="numpy") as file:
        assert set(file.keys()) == set(arrays)
