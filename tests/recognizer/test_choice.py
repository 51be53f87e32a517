"""Which network answers."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.recognizer import champion, loading
from harness.recognizer.choice import choose
from harness.recognizer.library import Library
from harness.recognizer.recognizer import Recognizer
from harness.runfolder import checkpoint, journal
from harness.runfolder.history import ARCHIVED
from harness.runfolder.run import Run
from tests.recognizer.conftest import copy_run


def test_the_order_of_choice(
    tmp_path: Path, run_folder: Path, trained: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_run(run_folder, tmp_path, "a", val_error=0.02)
    copy_run(run_folder, tmp_path, "b", val_error=0.01)
    copy_run(run_folder, tmp_path, "other", val_error=0.001, dataset="fashion_mnist")
    champions: dict[str | None, Recognizer] = {"mnist": trained, None: trained}
    monkeypatch.setattr(champion, "registered", lambda target, name=None: champions.get(name))
    assert choose(tmp_path, "a").run_id == "a"
    assert choose(tmp_path) is trained
    del champions["mnist"]
    assert choose(tmp_path).run_id == "b"  # a network of other data reads no digits
    assert choose(tmp_path, uri="sqlite:///x") is trained
    for run in ("a", "b"):  # damaged: the next choice is the other champion
        (tmp_path / "runs" / run / "weights/best.safetensors").write_bytes(b"")
    assert choose(tmp_path) is trained
    for run in ("a", "b"):
        shutil.rmtree(tmp_path / "runs" / run)
    assert choose(tmp_path) is trained
    champions.clear()
    assert choose(tmp_path).run_id == "other"


def test_a_registered_name_is_accepted_instead_of_a_run(
    tmp_path: Path, run_folder: Path, trained: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_run(run_folder, tmp_path, "a")
    champions: dict[str | None, Recognizer] = {"shapes": trained, "a": trained}
    monkeypatch.setattr(champion, "registered", lambda target, name=None: champions.get(name))
    assert choose(tmp_path, "shapes") is trained
    assert choose(tmp_path, "a").run_id == "a", "a run comes first"
    with pytest.raises(ValueError, match="'trees' is no run, sweep, name or experiment"):
        choose(tmp_path, "trees")


def test_with_a_champion_no_run_is_loaded(
    tmp_path: Path, run_folder: Path, trained: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged one, beside it, is not looked at."""
    copy_run(run_folder, tmp_path, "a").weights.write_bytes(b"")
    found: dict[str | None, Recognizer] = {None: trained}
    monkeypatch.setattr(champion, "registered", lambda target, name=None: found.get(name))
    assert choose(tmp_path, uri="sqlite:///x") is trained
    assert choose(tmp_path) is trained


def test_the_network_of_the_best_run_is_loaded_once(
    tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    load = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda path: loaded.append(path) or load(path))
    run = copy_run(run_folder, tmp_path, "a")
    (run.folder / loading.CALIBRATION).unlink()
    assert choose(tmp_path).temperature != 1
    assert loaded == [run.weights]


def test_the_best_run(tmp_path: Path, run_folder: Path) -> None:
    copy_run(run_folder, tmp_path, "a", val_error=0.001, finished=False)
    with pytest.raises(ValueError, match="no trained network"):
        choose(tmp_path)
    copy_run(run_folder, tmp_path, "b", val_error=0.01, dataset="fashion_mnist")
    assert choose(tmp_path).run_id == "b"
    copy_run(run_folder, tmp_path, "c", val_error=0.3)
    copy_run(run_folder, tmp_path, "d", val_error=0.2)
    assert choose(tmp_path).run_id == "d"
    copy_run(run_folder, tmp_path, "e", val_error=0.1).weights.unlink()
    assert choose(tmp_path).run_id == "d"
    Run(tmp_path / "runs" / "d").add_tags({ARCHIVED: "true"})
    assert choose(tmp_path).run_id == "c"
    assert choose(tmp_path, "d").run_id == "d", "an id means an archived run as well"


def test_values_of_different_objectives_are_not_compared(tmp_path: Path, run_folder: Path) -> None:
    """A loss of 0.1 is not worse than an error of 0.05; the runs by validation error come first."""
    copy_run(run_folder, tmp_path, "a", val_error=0.1, objective="val/loss")
    copy_run(run_folder, tmp_path, "b", val_error=0.2, objective="val/loss")
    assert choose(tmp_path).run_id == "a"
    copy_run(run_folder, tmp_path, "c", val_error=0.6)
    copy_run(run_folder, tmp_path, "d", val_error=0.5)
    assert choose(tmp_path).run_id == "d"
    high = [
        copy_run(
            run_folder, tmp_path / "high", run_id, val_error=value, objective="val/accuracy:max"
        )
        for run_id, value in (("e", 0.5), ("f", 0.75))
    ]
    assert choose(tmp_path / "high").run_id == high[1].id


def test_without_a_network_the_message_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`python -m harness.run experiment=quick` first"):
        choose(tmp_path)


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
    assert choose(tmp_path).run_id == "good"
    (line,) = caplog.messages
    assert "layer1.weights: expected (784, 128) of float32, found (1, 1)" in line


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
    assert choose(tmp_path).run_id == "good"
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
        choose(tmp_path)
