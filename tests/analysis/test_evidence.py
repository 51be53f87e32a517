"""What is read of recorded runs; what is missing or damaged becomes a note."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.analysis import evidence
from harness.runfolder import checkpoint, versions
from harness.runfolder.keys import determines_result
from harness.tracking.recorded import Recorded
from tests.analysis.conftest import DIGEST, build, make_run


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_missing_or_damaged_artifacts_get_a_note_each(
    tmp_path: Path, six: list[Recorded], damage: str
) -> None:
    best = build(tmp_path, *six).settings[0].chosen.run
    for path in ("predictions/test.npz", "weights/best.safetensors"):
        file = tmp_path / "runs" / best / path
        if damage == "missing":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:100])
    comparison = build(tmp_path, *six)
    assert any(best in note and "predictions/test.npz" in note for note in comparison.notes)
    assert any("no figure of the first-layer weights" in note for note in comparison.notes)
    assert len(comparison.standings) == 3
    assert len(comparison.pairs) == 1
    assert "Error by batch" in [figure.title for figure in comparison.figures]


def test_an_unknown_data_set_leaves_out_its_images_only(
    tmp_path: Path, six: list[Recorded]
) -> None:
    comparison = build(tmp_path, *six)
    assert any("no misclassified images: the data set" in note for note in comparison.notes)


def test_settings_that_change_no_result_are_not_compared(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, 5, seed) for seed in (1, 2)]
    circumstances = {
        "outputs": "elsewhere",
        "threads": "2",
        "dataset.dir": "data",
        "tracking.uri": "http://host:5000",
        "checkpoint.every": "7",
    }
    runs[0].params.update(circumstances)
    assert not circumstances.keys() & evidence.seed_run(runs[0]).settings.keys()
    assert all(not determines_result(key) for key in circumstances)
    (setting,) = build(tmp_path, *runs).settings
    assert [run.seed for run in setting.runs] == ["1", "2"]


def test_a_run_is_read_as_plain_values(tmp_path: Path) -> None:
    run = evidence.seed_run(make_run(tmp_path, 5, 1))
    given = {"batch": "5", "seed": "1", "epochs": "3", "dataset.num_val": "40"}
    before = {
        key: str(value)
        for key, value in versions.before().items()
        if determines_result(key) and key != "objective"
    }
    assert run.settings == before | given
    assert (run.data, run.validation, run.test_count) == (DIGEST, f"{DIGEST}/40/", 200)
    assert (run.best_epoch, run.best_val) == (2, pytest.approx(0.051))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("trainer", ()),
        ("layer1.weights", (3, 3, 1, 8)),
        ("layer1.scale", (30,)),
        ("layer1.weights", ()),
    ],
)
def test_first_layer_weights_that_cannot_be_drawn_get_no_note(
    tmp_path: Path, six: list[Recorded], name: str, shape: tuple[int, ...]
) -> None:
    """Those of a convolution, of a layer and of a trainer of the user's that have none."""
    for run in six:
        file = tmp_path / "runs" / run.run / "weights/best.safetensors"
        file.unlink()
        if name != "trainer":
            arrays = {name: np.zeros(shape, np.float32)}
            checkpoint.save(file, arrays, {"image_shape": [6, 5]})
        else:
            run.params["trainer.name"] = "mine.train:fit"
    assert not [note for note in build(tmp_path, *six).notes if "weights" in note]


def test_settings_are_spelled_as_they_are_typed(tmp_path: Path) -> None:
    recorded = make_run(tmp_path, 5, 1)
    params = recorded.params | {"model.bias": "False", "max_norm": "None", "lr": "0.1"}
    settings = evidence.seed_run(replace(recorded, params=params)).settings
    assert [settings[key] for key in ("model.bias", "max_norm", "lr")] == ["false", "null", "0.1"]


def test_a_trainer_that_gave_no_predictions_is_named(tmp_path: Path, six: list[Recorded]) -> None:
    for run in six:
        (tmp_path / "runs" / run.run / "predictions/test.npz").unlink()
        run.params["trainer.name"] = "mine.train:fit"
    notes = build(tmp_path, *six).notes
    assert any("trainer=mine.train:fit gave no predictions of the test set" in n for n in notes)
    assert not any("is missing" in note for note in notes)
