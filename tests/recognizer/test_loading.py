"""Which network answers, and that only undamaged weights are loaded."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.recognizer import champion, loading
from harness.recognizer.library import Library
from harness.recognizer.recognizer import Recognizer
from harness.runfolder import checkpoint, journal
from harness.runfolder.history import ARCHIVED
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from tests.recognizer.conftest import copy_run


def test_the_order_of_choice(
    tmp_path: Path, run_folder: Path, trained: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_run(run_folder, tmp_path, "a", val_error=0.02)
    copy_run(run_folder, tmp_path, "b", val_error=0.01)
    copy_run(run_folder, tmp_path, "other", val_error=0.001, dataset="fashion_mnist")
    champions: dict[str | None, Recognizer] = {"mnist": trained, None: trained}
    monkeypatch.setattr(champion, "registered", lambda target, name=None: champions.get(name))
    assert loading.choose(tmp_path, "a").run_id == "a"
    assert loading.choose(tmp_path) is trained
    del champions["mnist"]
    assert loading.choose(tmp_path).run_id == "b"  # a network of other data reads no digits
    assert loading.choose(tmp_path, uri="sqlite:///x") is trained
    for run in ("a", "b"):  # damaged: the next choice is the other champion
        (tmp_path / "runs" / run / "weights/best.safetensors").write_bytes(b"")
    assert loading.choose(tmp_path) is trained
    for run in ("a", "b"):
        shutil.rmtree(tmp_path / "runs" / run)
    assert loading.choose(tmp_path) is trained
    champions.clear()
    assert loading.choose(tmp_path).run_id == "other"


def test_a_registered_name_is_accepted_instead_of_a_run(
    tmp_path: Path, run_folder: Path, trained: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_run(run_folder, tmp_path, "a")
    champions: dict[str | None, Recognizer] = {"shapes": trained, "a": trained}
    monkeypatch.setattr(champion, "registered", lambda target, name=None: champions.get(name))
    assert loading.choose(tmp_path, "shapes") is trained
    assert loading.choose(tmp_path, "a").run_id == "a", "a run comes first"
    with pytest.raises(ValueError, match="'trees' is no run, sweep, name or experiment"):
        loading.choose(tmp_path, "trees")


def test_with_a_champion_no_run_is_loaded(
    tmp_path: Path, run_folder: Path, trained: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged one, beside it, is not looked at."""
    copy_run(run_folder, tmp_path, "a").weights.write_bytes(b"")
    found: dict[str | None, Recognizer] = {None: trained}
    monkeypatch.setattr(champion, "registered", lambda target, name=None: found.get(name))
    assert loading.choose(tmp_path, uri="sqlite:///x") is trained
    assert loading.choose(tmp_path) is trained


def test_the_network_of_the_best_run_is_loaded_once(
    tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    load = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda path: loaded.append(path) or load(path))
    run = copy_run(run_folder, tmp_path, "a")
    (run.folder / loading.CALIBRATION).unlink()
    assert loading.choose(tmp_path).temperature != 1
    assert loaded == [run.weights]


def test_the_best_run(tmp_path: Path, run_folder: Path) -> None:
    copy_run(run_folder, tmp_path, "a", val_error=0.001, finished=False)
    with pytest.raises(ValueError, match="no trained network"):
        loading.choose(tmp_path)
    copy_run(run_folder, tmp_path, "b", val_error=0.01, dataset="fashion_mnist")
    assert loading.choose(tmp_path).run_id == "b"
    copy_run(run_folder, tmp_path, "c", val_error=0.3)
    copy_run(run_folder, tmp_path, "d", val_error=0.2)
    assert loading.choose(tmp_path).run_id == "d"
    copy_run(run_folder, tmp_path, "e", val_error=0.1).weights.unlink()
    assert loading.choose(tmp_path).run_id == "d"
    Run(tmp_path / "runs" / "d").add_tags({ARCHIVED: "true"})
    assert loading.choose(tmp_path).run_id == "c"
    assert loading.choose(tmp_path, "d").run_id == "d", "an id means an archived run as well"


def test_values_of_different_objectives_are_not_compared(tmp_path: Path, run_folder: Path) -> None:
    """A loss of 0.1 is not worse than an error of 0.05; the runs by validation error come first."""
    copy_run(run_folder, tmp_path, "a", val_error=0.1, objective="val/loss")
    copy_run(run_folder, tmp_path, "b", val_error=0.2, objective="val/loss")
    assert loading.choose(tmp_path).run_id == "a"
    copy_run(run_folder, tmp_path, "c", val_error=0.6)
    copy_run(run_folder, tmp_path, "d", val_error=0.5)
    assert loading.choose(tmp_path).run_id == "d"
    high = [
        copy_run(
            run_folder, tmp_path / "high", run_id, val_error=value, objective="val/accuracy:max"
        )
        for run_id, value in (("e", 0.5), ("f", 0.75))
    ]
    assert loading.choose(tmp_path / "high").run_id == high[1].id


def test_without_a_network_the_message_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`python -m harness.run experiment=quick` first"):
        loading.choose(tmp_path)


def test_a_run_without_weights_can_be_resumed(tmp_path: Path, run_folder: Path) -> None:
    run = copy_run(run_folder, tmp_path, "a", finished=False)
    run.weights.unlink()
    with pytest.raises(ValueError, match=r"no weights yet: .* after 4 epochs; .*resume=a"):
        loading.load_run(run)
    with run.writing() as journal:
        journal.append("end", status=RunStatus.FAILED, error="train/loss is nan")
    with pytest.raises(ValueError, match=r"it is FAILED after 4 epochs: train/loss is nan$"):
        loading.load_run(run)


def test_damaged_weights_are_rejected(tmp_path: Path, run_folder: Path) -> None:
    weights = copy_run(run_folder, tmp_path, "a").weights
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="does not match its SHA-256"):
        loading.choose(tmp_path)


def test_the_calibration_is_saved_beside_the_weights(run_folder: Path, trained: Recognizer) -> None:
    saved = json.loads((run_folder / loading.CALIBRATION).read_text())
    assert trained.temperature == saved["temperature"]
    assert 0.3 < saved["temperature"] < 3
    assert saved["images"] == 5000
    assert saved["error"] < 0.02


def test_few_validation_examples_calibrate_nothing(tmp_path: Path, run_folder: Path) -> None:
    """An earlier version saved a temperature of any number of them."""
    run = copy_run(run_folder, tmp_path, "a")
    path = run.folder / loading.CALIBRATION
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"temperature": 0.128, "images": 16}))
    trained = loading.load_run(run)
    assert trained.temperature == 1
    assert loading.remarks(trained) == ["not calibrated: 16 validation examples, fewer than 200"]
    path.write_text(json.dumps(saved | {"images": "many"}))
    with pytest.raises(ValueError, match="expected the calibration"):
        loading.load_run(run)


def test_a_saved_calibration_is_used(tmp_path: Path, run_folder: Path, trained: Recognizer) -> None:
    run = copy_run(run_folder, tmp_path, "a")
    path = run.folder / loading.CALIBRATION
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"temperature": 1.25}))
    assert loading.load_run(run).temperature == 1.25
    path.unlink()
    assert loading.load_run(Run(run.folder)).temperature == trained.temperature
    assert json.loads(path.read_text()) == saved


def test_weights_that_make_no_network_do_not_stop_the_others(
    tmp_path: Path, run_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The journal is one of version 0.1, which has no digests."""
    copy_run(run_folder, tmp_path, "good", val_error=0.02)
    bad = copy_run(run_folder, tmp_path, "bad", val_error=0.01)
    records = journal.read(bad.journal)[0]
    for record in records:
        if record["kind"] == "artifact":
            del record["bytes"], record["sha256"]
    bad.journal.write_bytes(b"".join(map(journal.encode, records)))
    arrays, description = checkpoint.load(bad.weights)
    ones = {name: np.ones((1,) * array.ndim, np.float32) for name, array in arrays.items()}
    checkpoint.save(bad.weights, ones, description)
    assert loading.choose(tmp_path).run_id == "good"
    (line,) = caplog.messages
    assert "layer1.weights: expected (784, 128) of float32, found (1, 1)" in line


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "00" * 32},
        {"temperature": "warm"},
        {"temperature": float("nan")},
        {"temperature": 0},
        {"temperature": 1e6},
        {"temperature": True},
        {"more": 1},
        [],
        None,
        "text",
    ],
)
def test_another_calibration_is_one_line(
    tmp_path: Path, run_folder: Path, change: dict[str, object] | list[object] | None
) -> None:
    run = copy_run(run_folder, tmp_path, "a")
    path = run.folder / loading.CALIBRATION
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | change if isinstance(change, dict) else change))
    with pytest.raises(ValueError, match="remove the file, and it is fitted again") as caught:
        loading.load_run(run)
    assert "\n" not in str(caught.value)
    path.unlink()
    assert loading.load_run(run).run_id == "a"


def test_a_calibration_of_version_0_1_is_used(tmp_path: Path, run_folder: Path) -> None:
    run = copy_run(run_folder, tmp_path, "a")
    path = run.folder / loading.CALIBRATION
    saved = json.loads(path.read_text())
    del saved["weights"]
    path.write_text(json.dumps(saved | {"temperature": 1.25}))
    assert loading.load_run(run).temperature == 1.25


def test_what_cannot_be_saved_is_used(
    tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, text: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    run = copy_run(run_folder, tmp_path, "a")
    (run.folder / loading.CALIBRATION).unlink()
    monkeypatch.setattr(loading, "write_text", refuse)
    assert loading.load_run(run).temperature != 1


def test_a_broken_run_does_not_stop_the_others(
    tmp_path: Path, run_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = {name: copy_run(run_folder, tmp_path, name, val_error=0.01) for name in "abcde"}
    good = copy_run(run_folder, tmp_path, "good", val_error=0.02)
    runs["a"].journal.unlink()
    runs["b"].journal.write_bytes(b"rotten\n")
    (runs["c"].folder / "config.yaml").unlink()
    (runs["d"].folder / "config.yaml").write_text("lr: 7\n")
    runs["e"].weights.write_bytes(b"")
    assert loading.choose(tmp_path).run_id == "good"
    for name, file in (("c", "config.yaml"), ("d", "config.yaml"), ("e", "best.safetensors")):
        assert any(f"/{name}/" in line and file in line for line in caplog.messages)
    library = Library(tmp_path, loading.load_run(good))
    assert {each["id"] for each in library.list_networks()} == {"c", "d", "e", "good"}
    for name in "abcde":
        with pytest.raises(ValueError, match=rf"runs/{name}/") as caught:
            library.load(name)
        assert "\n" not in str(caught.value)
    shutil.rmtree(good.folder)
    with pytest.raises(ValueError, match=r"runs/[cde]/"):
        loading.choose(tmp_path)
