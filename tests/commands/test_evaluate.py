"""The command `evaluate`, on a trained run and on its own data set or another.

Covers: harness/commands/scores.py
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.commands import evaluate
from harness.commands.scores import Evaluation, Regression
from harness.nn import metrics
from harness.recognizer import calibration, loading
from harness.runfolder.run import Run
from harness.training import evaluation
from tests.conftest import RUN, Command, command_in, only_folder
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
    assert scores["temperature"] != 1
    run = loading.load_run(Run(run_folder))
    test = Run(run_folder).dataset().test
    _, predictions = evaluation.evaluate(run.network, test, run.normalization, run.loss)
    raw = calibration.expected_error(predictions, test.labels)
    assert scores["raw_calibration_error"] == pytest.approx(raw, rel=1e-6)
    with np.load(run_folder / "predictions/test.npz") as saved:  # perhaps by compiled kernels
        np.testing.assert_allclose(saved["probabilities"], predictions, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(saved["labels"], test.labels)
    assert scores["calibration_error"] != scores["raw_calibration_error"]
    assert scores["interval"][0] < scores["error"] < scores["interval"][1]
    done = command("harness", "evaluate", "last", "datset=x", "--outputs", str(outputs))
    assert (done.returncode, done.stdout) == (2, "")
    assert "datset=x" in done.stderr


OWN = """
import numpy as np
def bands():
    y = np.arange(60) % 2
    x = np.repeat(y[:, None].astype(np.float32), 3, axis=1)
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
"""


def test_own_data_is_found_beside_its_configurations_and_can_be_replaced(
    command: Command, tmp_path: Path
) -> None:
    """The module is in the folder of --config-dir, which `evaluate` is not given."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/own_bands.py").write_text(OWN)
    np.savez(
        tmp_path / "other.npz", x_train=np.eye(4, 3, dtype=np.float32), y_train=[0, 1, 0, 1],
        x_test=np.eye(2, 3, dtype=np.float32), y_test=[0, 1],
    )  # fmt: skip
    done = command(
        RUN, "--config-dir", "mine", "dataset=own_bands:bands", "epochs=1", "batch=8", "width=4",
        "tracking=none", "normalization=standard", "dataset.num_val=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "outputs/cache")
    replaced = command("harness", "evaluate", "last", "dataset=arrays", "dataset.file=other.npz")
    assert replaced.returncode == 0, replaced.stderr
    assert "on arrays (other.npz): error" in replaced.stdout
    assert not (tmp_path / "outputs/cache/made").exists(), "the own data is not made"
    done = command("harness", "evaluate", "last")
    assert done.returncode == 0, done.stderr
    assert "on bands: error" in done.stdout


def test_an_error_is_that_of_an_own_loss(command: Command, tmp_path: Path) -> None:
    """Its predictions are the probabilities of softmax times a prior, which changes their order."""
    code = OWN.replace("arange(60)", "arange(900)").replace("return", "x[::3] = 0\n    return")
    (tmp_path / "own_bands.py").write_text(
        code
        + """
from harness.nn.losses import CrossEntropy
class Prior(CrossEntropy):
    def predict(self, outputs, out):
        super().predict(outputs, out)
        out *= [1, 20]
        out /= out.sum(axis=1, keepdims=True)
"""
    )
    done = command(
        RUN, "dataset=own_bands:bands", "loss=own_bands:Prior", "epochs=2", "batch=9", "width=4",
        "tracking=none", "normalization=standard", "dataset.num_val=300",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = Run(only_folder(tmp_path))
    with np.load(run.folder / "predictions/test.npz") as saved:
        error = np.mean(saved["probabilities"].argmax(axis=1) != saved["labels"])
    assert 0 < error < 1
    assert run.metrics[metrics.TEST_ERROR] == error
    done = command("harness", "evaluate", "last", "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    confusion = np.array(scores["confusion"])
    assert scores["error"] == error
    assert 1 - np.trace(confusion) / confusion.sum() == pytest.approx(error)
    assert scores["temperature"] != 1


def test_own_data_is_named_as_in_training(command: Command, tmp_path: Path) -> None:
    """By its function, by its configuration, and by another value of a key."""
    code = OWN.replace("bands()", "bands(*, test: int = 60)").replace(
        '"y_test": y', '"y_test": y[:test]'
    )
    code = code.replace('"x_test": x', '"x_test": x[:test]')
    (tmp_path / "own_bands.py").write_text(code)
    (tmp_path / "own/dataset").mkdir(parents=True)
    (tmp_path / "own/dataset/few.yaml").write_text(
        "defaults: [mnist]\nname: own_bands:bands\ntest: 7\n"
    )
    short = ("epochs=1", "batch=8", "width=4", "tracking=none", "normalization=standard")
    done = command(RUN, "dataset=own_bands:bands", *short)
    assert done.returncode == 0, done.stderr
    for words, count in (
        (("dataset=own_bands:bands",), 60),
        (("dataset=own_bands:bands", "dataset.test=5"), 5),
        (("dataset.test=6",), 6),
        (("dataset=few", "--config-dir", "own"), 7),
    ):
        done = command("harness", "evaluate", "last", *words)
        assert done.returncode == 0, done.stderr
        assert f"of {count} test examples" in done.stdout
    for words, expected in (
        (("dataset.tset=6",), "did you mean 'dataset.test'?"),
        (("dataset.test=x",), "dataset.test=x: expected a whole number"),
        (("dataset.num_val=6",), "dataset.num_val=6: expected dataset=NAME"),
        (("dataset.file=x.npz",), "dataset=own_bands:bands has none; add dataset=arrays"),
        (("dataset=nothing",), "dataset=nothing: expected arrays, "),
    ):
        done = command("harness", "evaluate", "last", *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert expected in done.stderr


def test_a_run_is_scored_from_another_folder(command: Command, tmp_path: Path) -> None:
    """The cache has the data, though the file's relative path leads nowhere from there."""
    x, y = np.eye(8, 3, dtype=np.float32), np.arange(8) % 2
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    short = ("epochs=1", "batch=4", "width=4", "tracking=none", "dataset.num_val=0")
    done = command(RUN, "dataset=arrays", "dataset.file=own.npz", *short)
    assert done.returncode == 0, done.stderr
    (tmp_path / "elsewhere").mkdir()
    done = command_in(tmp_path / "elsewhere")(
        "harness", "evaluate", "last", "--outputs", "../outputs"
    )
    assert done.returncode == 0, done.stderr
    assert "of 8 test examples" in done.stdout


@pytest.mark.parametrize("change", ["edited", "removed"])
def test_modules_that_a_network_does_not_need_may_change(
    command: Command, tmp_path: Path, change: str
) -> None:
    (tmp_path / "own_bands.py").write_text(OWN)
    (tmp_path / "own_sgd.py").write_text("from harness.nn.optimizers import SGD as Own\n")
    (tmp_path / "own_relu.py").write_text("from harness.nn.activations import ReLU as Own\n")
    np.savez(
        tmp_path / "other.npz", x_train=np.eye(4, 3, dtype=np.float32), y_train=[0, 1, 0, 1],
        x_test=np.eye(2, 3, dtype=np.float32), y_test=[0, 1],
    )  # fmt: skip
    done = command(
        RUN, "dataset=own_bands:bands", "optimizer=own_sgd:Own", "activation=own_relu:Own",
        "lr=0.1", "epochs=1", "batch=8", "width=4", "tracking=none", "normalization=standard",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    def alter(name: str) -> None:
        path = tmp_path / name
        path.write_text(f"{path.read_text()}changed = 1\n") if change == "edited" else path.unlink()

    alter("own_bands.py")
    alter("own_sgd.py")
    for data in ((), ("dataset=arrays", "dataset.file=other.npz")):
        done = command("harness", "evaluate", "last", *data)
        assert done.returncode == 0, done.stderr
        told = sorted(done.stderr.splitlines())
        assert len(told) == 2
        for line, name in zip(told, ("own_bands.py", "own_sgd.py"), strict=True):
            assert line.startswith("warning: ")
            assert name in line
            assert line.endswith(": it is not needed here")
            assert "; " not in line, "there is nothing to do"
    shutil.rmtree(tmp_path / "outputs/cache")  # the data have to be made again
    done = command("harness", "evaluate", "last")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "own_bands.py: " in done.stderr.splitlines()[-1]
    alter("own_relu.py")
    done = command("harness", "evaluate", "last", "dataset=arrays", "dataset.file=other.npz")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "own_relu.py: " in done.stderr


def test_another_data_set_must_have_the_shape_of_the_images(
    outputs: Path, run_folder: Path, idx_folder: Path
) -> None:
    with pytest.raises(
        ValueError, match="expects images of 28x28 in at most 10 classes, found images of 6x5"
    ):
        evaluate.run_on(outputs, run_folder.name, ["dataset=idx", f"dataset.dir={idx_folder}"])


def test_the_text_has_the_error_and_the_confusion_matrix() -> None:
    counts = np.array([[90, 0], [2, 8]])
    scores = Evaluation("ab12", "idx", 100, 0.02, (0.0055, 0.07), 0.1, 0.01, counts)
    assert scores.text().splitlines() == [
        "run ab12 on idx: error 2.00% (95 % interval 0.55% to 7.00%) of 100 test examples",
        "loss 0.1000 nats, expected calibration error 1.00% (not calibrated)",
        "",
        "rows: true class; columns: predicted class",
        "       0   1",
        "   0  90   .",
        "   1   2   8",
    ]
    assert json.loads(json.dumps(scores.to_dict()))["confusion"] == [[90, 0], [2, 8]]
    undefined = replace(scores, metrics={"auc": np.nan, "f1": 0.5})
    assert undefined.to_dict()["metrics"] == {"auc": None, "f1": 0.5}, "JSON has no NaN"
    named = replace(scores, class_names=("Ankle boot of felt", "T-shirt/top"))
    assert named.text().splitlines()[-3:] == [
        "       0   1",
        "   0  90   .  Ankle boot of felt",
        "   1   2   8  T-shirt/top",
    ]
    both = replace(scores, raw_calibration_error=0.0384, temperature=0.736)
    assert (
        both.text()
        .splitlines()[1]
        .endswith("error 3.84%, calibrated 1.00% (temperature 0.74, as `predict` answers)")
    )
    few = replace(scores, uncalibrated="16 validation examples, fewer than 200")
    assert (
        few.text()
        .splitlines()[1]
        .endswith("error 1.00% (not calibrated: 16 validation examples, fewer than 200)")
    )


def test_a_regression_has_errors_with_intervals_and_r2(command: Command, tmp_path: Path) -> None:
    """Against the run's own metrics, and scikit-learn's definition of R^2 for one target."""
    random = np.random.default_rng(1)
    x = random.normal(size=(260, 4)).astype(np.float32)
    y = (x @ [1, -2, 0.5, 0] + random.normal(0, 0.3, 260)).astype(np.float32)
    parts = {"x_train": x[:200], "y_train": y[:200], "x_test": x[200:], "y_test": y[200:]}
    np.savez(tmp_path / "plane.npz", **parts)
    np.savez(tmp_path / "two.npz", **parts | {k: v[:, None].repeat(2, axis=1) for k, v in
                                              parts.items() if k[0] == "y"})  # fmt: skip
    np.savez(tmp_path / "labels.npz", **parts | {k: np.arange(len(v)) % 2 for k, v in
                                                 parts.items() if k[0] == "y"})  # fmt: skip
    few = parts | {"x_test": x[200:201], "y_test": y[200:201]}
    np.savez(tmp_path / "few.npz", **few)
    done = command(
        RUN, "dataset=arrays", "dataset.file=plane.npz", "loss=squared_error", "epochs=20",
        "objective=val/loss", "metrics=[mean_absolute_error]", "normalization=standard", "batch=8",
        "width=8", "activation=tanh", "lr=0.05", "tracking=none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    final = Run(only_folder(tmp_path)).history().final
    scores = evaluate.run_on(tmp_path / "outputs", "last", [f"dataset.file={tmp_path}/plane.npz"])
    assert isinstance(scores, Regression)
    assert scores.examples == 60
    assert scores.loss == pytest.approx(final["test/loss"], rel=1e-6)  # NumPy, not compiled
    assert scores.metrics == {
        "mean_absolute_error": pytest.approx(final["test/mean_absolute_error"])
    }
    assert scores.mean_squared_error == pytest.approx(scores.loss, rel=1e-5)
    assert scores.mean_absolute_error == pytest.approx(final["test/mean_absolute_error"])
    assert scores.r2 == pytest.approx(1 - scores.mean_squared_error / y[200:].var(), rel=1e-5)
    assert scores.r2 > 0.8
    for value, interval in (
        (scores.mean_squared_error, scores.squared_interval),
        (scores.mean_absolute_error, scores.absolute_interval),
    ):
        assert interval is not None
        assert interval[0] < value < interval[1]
        assert sum(interval) / 2 == pytest.approx(value)
    assert json.loads(json.dumps(scores.to_dict()))["r2"] == scores.r2
    lines = scores.text().splitlines()
    assert len(lines) == 2, "the loss and the run's metric are said already"
    assert "plane.npz): mean squared error" in lines[0]
    assert lines[0].endswith(" of 60 test examples")
    assert lines[1].startswith("mean absolute error ")
    assert "R^2 0." in lines[1]
    one = evaluate.run_on(tmp_path / "outputs", "last", [f"dataset.file={tmp_path}/few.npz"])
    assert isinstance(one, Regression)
    assert (one.squared_interval, one.r2) == (None, None)
    assert "interval" not in one.text()
    for file, found in (("two", "with 2 targets"), ("labels", "in 2 classes")):
        done = command("harness", "evaluate", "last", f"dataset.file={file}.npz")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        shape = r"float32 of shape (4,)"
        assert f"expects {shape} with 1 target, found {shape} {found}" in done.stderr


def test_r2_of_several_targets_is_the_mean_of_theirs() -> None:
    """As scikit-learn has it: a target of large numbers does not hide the others."""
    from sklearn.metrics import r2_score

    random = np.random.default_rng(2)
    targets = (random.normal(size=(50, 3)) * [1, 100, 0]).astype(np.float32)
    predictions = (targets + random.normal(size=(50, 3))).astype(np.float32)
    scores = Regression.of("a", "b", 1.0, predictions, targets, {})
    expected = r2_score(targets[:, :2], predictions[:, :2])
    assert scores.r2 == pytest.approx(expected, rel=1e-6)
    assert Regression.of("a", "b", 1.0, targets[:, 2:], targets[:, 2:], {}).r2 is None


def test_a_metric_whose_source_has_changed_is_left_out(command: Command, tmp_path: Path) -> None:
    """Error and loss do not need it."""
    metric = "def half(probabilities, labels):\n    return 0.5\n"
    (tmp_path / "own_bands.py").write_text(OWN)
    (tmp_path / "own_half.py").write_text(metric)
    (tmp_path / "own_third.py").write_text(metric.replace("half", "third").replace("0.5", "0.25"))
    done = command(
        RUN, "dataset=own_bands:bands", "metrics=[own_half:half,own_third:third]", "epochs=1",
        "batch=8", "width=4", "tracking=none", "normalization=standard",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (tmp_path / "own_half.py").write_text(metric + "\ndef unused():\n    pass\n")
    done = command("harness", "evaluate", "last")
    assert done.returncode == 0
    assert done.stderr == (
        f"warning: {tmp_path}/own_half.py: was changed after the run was frozen: "
        "skipping metrics=[own_half:half]\n"
    )
    assert "third 0.25" in done.stdout
    assert "half" not in done.stdout
    assert "of 60 test examples" in done.stdout


def test_a_metric_without_a_value_for_other_data_is_a_warning(
    command: Command, tmp_path: Path
) -> None:
    """Such as one that needs examples of both classes."""
    metric = "def apart(probabilities, labels):\n    return 0.5 if any(labels) else float('nan')\n"
    (tmp_path / "own_bands.py").write_text(OWN)
    (tmp_path / "own_apart.py").write_text(metric)
    done = command(
        RUN, "dataset=own_bands:bands", "metrics=[own_apart:apart]", "epochs=1", "batch=8",
        "width=4", "tracking=none", "normalization=standard",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert command("harness", "evaluate", "last").stderr == ""
    x, y = np.eye(4, 3, dtype=np.float32), [0, 1, 0, 1]
    np.savez(tmp_path / "other.npz", x_train=x, y_train=y, x_test=x[:2], y_test=[0, 0])
    other = ("dataset=arrays", "dataset.file=other.npz")
    for form, shown in (((), "apart nan"), (("--json",), '"apart": null')):
        done = command("harness", "evaluate", "last", *other, *form)
        assert (done.returncode, shown in done.stdout) == (0, True)
        warning = "metric apart: its function returned nan for these test examples"
        assert done.stderr == f"warning: {warning}\n"
