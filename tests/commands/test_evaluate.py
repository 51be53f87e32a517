"""The command `evaluate`, on a trained run and on its own data set or another."""

import json
from pathlib import Path

import numpy as np
import pytest

from harness.commands import evaluate
from harness.nn import metrics
from harness.runfolder.run import Run
from tests.conftest import Command
from tests.recognizer.conftest import outputs, run_folder  # noqa: F401  # fixtures

# ruff: noqa: F811


def test_evaluate_agrees_with_the_run(command: Command, outputs: Path, run_folder: Path) -> None:
    done = command("harness", "evaluate", "last", "--outputs", str(outputs), "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert scores["error"] == Run(run_folder).history().final[metrics.TEST_ERROR]
    confusion = np.array(scores["confusion"])
    assert confusion.sum() == scores["images"] == 10_000
    assert 1 - np.trace(confusion) / 10_000 == pytest.approx(scores["error"])
    assert scores["interval"][0] < scores["error"] < scores["interval"][1]
    done = command("harness", "evaluate", "last", "datset=x", "--outputs", str(outputs))
    assert (done.returncode, done.stdout) == (2, "")
    assert "datset=x" in done.stderr


def test_another_data_set_must_have_the_shape_of_the_images(
    outputs: Path, run_folder: Path, idx_folder: Path
) -> None:
    with pytest.raises(
        ValueError, match="expects images of 28x28 in at most 10 classes, found images of 6x5"
    ):
        evaluate.run_on(outputs, run_folder.name, ["dataset=idx", f"dataset.dir={idx_folder}"])


def test_the_text_has_the_error_and_the_confusion_matrix() -> None:
    counts = np.array([[90, 0], [2, 8]])
    scores = evaluate.Evaluation("ab12", "idx", 100, 0.02, (0.0055, 0.07), 0.1, 0.01, counts)
    assert evaluate.text(scores).splitlines() == [
        "run ab12 on idx: error 2.00% (95 % interval 0.55% to 7.00%) of 100 test examples",
        "loss 0.1000 nats, expected calibration error 1.00%",
        "",
        "rows: true class; columns: predicted class",
        "       0   1",
        "   0  90   .",
        "   1   2   8",
    ]
    assert json.loads(json.dumps(scores.to_dict()))["confusion"] == [[90, 0], [2, 8]]
