"""Only undamaged weights are loaded, with their calibration."""

import errno
import json
from pathlib import Path

import pytest

from harness.recognizer import loading
from harness.recognizer.choice import choose
from harness.recognizer.recognizer import Recognizer
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from tests.recognizer.conftest import copy_run


def test_a_run_without_weights_can_be_resumed(tmp_path: Path, run_folder: Path) -> None:
    run = copy_run(run_folder, tmp_path, "a", finished=False)
    run.weights.unlink()
    with pytest.raises(ValueError, match=r"no weights yet: .* 4 epochs; .*resume=a 'outputs=./"):
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
        choose(tmp_path)


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
    assert trained.remarks == ["not calibrated: 16 validation examples, fewer than 200"]
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
