"""The run as a training function sees it: durable, resumable, no record twice, bad values named.

Covers: harness/job/scratch.py, harness/job/predictions.py, harness/job/reported_metrics.py
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.dataset import Dataset, Part
from harness.job import interruption, scratch
from harness.job.interruption import Stopped
from harness.job.training_run import TrainingRun
from harness.runfolder import folder
from harness.runfolder import journal as journals
from harness.runfolder.folder import Identity
from harness.runfolder.journal import Journal
from harness.runfolder.run import PREDICTIONS, STOP, Run
from harness.training.monitor import Diverged
from tests.conftest import command_in, new_run, run_folders, small

PART = Part(np.zeros((1, 1), np.uint8), np.zeros(1, np.uint8))
TEST = Part(np.zeros((2, 1), np.uint8), np.array([0, 1], np.uint8))
DATA = Dataset("none", "", (1, 1), 2, PART, PART, TEST)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return new_run(tmp_path, "epochs=3", "patience=2")


def open_run(run: Run, journal: Journal, calls: list[str] | None = None) -> TrainingRun:
    """A training whose function reads `restored`."""
    shown = [] if calls is None else calls
    training = TrainingRun(
        run, journal, lambda epoch, values: shown.append(f"show {epoch}"), dataset=DATA, threads=1
    )
    _ = training.restored
    return training


def logged(run: Run, journal: Journal, data: Dataset = DATA) -> TrainingRun:
    """A training with one epoch."""
    training = TrainingRun(run, journal, lambda *_: None, dataset=data, threads=1)
    training.log(1, {"val/error": 0.5})
    return training


def recorded(run: Run) -> list[tuple[str, int]]:
    records = journals.read(run.journal)[0]
    return [(r["kind"], r["epoch"]) for r in records if r["kind"] in ("epoch", "final")]


def save(folder: Path) -> None:
    (folder / "state").write_text("x")


def test_an_epoch_is_durable_before_it_is_shown(run: Run) -> None:
    calls: list[str] = []

    def write(folder: Path) -> None:
        calls.append("checkpoint")
        save(folder)

    with run.writing() as journal:
        append = journal.append

        def noted(kind: str, **content: Any) -> Any:
            calls.append(f"record {kind}")
            return append(kind, **content)

        journal.append = noted  # type: ignore[method-assign]
        training = open_run(run, journal, calls)
        training.log(1, {"val/error": 0.5}, write)
    assert calls == ["checkpoint", "record epoch", "show 1"]
    (record,) = run.history().epochs
    assert record["metrics"]["val/error"] == 0.5
    assert record["metrics"]["time/epoch_s"] >= 0


def test_a_request_to_stop_is_obeyed_between_epochs(run: Run) -> None:
    """After the last epoch nothing is left to stop, and no request stays."""
    with run.writing() as journal:
        training = open_run(run, journal)
        training.log(1, {"val/error": 0.5}, save)
        run.request_stop()
        with pytest.raises(Stopped):
            training.log(2, {"val/error": 0.4}, save)
        run.request_stop()
        training.log(3, {"val/error": 0.3}, save)
    assert recorded(run) == [("epoch", 1), ("epoch", 2), ("epoch", 3)]
    assert not (run.folder / STOP).exists()


@pytest.mark.service
def test_a_request_after_the_last_epoch_stops_nothing_and_is_gone(
    tmp_path: Path, idx_folder: Path
) -> None:
    """The metric asks, also when it is computed of the test set, after the last record."""
    (tmp_path / "asking.py").write_text(
        "from pathlib import Path\n\n\n"
        "def ask(probabilities, labels):\n"
        "    for folder in Path('outputs/runs').glob('[!.]*'):\n"
        "        (folder / 'stop').touch()\n"
        "    return 0.5\n"
    )
    own = small(idx_folder, "epochs=1", "tracking=none", "metrics=[asking:ask]")
    done = command_in(tmp_path)("harness.run", *own)
    assert done.returncode == 0, done.stderr
    (folder,) = run_folders(tmp_path / "outputs")
    assert not (folder / STOP).exists()


def test_the_epochs_that_are_left(run: Run) -> None:
    with run.writing() as journal:
        training = open_run(run, journal)
        assert training.restored is None
        for epoch in training.epochs():
            training.log(epoch, {"val/error": 0.5 / epoch}, save)
            if epoch == 2:
                break  # as when the process is killed
    with run.writing() as journal:
        again = open_run(run, journal)
        assert again.restored == run.folder / "checkpoints/epoch-000002"
        for epoch in again.epochs():
            again.log(epoch, {"val/error": 0.5 / epoch}, save)
        again.final({"test/error": 0.25})
        assert run.history().final == {}, "until the training function has returned"
        again.finish()
    assert recorded(run) == [("epoch", 1), ("epoch", 2), ("epoch", 3), ("final", 3)]
    final = run.history().final
    assert final == {"test/error": 0.25, "best/epoch": 3.0, "best/val_error": 0.5 / 3}


def test_without_checkpoints_the_training_begins_again_and_no_epoch_is_recorded_twice(
    run: Run,
) -> None:
    for last in (2, 3):
        with run.writing() as journal:
            training = open_run(run, journal)
            for epoch in training.epochs():
                training.log(epoch, {"val/error": 0.5 / epoch})
                if epoch == last:
                    break
    assert recorded(run) == [("epoch", 1), ("epoch", 2), ("epoch", 3)]


@pytest.mark.parametrize("last", [2, 3])
def test_a_resumed_training_that_reads_no_checkpoint_is_refused(run: Run, last: int) -> None:
    """Else its epochs would be those of two trainings."""
    with run.writing() as journal:
        training = open_run(run, journal)
        for epoch in range(1, last + 1):
            training.log(epoch, {"val/error": 0.5}, save)
    for call in ("log", "final"):
        with run.writing() as journal:
            again = TrainingRun(run, journal, lambda *_: None, dataset=DATA, threads=1)
            expected = (
                rf"run\.{call}.*: the run is resumed after epoch-00000{last}, but .* read run"
            )
            with pytest.raises(ValueError, match=expected):
                getattr(again, call)(*((last + 1, {}) if call == "log" else ({},)))
    for name in ("restored", "best"):
        with run.writing() as journal:
            again = TrainingRun(run, journal, lambda *_: None, dataset=DATA, threads=1)
            assert getattr(again, name) == run.folder / f"checkpoints/epoch-00000{last}"
            again.final({"test/error": 0.5})


def test_a_checkpoint_whose_record_is_missing_brings_it(run: Run) -> None:
    """As after a kill between the two."""
    with run.writing() as journal:
        open_run(run, journal).log(1, {"val/error": 0.5}, save)
    run.journal.write_bytes(run.journal.read_bytes().split(b"\n", 1)[0] + b"\n")
    assert recorded(run) == []
    with run.writing() as journal:
        again = open_run(run, journal)
        assert again._monitor.best_epoch == 1
    assert recorded(run) == [("epoch", 1)]


def test_patience_ends_the_epochs(run: Run) -> None:
    errors = [0.1, 0.2, 0.3, 0.4]
    with run.writing() as journal:
        training = open_run(run, journal)
        for epoch in training.epochs(4):
            training.log(epoch, {"val/error": errors[epoch - 1]})
    assert recorded(run) == [("epoch", 1), ("epoch", 2), ("epoch", 3)]
    assert training._monitor.best_epoch == 1


@pytest.mark.parametrize(("schema", "best", "final"), [(3, 2, 3), (2, 1, 1)])
def test_of_equal_epochs_the_latest_has_the_best_checkpoint(
    run: Run, schema: int, best: int, final: int
) -> None:
    """In a run of an earlier version the earliest, also when it continues here."""
    older = folder.create(run.outputs, run.config, Identity("older", {}, {}), schema)
    for last in (2, 3):
        with older.writing() as journal:
            training = open_run(older, journal)
            for epoch in training.epochs():
                training.log(epoch, {"val/error": 0.5}, save)
                if epoch == last:
                    break
            found = best if last == 2 else final
            assert training.best == older.folder / f"checkpoints/epoch-{found:06d}"
            if last == 3:
                assert list(training.epochs()) == [], "patience counts from the earliest"
                training.final({"test/error": 0.25})
                training.finish()
    assert older.history().final["best/epoch"] == final


def test_with_the_last_weights_the_newest_checkpoint_is_the_best(tmp_path: Path) -> None:
    """Also when it continues; early stopping goes by the best epoch."""
    run = new_run(tmp_path, "epochs=9", "patience=2", "weights=last", "checkpoint.keep=1")
    errors = (0.3, 0.1, 0.4, 0.2)
    for last in (3, 9):
        with run.writing() as journal:
            training = open_run(run, journal)
            for epoch in training.epochs():
                training.log(epoch, {"val/error": errors[epoch - 1]}, save)
                if epoch == last:
                    break
            newest = min(last, 4)
            assert training.best == run.folder / f"checkpoints/epoch-{newest:06d}"
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == ["epoch-000004"]
    with run.writing() as journal:
        training = open_run(run, journal)
        training.final({"test/error": 0.25})
        training.finish()
    expected = {"test/error": 0.25, "best/epoch": 4.0, "best/val_error": 0.2}
    assert run.history().final == expected


def test_final_metrics_are_recorded_once(run: Run) -> None:
    for _ in range(2):
        with run.writing() as journal:  # as when it is killed before the end record
            training = open_run(run, journal)
            training.log(1, {"val/error": 0.5})
            training.final({"test/error": 0.5})
            training.finish()
    assert [kind for kind, _ in recorded(run)] == ["epoch", "final"]


def test_final_is_called_once_after_the_last_epoch(run: Run) -> None:
    once = "expected run.final once, after the last run.log"
    with run.writing() as journal:
        training = open_run(run, journal)
        with pytest.raises(ValueError, match=rf"run\.final: called before run\.log; {once}"):
            training.final({"test/error": 0.5})
        training.log(1, {"val/error": 0.5}, save)
        training.final({"test/error": 0.5})
        with pytest.raises(ValueError, match=rf"run\.log\(2, \.\.\.\): called after .*{once}"):
            training.log(2, {"val/error": 0.5})
        with pytest.raises(ValueError, match=rf"run\.final: called twice; {once}"):
            training.final({"test/error": 0.25})
        training.finish()
    with run.writing() as journal:  # resumed from the checkpoint of epoch 1
        again = open_run(run, journal)
        assert not again.has_final
        with pytest.raises(ValueError, match=rf"run\.log\(2, \.\.\.\): called after .*{once}"):
            again.log(2, {"val/error": 0.5})
    assert recorded(run) == [("epoch", 1), ("final", 1)]
    assert run.history().final["test/error"] == 0.5


def test_a_final_that_was_refused_does_not_count(run: Run) -> None:
    with run.writing() as journal:
        training = logged(run, journal)
        training.predictions([0, 1], [[0.25, 0.75]] * 2)
        with pytest.raises(ValueError, match="wrong for 1 of 2"):
            training.final({"test/error": 0})
        assert not training.has_final
        training.final({"test/error": 0.5})
        training.finish()
    assert run.history().final["test/error"] == 0.5


@pytest.mark.parametrize(
    "key", ["val/error", "train/error", "best/val_error", "best/epoch", "time/epoch_s", "error"]
)
def test_final_has_metrics_of_the_test_set_only(run: Run, key: str) -> None:
    with run.writing() as journal:
        training = logged(run, journal)
        expected = f"metric '{key}': run.final expects metrics of the test set, such as test/error"
        with pytest.raises(ValueError, match=expected):
            training.final({"test/error": 0.5, key: 0.0})
    assert recorded(run) == [("epoch", 1)]


@pytest.mark.parametrize("key", ["test/error", "best/val_error", "best/epoch", "lr", "mine/lr"])
def test_an_epoch_has_metrics_of_its_parts_only(run: Run, key: str) -> None:
    with run.writing() as journal:
        training = open_run(run, journal)
        expected = f"metric '{key}': run.log expects .*: train/NAME or val/NAME or time/NAME"
        with pytest.raises(ValueError, match=expected):
            training.log(1, {"val/error": 0.5, key: 0.1})
        training.log(1, {"val/error": 0.5, "train/lr": 0.1, "time/fit_s": 0})
    assert recorded(run) == [("epoch", 1)]


@pytest.mark.parametrize("key", ["time/epoch_s", "time/mine"])
def test_a_negative_time_is_named(run: Run, key: str) -> None:
    with run.writing() as journal:
        training = open_run(run, journal)
        with pytest.raises(ValueError, match=rf"metric {key}: expected .* at least 0, found -5"):
            training.log(1, {"val/error": 0.5, key: -5})
    assert recorded(run) == []


@pytest.mark.parametrize(
    ("epoch", "values", "message"),
    [
        (2, {"a": 1.0}, r"run\.log\(2, \.\.\.\): expected epoch 1"),
        (1, {}, "metrics: expected numbers by key"),
        (1, [0.1], "metrics: expected numbers by key"),
        (1, {"val/a": 0.1}, "objective=val/error: not recorded in epoch 1, only val/a"),
        (1, {"a": "0.1"}, "metric 'a': expected a number, found '0.1'"),
        (1, {"a": True}, "metric 'a': expected a number, found True"),
        (1, {"a": None}, "metric 'a': expected a number, found None"),
        (1, {"a": np.zeros(3)}, "metric 'a': expected a number"),
        (1, {3: 0.1}, r"run\.log: expected a text such as val/error as the key, found 3"),
        (1, {"a": 10**400}, "metric 'a': expected a number, found 1000"),
        (1, {"a": 10**5000}, "metric 'a': expected a number, found .its text cannot be shown"),
        (1, {"a": b"1"}, "metric 'a': expected a number, found b'1'"),
    ],
)
def test_bad_values_are_named(run: Run, epoch: int, values: Any, message: str) -> None:
    with run.writing() as journal, pytest.raises(ValueError, match=message):
        open_run(run, journal).log(epoch, values)
    assert recorded(run) == []


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([0, 1, 1], r"\(2,\), as .* found shape \(3,\)"),
        ([1, 0], "found 1 instead of 0 for example 0"),
        ([[0.0], [1.0]], r"found shape \(2, 1\)"),
        (["a", "b"], r"found shape \(2,\) of <U1"),
    ],
)
def test_labels_that_are_not_those_of_the_test_set_are_named(
    run: Run, labels: Any, found: str
) -> None:
    with run.writing() as journal, pytest.raises(ValueError, match=found):
        open_run(run, journal).predictions(labels, [[0.25, 0.75]] * len(labels))
    assert not (run.folder / PREDICTIONS).exists()


@pytest.mark.parametrize("final_first", [True, False])
@pytest.mark.parametrize("error", [0.0, 1.0])
def test_a_test_error_that_the_predictions_contradict_is_named(
    run: Run, final_first: bool, error: float
) -> None:
    with run.writing() as journal:
        training = logged(run, journal)
        steps = [
            lambda: training.final({"test/error": error}),
            lambda: training.predictions([0, 1], [[0.25, 0.75]] * 2),
        ]
        first, second = steps if final_first else reversed(steps)
        first()
        with pytest.raises(ValueError, match=rf"test/error is {error:g}, and .* 1 of 2"):
            second()


@pytest.mark.parametrize("error", [0.0, 0.5, np.float32(0.5), 1.0])
def test_ties_of_the_predictions_may_be_broken_either_way(run: Run, error: float) -> None:
    with run.writing() as journal:
        training = logged(run, journal)
        training.predictions([0, 1], [[0.5, 0.5]] * 2)
        training.final({"test/error": error})
        training.finish()
    assert run.history().final["test/error"] == error


def test_final_without_a_test_metric_is_named(run: Run) -> None:
    with run.writing() as journal:
        training = logged(run, journal)
        with pytest.raises(ValueError, match=r"metric 'error': .* such as test/error: test/NAME"):
            training.final({"error": 0.5})
    assert recorded(run) == [("epoch", 1)]


@pytest.mark.parametrize("final_first", [True, False])
@pytest.mark.parametrize(
    ("key", "right", "wrong"),
    [("test/accuracy", 0.5, 1.0), ("test/top2_error", 1 / 2, 1.0), ("test/loss", 9.0, None)],
)
def test_every_metric_that_predictions_determine_is_compared(
    run: Run, key: str, right: float, wrong: float | None, final_first: bool
) -> None:
    data = replace(DATA, classes=3, class_names=())
    rows = [[0.5, 0.3, 0.2], [0.3, 0.2, 0.5]]  # the second: ranked last, and in no class
    for value in (right, wrong):
        if value is None:
            continue
        with run.writing() as journal:
            training = logged(run, journal, data)
            steps = [
                lambda: training.final({key: value}),  # noqa: B023
                lambda: training.predictions([0, 1], rows),  # noqa: B023
            ]
            first, second = steps if final_first else reversed(steps)
            first()
            if value == right:
                second()
                continue
            with pytest.raises(ValueError, match=rf"{key} is 1, and .* give 0\.5;"):
                second()


def test_the_absolute_error_of_a_regression_is_compared(run: Run) -> None:
    test = Part(np.zeros((2, 1), np.uint8), np.array([[1.0], [3.0]], np.float32))
    data = replace(DATA, classes=0, class_names=(), test=test)
    with run.writing() as journal:
        training = logged(run, journal, data)
        training.predictions([[1.0], [3.0]], [[1.5], [3.0]])
        with pytest.raises(ValueError, match=r"test/mean_absolute_error is 0.5, and .* give 0\.25"):
            training.final({"test/mean_absolute_error": 0.5})
        training.final({"test/mean_absolute_error": 0.25, "test/error": 0.5})


@pytest.mark.parametrize(
    ("key", "value"),
    [("val/error", 50.0), ("train/accuracy", -0.1), ("val/top2_error", 2.0), ("train/a_error", -1)],
)
def test_an_error_in_percent_is_named(run: Run, key: str, value: float) -> None:
    with run.writing() as journal:
        training = open_run(run, journal)
        with pytest.raises(ValueError, match=rf"{key}: expected the fraction .* found {value:g};"):
            training.log(1, {"val/error": 0.5, key: value})
        training.log(1, {"val/error": 0.5, "val/log_error": 3, "val/mine_accuracy": 1 + 1e-15})
        with pytest.raises(ValueError, match="found 50; divide percent by 100"):
            training.final({"test/error": 50})
    assert recorded(run) == [("epoch", 1)]


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32(-math.inf)])
def test_a_metric_that_is_not_finite_ends_the_training(run: Run, value: float) -> None:
    with run.writing() as journal:
        training = open_run(run, journal)
        with pytest.raises(Diverged, match=r"val/loss is -?(nan|inf) in epoch 1"):
            training.log(1, {"val/error": 0.5, "val/loss": value}, save)
    assert recorded(run) == [("epoch", 1)]
    assert not (run.folder / "checkpoints").exists()


def test_an_epoch_that_is_not_logged_is_named(run: Run) -> None:
    with run.writing() as journal, pytest.raises(ValueError, match="epoch 1 was not logged"):
        list(open_run(run, journal).epochs())


def test_predictions_and_artifacts(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "tree.txt"
    source.write_text("leaf")
    with run.writing() as journal:
        training = open_run(run, journal)
        training.predictions([0, 1], [[0.25, 0.75], [0.5, 0.5]])
        training.artifact("model/tree.txt", source)
        training.artifact("weights/mine.txt", lambda path: path.write_text("w"))
        with pytest.raises(ValueError, match="wrote no such file"):
            training.artifact("nothing.txt", lambda path: None)
        ours = (
            "config.yaml", "journal.jsonl", "code/x.py", "job.log",
            "delivered.json", "plots/x.png", "predictions/test.npz", "report", "calibration.json",
        )  # fmt: skip
        for name in (*ours, "../x", "/x", "checkpoints/x", ".x", ""):
            with pytest.raises(ValueError, match="artifact"):
                training.artifact(name, source)
        for labels, probabilities in (([0], [[1.0, 0.0]] * 2), ([0], [1.0]), ([], [])):
            with pytest.raises(ValueError, match="expected \\(N,\\) labels"):
                training.predictions(labels, probabilities)
        with pytest.raises(ValueError, match="finite"):
            training.predictions([0], [[math.nan, 1.0]])
    assert training.files == [PREDICTIONS, "model/tree.txt", "weights/mine.txt"]
    with np.load(run.folder / PREDICTIONS) as saved:
        np.testing.assert_array_equal(saved["labels"], [0, 1])
        assert saved["probabilities"].dtype == np.float32
        np.testing.assert_array_equal(saved["classes"], ["0", "1"])  # without pickle
    assert (run.folder / "model/tree.txt").read_text() == "leaf"
    assert (run.folder / "weights/mine.txt").read_text() == "w"


def test_the_predictions_have_the_names_of_the_classes(run: Run) -> None:
    targets = Part(PART.inputs, np.array([[0.5, 0.5]], np.float32))
    for data, answers, names in (
        (replace(DATA, class_names=("Größe", "b")), [[0.25, 0.75]] * 2, ["Größe", "b"]),
        (
            replace(DATA, classes=3, class_names=()),
            [[0.25, 0.75]] * 2,
            None,
        ),  # of other answers than classes
        (replace(DATA, classes=0, class_names=(), test=targets), [[0.25, 0.75]], None),
    ):
        with run.writing() as journal:
            show = lambda epoch, values: None  # noqa: E731
            training = TrainingRun(run, journal, show, dataset=data, threads=1)
            training.predictions([[0.5, 0.5]] if data.classes == 0 else [0, 1], answers)
        with np.load(run.folder / PREDICTIONS) as saved:
            found = saved["classes"].tolist() if "classes" in saved else None
        assert found == names


def test_after_the_last_epoch_of_the_built_in_trainer_signals_are_ignored(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trainer:
        is_over = False

        def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
            return {"parameters": np.zeros(3, np.float32)}, {"finished": 1}

    ignored = []
    monkeypatch.setattr(interruption, "ignore_signals", lambda: ignored.append(1))
    trainer: Any = Trainer()
    with run.writing() as journal:
        recorder = scratch._Recorder(open_run(run, journal), 3)
        recorder.epoch(1, {"val/error": 0.5}, trainer)
        assert ignored == []
        trainer.is_over = True
        recorder.epoch(2, {"val/error": 0.5}, trainer)
        assert ignored == [1]
