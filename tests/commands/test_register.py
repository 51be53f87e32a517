"""`harness register`: the best run on validation becomes a model that MLflow serves."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from harness.commands import register as register_command_module
from harness.commands.register import best_of
from harness.commands.register import register as register_command
from harness.data import dataset
from harness.nn import metrics
from harness.recognizer.choice import choose
from harness.recognizer.registry import Version
from harness.runfolder.plan import Plan, SweepJob
from harness.runfolder.run import Run
from harness.runfolder.target import sqlite_uri
from tests.commands.test_ui import free_port
from tests.conftest import (
    command_in,
    new_run,
    record_training,
    run_folders,
    small,
    write_idx_folder,
)

USE = """
import json, sys
import mlflow, numpy as np
images = np.load("images.npy")
model = mlflow.pyfunc.load_model("models:/mnist@champion")
flat, square = model.predict(images.reshape(-1, 784)), model.predict(images)
assert (flat["class"] == square["class"]).all()
assert model.metadata.signature is not None and model.metadata.saved_input_example_info
assert [p for p in sys.modules if p == "harness" or p.startswith("harness.")] == []
print(json.dumps(square.to_dict("list")))
"""


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_the_best_run_of_a_sweep_is_served(tmp_path: Path) -> None:
    command = command_in(tmp_path)
    fast = ("dataset.num_train=4000", "epochs=2", "activation=relu")
    assert command("harness.run", "-m", *fast, "lr=0.1,0.001", timeout=900).returncode == 0
    done = command("harness", "register")
    assert done.returncode == 0, done.stderr
    outputs = tmp_path / "outputs"
    errors = {
        folder.name: Run(folder).history().final[metrics.BEST_VAL_ERROR]
        for folder in run_folders(outputs)
    }
    best = min(errors, key=lambda run: errors[run])
    assert done.stdout.startswith(f"run {best} (validation error {errors[best]:.2%}) is mnist")

    champion = choose(outputs)
    assert champion.run_id == best
    images = np.array(dataset.load("mnist", cache=outputs / "cache").test.inputs[:20])
    expected = champion.probabilities(images)
    np.save(tmp_path / "images.npy", images.reshape(-1, 28, 28))
    uri = f"sqlite:///{outputs / 'mlflow.db'}"
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("PYTHONPATH", None)
    used = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert used.returncode == 0, used.stderr
    output = json.loads(used.stdout)
    assert output["class"] == expected.argmax(axis=1).tolist()
    assert np.abs(np.array(output["probabilities"]) - expected).max() < 1e-5

    (tmp_path / "in.json").write_text(json.dumps({"inputs": images[:3].tolist()}))
    mlflow = [sys.executable, "-m", "mlflow", "models"]
    model = ["-m", "models:/mnist@champion", "--env-manager", "local"]
    done = subprocess.run(
        [*mlflow, "predict", *model, "-t", "json", "-i", "in.json", "-o", "out.json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())["predictions"]
    assert [row["class"] for row in rows] == output["class"][:3]
    assert served([*mlflow, "serve", *model], environment, images[:3]) == output["class"][:3]

    worst = max(errors, key=lambda run: errors[run])
    for run, alias, expected_line in (
        (best, "champion", "is mnist version 1 already; mnist@champion points to it\n"),
        (worst, "other", "is mnist version 2; mnist@other points to it\n"),
        (best, "other", "1 already; mnist@other points to it, instead of version 2 (run "),
    ):
        done = command("harness", "register", run, "--alias", alias)
        assert expected_line in done.stdout
    client = MlflowClient(uri, uri)
    assert len(client.search_model_versions("name = 'mnist'")) == 2
    assert len(client.search_logged_models(["1"])) == 2

    for weights in outputs.rglob("recognizer.safetensors"):
        content = bytearray(weights.read_bytes())
        content[-5] ^= 1
        weights.write_bytes(content)
    with pytest.raises(ValueError, match="do not have the registered SHA-256"):
        choose(outputs)
    shutil.rmtree(outputs / "artifacts")


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_a_champion_of_other_data_is_not_replaced(tmp_path: Path) -> None:
    import mlflow

    outputs = tmp_path / "outputs"

    def register(*options: str) -> Result:
        return CliRunner().invoke(register_command, ["--outputs", str(outputs), *options])

    for name, classes in (("letters", 4), ("shapes", 3)):
        write_idx_folder(tmp_path / name, classes=classes)
        overrides = small(tmp_path / name, "epochs=1", "seed=1,2")
        assert command_in(tmp_path)("harness.run", "-m", *overrides).returncode == 0
        if name == "letters":
            done = register()
            assert "is letters version 1; letters@champion points to it\n" in done.stdout
            letters = done.stdout.split()[1]
    client = mlflow.MlflowClient(f"sqlite:///{outputs}/mlflow.db")
    experiments = [str(each.experiment_id) for each in client.search_experiments()]

    def created() -> list[int]:
        models = client.search_registered_models()
        versions = client.search_model_versions()
        return [len(models), len(versions), len(client.search_logged_models(experiments))]

    before = created()
    for options, problem in (
        (("--name", "letters"), f"letters@champion is version 1 (run {letters}) of the data set"),
        (("--alias", "latest"), "--alias 'latest': 'latest' alias name (case insensitive)"),
        (("--alias", "v3"), "--alias 'v3': Version alias name 'v3' is reserved"),
        (("--alias", "two words"), "--alias 'two words': Invalid alias name"),
        (("--name", "a/b"), "--name 'a/b': Invalid model name"),
        (("--name", " "), "--name ' ': "),
    ):
        done = register(*options)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert problem in done.stderr
        assert created() == before

    def fail(*arguments: object) -> None:
        raise OSError("no space")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_registered_model_alias", fail)
        done = register()  # as shapes
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert created() == before

    first, second = run_folders(outputs)[-2:]
    shutil.rmtree(first)  # of the newest sweep
    done = register("--name", "letters", "--replace")
    assert f"left out {first.name}, removed, damaged or archived" in done.stderr
    assert done.stdout.startswith(f"run {second.name} ")
    assert f"points to it, instead of version 1 (run {letters})\n" in done.stdout
    assert choose(outputs).run_id == second.name


def served(
    command: list[str],
    environment: dict[str, str],
    images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> list[int]:
    port = free_port()
    server = subprocess.Popen(
        [*command, "-p", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    body = json.dumps({"instances": images.reshape(-1, 28, 28).tolist()}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    return [row["class"] for row in json.load(reply)["predictions"]]
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_the_line_that_serves_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the folder and the data set are called."""
    run = new_run(tmp_path)
    uri = sqlite_uri(tmp_path / "my $HOME; runs?/mlflow.db")
    version = Version("Ada's digits", "1", "champion")
    registered = register_command_module.Registered(version, run.id, None, uri)
    monkeypatch.setattr(register_command_module, "register_run", lambda *_, **__: registered)
    done = CliRunner().invoke(register_command, [run.id, "--outputs", str(tmp_path)])
    assert done.exit_code == 0, done.stderr
    line = done.stdout.splitlines()[-1].removeprefix("serve it:  ")
    words = shlex.split(line)
    assert words[0] == f"MLFLOW_TRACKING_URI={uri}"
    assert words[words.index("-m") + 1] == "models:/Ada's digits@champion"
    shown = subprocess.run(
        ["bash", "-c", line.replace("mlflow models serve", "printenv MLFLOW_TRACKING_URI #")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout == f"{uri}\n"


def test_nothing_to_register_is_one_line(tmp_path: Path) -> None:
    done = command_in(tmp_path)("harness", "register")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no sweep in outputs")


def test_the_best_run_of_a_sweep_goes_by_its_objective(tmp_path: Path) -> None:
    runs = [
        new_run(tmp_path, f"objective={text}") for text in ("val/loss:max",) * 2 + ("val/loss",)
    ]
    for run, value in zip(runs, (0.5, 0.75, 0.25), strict=True):
        record_training(run, value)

    def sweep(name: str, *members: Run) -> str:
        Plan(name, (), tuple(SweepJob(run.id, "n", {}, "k") for run in members)).save(tmp_path)
        return name

    assert best_of(tmp_path, sweep("a1", *runs[:2])) == runs[1]
    expected = (
        "sweep a2: the runs have the objectives val/loss:max, val/loss, .*; name a run instea"
    )
    with pytest.raises(ValueError, match=expected):
        best_of(tmp_path, sweep("a2", *runs))
    waiting = new_run(tmp_path, "objective=val/loss")
    with pytest.raises(
        ValueError, match="none of its 1 runs is finished and has a validation loss"
    ):
        best_of(tmp_path, sweep("a3", waiting))


def test_the_best_run_of_an_own_trainer_asks_for_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_register.py").write_text(
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Settings:\n"
        "    rate: float = 0.3\n"
        "def fit(settings: Settings, run): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    run = record_training(new_run(tmp_path, "trainer=own_register:fit"), 0.5)
    Plan("a1", (), (SweepJob(run.id, "n", {}, "k"),)).save(tmp_path)
    hint = f"register RUN --outputs {tmp_path}`$"
    with pytest.raises(ValueError, match=f"sweep a1: trainer=own_register:fit .* {hint}"):
        best_of(tmp_path, None)


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_the_lowest_loss_is_registered(tmp_path: Path) -> None:
    """The sweep, its table and the model go by the validation loss."""
    write_idx_folder(tmp_path / "letters")
    own = small(tmp_path / "letters", "epochs=6", "lr=0.5,20", "objective=val/loss")
    done = command_in(tmp_path)("harness.run", "-m", *own)
    assert done.returncode == 0, done.stderr
    histories = [Run(each).history() for each in run_folders(tmp_path / "outputs")]
    best = min(histories, key=lambda history: history.final["best/val_loss"])
    assert "best by validation loss is marked *" in done.stdout
    for history in histories:
        assert history.final["best/val_loss"] == min(history.curve("val/loss"))
        assert "best/val_error" not in history.final
    done = command_in(tmp_path)("harness", "register")
    shown = f"validation loss {best.final['best/val_loss']:.4g}"
    assert done.stdout.startswith(f"run {best.run} ({shown}) is letters version 1"), done.stderr
    assert done.stderr == ""
    worst = max(histories, key=lambda history: history.final["best/val_loss"])
    done = command_in(tmp_path)("harness", "register", worst.run)
    assert done.returncode == 0
    assert f"instead of version 1 (run {best.run})" in done.stdout
    values = [f"{each.final['best/val_loss']:.4g}" for each in (worst, best)]
    assert done.stderr == (
        f"note: its validation loss of {values[0]} is worse than {values[1]} of the version that "
        "it replaces\n"
    )
