"""The command `evaluate`, on a trained run and on its own data set or another."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.commands import evaluate
from harness.nn import metrics
from harness.runfolder.run import Run
from tests.conftest import RUN, Command
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
            assert line.endswith("it is not needed here")
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
