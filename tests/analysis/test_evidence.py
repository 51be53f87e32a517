"""What is read of recorded runs; what is missing or damaged becomes a note."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.analysis import evidence
from harness.runfolder import checkpoint, versions
from harness.runfolder.keys import determines_result
from harness.runfolder.run import ACCEPTED, SOURCE
from harness.tracking.recorded import Recorded
from tests.analysis.conftest import DIGEST, build, make_run


def test_unfinished_runs_are_left_out_with_a_note(tmp_path: Path) -> None:
    good = [make_run(tmp_path, 5, 1), make_run(tmp_path, 6, 1)]
    bad = [
        make_run(tmp_path, 7, 1, status="FAILED"),
        make_run(tmp_path, 8, 1, status="KILLED"),
        make_run(tmp_path, 9, 1, status=None),
    ]
    comparison = build(tmp_path, *good, *bad)
    assert len(comparison.settings) == 2
    (note,) = [note for note in comparison.notes if "left out" in note]
    assert note.startswith("left out because not finished: 1 FAILED, 1 KILLED, 1 RUNNING (batch=7")


def test_pruned_trials_are_counted_as_such(tmp_path: Path) -> None:
    pruned = make_run(tmp_path, 7, 1, status="KILLED")
    pruned = replace(pruned, tags=pruned.tags | {"pruned": "true"})
    killed = make_run(tmp_path, 8, 1, status="KILLED")
    paused = replace(make_run(tmp_path, 9, 1, status="KILLED"), tags=pruned.tags)
    paused = replace(paused, tags=paused.tags | {"paused_after": "1"})
    comparison = build(tmp_path, make_run(tmp_path, 5, 1), pruned, killed, paused)
    (note,) = [note for note in comparison.notes if "left out" in note]
    assert note.startswith("left out because not finished: 1 PRUNED, 1 KILLED, 1 PAUSED (batch=7")


def test_nothing_finished_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing to compare: left out because .* 1 FAILED"):
        build(tmp_path, make_run(tmp_path, 7, 1, status="FAILED"))


def test_an_empty_sweep_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sweep abc: there are no runs to compare"):
        build(tmp_path)


def test_runs_without_metrics_are_left_out_with_a_note(tmp_path: Path) -> None:
    foreign = replace(make_run(tmp_path, 6, 1), final={"accuracy": 0.9}, curves={})
    comparison = build(tmp_path, make_run(tmp_path, 5, 1), foreign)
    assert len(comparison.settings) == 1
    assert any(
        "1 finished run(s) have neither val/error nor test/error" in n for n in comparison.notes
    )


def test_runs_of_other_source_that_a_sweep_accepted_get_a_note(tmp_path: Path) -> None:
    other = make_run(tmp_path, 6, 1)
    runs = [make_run(tmp_path, 5, 1), replace(other, tags=other.tags | {ACCEPTED: "xyz,abc"})]
    (note,) = [note for note in build(tmp_path, *runs).notes if "source" in note]
    assert note.startswith("1 run(s) were trained by other source than the rest and accepted")
    assert note.endswith(f": {other.name}")
    unasked = replace(other, tags=other.tags | {ACCEPTED: "xyz"})
    assert not [n for n in build(tmp_path, runs[0], unasked).notes if "source" in n]


def test_other_source_of_own_modules_separates_settings_unless_accepted(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, 5, seed) for seed in (1, 2)]
    runs = [replace(run, params=run.params | {"trainer.name": "mine:fit"}) for run in runs]
    codes = zip(runs, ("aa" * 32, "bb" * 32), strict=True)
    runs = [replace(run, tags=run.tags | {"code.sha256": code}) for run, code in codes]
    labels = [setting.label for setting in build(tmp_path, *runs).settings]
    assert labels == ["code=aaaaaaaa", "code=bbbbbbbb"]
    accepted = replace(runs[0], tags=runs[0].tags | {ACCEPTED: "abc"})
    (setting,) = build(tmp_path, accepted, runs[1]).settings
    assert len(setting.runs) == 2


def test_runs_of_other_source_of_the_package_get_a_note(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, 5, seed) for seed in (1, 2, 3)]
    sources = zip(runs, ("aa", "bb", "bb"), strict=True)
    runs = [replace(run, tags=run.tags | {SOURCE: digest}) for run, digest in sources]
    (note,) = [note for note in build(tmp_path, *runs).notes if "source" in note]
    assert note.startswith("1 of 3 runs were trained by other source of this package")
    assert not [note for note in build(tmp_path, *runs[1:]).notes if "source" in note]


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
