"""Which network answers, and that only undamaged weights are loaded."""

import json
import shutil
from pathlib import Path

import pytest

from harness.recognizer import loading, registry
from harness.recognizer.library import Library
from harness.recognizer.recognizer import Recognizer
from harness.runfolder.run import Run
from tests.recognizer.conftest import copy_run


def test_the_order_of_choice(
    tmp_path: Path, run_folder: Path, trained: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_run(run_folder, tmp_path, "a", val_error=0.02)
    copy_run(run_folder, tmp_path, "b", val_error=0.01)
    champions = {"registered": trained}
    monkeypatch.setattr(registry, "registered", lambda target: champions.get("registered"))
    assert loading.choose(tmp_path, "a").run_id == "a"
    assert loading.choose(tmp_path) is trained
    champions.clear()
    assert loading.choose(tmp_path).run_id == "b"


def test_the_best_run(tmp_path: Path, run_folder: Path) -> None:
    assert loading.best_run(tmp_path) is None
    copy_run(run_folder, tmp_path, "a", val_error=0.001, finished=False)
    assert loading.best_run(tmp_path) is None
    copy_run(run_folder, tmp_path, "b", val_error=0.01, dataset="fashion_mnist")
    assert loading.best_run(tmp_path).id == "b"
    copy_run(run_folder, tmp_path, "c", val_error=0.3)
    copy_run(run_folder, tmp_path, "d", val_error=0.2)
    assert loading.best_run(tmp_path).id == "d"
    copy_run(run_folder, tmp_path, "e", val_error=0.1).weights.unlink()
    assert loading.best_run(tmp_path).id == "d"


def test_without_a_network_the_message_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`python -m harness.run experiment=quick` first"):
        loading.choose(tmp_path)


def test_a_run_without_weights_can_be_resumed(tmp_path: Path, run_folder: Path) -> None:
    run = copy_run(run_folder, tmp_path, "a", finished=False)
    run.weights.unlink()
    with pytest.raises(ValueError, match=r"no weights yet: .* after 4 epochs; .*resume=a"):
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


def test_a_saved_calibration_is_used(tmp_path: Path, run_folder: Path, trained: Recognizer) -> None:
    run = copy_run(run_folder, tmp_path, "a")
    path = run.folder / loading.CALIBRATION
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"temperature": 1.25}))
    assert loading.load_run(run).temperature == 1.25
    path.unlink()
    assert loading.load_run(Run(run.folder)).temperature == trained.temperature
    assert json.loads(path.read_text()) == saved


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
    assert loading.best_run(tmp_path) == good
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
