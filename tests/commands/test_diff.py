"""What differs between two runs.

Covers: analysis/diff.py
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.analysis import diff
from harness.analysis.diff import Curves
from harness.commands.diff import sparkline
from harness.runfolder.run import PREDICTIONS, Run
from tests.conftest import Command, new_run, record_training

CHANGE = """\
diff --git a/harness/nn/layers.py b/harness/nn/layers.py
index 1..2 100644
--- a/harness/nn/layers.py
+++ b/harness/nn/layers.py
@@ -1,2 +1,2 @@
-old
+new
+more
"""


def finished(outputs: Path, *overrides: str, errors: tuple[float, ...] = (0.5, 0.25)) -> Run:
    """A run with predictions for eight examples, and a description of its environment."""
    run = record_training(new_run(outputs, *overrides, "tracking=none"), *errors)
    labels = np.arange(8, dtype=np.uint8) % 2
    probabilities = np.full((8, 2), 0.1, np.float32)
    probabilities[np.arange(8), labels] = 0.9
    wrong = [0, 1] if errors[-1] == 0.25 else [1, 2, 3]
    probabilities[wrong] = probabilities[wrong, ::-1]
    (run.folder / "predictions").mkdir()
    np.savez(run.folder / PREDICTIONS, labels=labels, probabilities=probabilities)
    (run.folder / "environment.txt").write_text("host: a\nnumpy: 2.4.6\ncommit: x\n")
    return run


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def test_runs_that_are_equal_say_so(outputs: Path) -> None:
    first, second = finished(outputs), finished(outputs)
    found = diff.compare(first, second)
    assert (found.settings, found.source, found.data, found.environment) == ({}, {}, {}, {})
    assert found.results == {}
    assert [(curves.metric, curves.equal) for curves in found.curves] == [("val/error", 2)]
    assert found.sides is not None
    assert (len(found.sides.only_first), len(found.sides.only_second)) == (0, 0)
    assert found.notes == []


def test_nothing_is_written_while_runs_are_compared(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = finished(outputs), finished(outputs)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    before = sorted(tmp_path.rglob("*"))
    assert diff.compare(first, second).sides is not None
    assert sorted(tmp_path.rglob("*")) == before


def test_every_kind_of_difference(outputs: Path) -> None:
    first = finished(outputs, "batch=16", errors=(0.5, 0.25))
    second = finished(outputs, "optimizer=adam", errors=(0.5, 0.375))
    (second.folder / "environment.txt").write_text("host: b\nnumpy: 2.4.7\ncommit: y\n")
    (second.folder / "uncommitted.diff").write_text(CHANGE)
    (second.folder / "code/mine").mkdir(parents=True)
    (second.folder / "code/mine/parts.py").write_text("x = 1\n")
    found = diff.compare(first, second)
    assert found.settings["batch"] == (16, 32)
    assert found.settings["optimizer.name"] == ("sgd", "adam")
    assert found.settings["optimizer.beta1"] == ("-", 0.9)
    assert "seed" not in found.settings
    assert found.source["uncommitted harness/nn/layers.py"] == ("-", "+2 -1 lines")
    assert found.source["own mine/parts.py"][0] == "-"
    assert found.environment == {"host": ("a", "b"), "numpy": ("2.4.6", "2.4.7")}
    assert found.results["best/val_error"] == (0.25, 0.375)
    (curves,) = found.curves
    assert curves.equal == 1
    assert found.sides is not None
    assert found.sides.only_first.tolist() == [0]
    assert found.sides.only_second.tolist() == [2, 3]
    assert found.sides.p == 1.0


def test_what_is_missing_is_a_note(outputs: Path) -> None:
    first, second = finished(outputs), finished(outputs)
    (first.folder / "environment.txt").unlink()
    (second.folder / PREDICTIONS).unlink()
    found = diff.compare(first, second)
    assert (found.environment, found.sides) == ({}, None)
    assert found.notes[0] == f"{first.id} has no environment.txt"
    assert f"{second.id}: the artifact {PREDICTIONS} is missing" in found.notes[1]


def test_runs_that_diverged_alike_are_equal() -> None:
    values = np.array([2.5, np.nan])
    assert Curves("train/loss", values, values.copy()).equal == 2
    assert Curves("train/loss", values, np.array([2.5, 2.0])).equal == 1


def test_a_curve_in_characters() -> None:
    assert sparkline(np.array([0.0, 0.5, 1.0]), 0, 1) == "▁▅█"
    assert sparkline(np.array([2.0, np.nan]), 2, 2) == "▁?"
    assert len(sparkline(np.arange(1000.0), 0, 999)) == 40


def test_the_command(command: Command, outputs: Path) -> None:
    first = finished(outputs, "batch=16")
    second = finished(outputs, "batch=64", errors=(0.5, 0.375))
    done = command("harness", "diff", first.id, second.id)
    assert done.returncode == 0
    for text in (
        "batch   16",
        "equal: source, data, environment",
        "val/error: equal until epoch 1",
        f"only {first.id} misclassifies 1, and only {second.id} 2 (McNemar's p 1.000)",
    ):
        assert text in done.stdout
    content = json.loads(command("harness", "diff", first.id, second.id, "--json").stdout)
    assert (content["format"], content["version"]) == ("harness diff", 1)
    assert content["settings"] == {"batch": [16, 64]}
    assert content["results"]["best/val_error"] == [0.25, 0.375]
    assert content["examples"] == {"only_first_wrong": [0], "only_second_wrong": [2, 3], "p": 1.0}
    done = command("harness", "diff", "mnist", first.id)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "has 2 runs; name one, such as " in done.stderr


def test_values_for_programs_are_typed(command: Command, outputs: Path) -> None:
    first = finished(outputs, "batch=16", "backend=numpy")
    second = record_training(new_run(outputs, "optimizer=adam", "width=[8,4]"), status="FAILED")
    with second.writing() as journal:
        values = {"test/error": float("inf"), "x": float("nan"), "machine/cpu_s": 1.5}
        journal.append("final", epoch=1, metrics=values)
    done = command("harness", "diff", first.id, second.id, "--json")
    content = json.loads(done.stdout, parse_constant=pytest.fail)
    settings, results = content["settings"], content["results"]
    assert settings["batch"] == [16, 32]
    assert settings["optimizer.beta1"] == [None, 0.9]
    assert settings["optimizer.name"] == ["sgd", "adam"]
    assert results["best/epoch"] == [2.0, None]
    assert results["test/error"] == [0.26, "inf"]
    assert results["status"] == ["FINISHED", "FAILED"]
    assert "x" in results
    assert "machine/cpu_s" not in results, "which differs in any two trainings"
    shown = command("harness", "diff", first.id, second.id).stdout
    assert "inf" in shown


def test_a_run_with_itself(command: Command, outputs: Path) -> None:
    run = finished(outputs)
    done = command("harness", "diff", "last", run.id[:6])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"last and {run.id[:6]} are the same run, {run.id}: nothing differs\n"
    content = json.loads(command("harness", "diff", "last", "last", "--json").stdout)
    assert content["settings"] == content["results"] == {}
    assert content["notes"] == [f"both are run {run.id}"]


@pytest.mark.service
def test_images_that_changed_sides_are_drawn(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    own = ("dataset=idx", f"dataset.dir={idx_folder}", "dataset.num_val=40", "epochs=1", "width=8",
           "tracking=none")  # fmt: skip
    for seed in (1, 2):
        assert command("harness.run", *own, f"seed={seed}").returncode == 0
    done = command("harness", "diff", "last~1", "last")
    assert done.returncode == 0, done.stderr
    drawn = [
        Path(line.partition(": ")[2]) for line in done.stdout.splitlines() if "is wrong" in line
    ]
    assert drawn
    for path in drawn:
        assert path.parts[:2] == ("outputs", "diffs")
        with Image.open(tmp_path / path) as image:
            assert image.width == 1800
