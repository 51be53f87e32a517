"""A network with parts of the user's is used like any other, where its modules are as they were."""

import json
import re
import shutil
from pathlib import Path

import pytest

from harness.runfolder import checkpoint
from harness.runfolder.run import Run
from tests.conftest import RUN, command_in, only_folder, run_folders, small, write_idx_folder
from tests.recognizer.test_server import ask, encoded_png, post, served

PARTS = """
import numpy as np
from own_gate import gate

class Swish:
    initialization, needs_input = "he", True
    def __init__(self, *, beta: float = 1.0):
        self.beta = beta
    def forward(self, z, out):
        np.multiply(z, gate(z, self.beta), out=out)
    def derivative(self, z, a, out):
        s = gate(z, self.beta)
        np.add(s, self.beta * a * (1 - s), out=out)
"""
GATE = """
import numpy as np

def gate(z, beta):
    return 1 / (1 + np.exp(-np.maximum(beta * z, -80)))
"""
OTHER = GATE.replace("80", "90")
pytestmark = [pytest.mark.service, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished and registered run of own parts, which lie in `own`."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "own").mkdir()
    (folder / "own/own_swish.py").write_text(PARTS)
    (folder / "own/own_gate.py").write_text(GATE)
    (folder / "picture.png").write_bytes(encoded_png())
    data = write_idx_folder(folder / "data")
    kept = [each for each in small(data) if not each.startswith("tracking")]
    options = ("activation=own_swish:Swish", "activation.beta=1.5", "epochs=2", "lr=0.05")
    done = command_in(folder)(RUN, "-cd", "own", *kept, *options)
    assert done.returncode == 0, done.stderr
    done = command_in(folder)("harness", "register", "last", "-cd", "own")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Path:
    """A copy of it whose modules are in `mine`, as at a colleague's."""
    shutil.copytree(trained / "own", tmp_path / "mine")
    shutil.copy(trained / "picture.png", tmp_path)
    return tmp_path


def predicted(project: Path, *arguments: str) -> str:
    """The line of error of `predict`, or its table."""
    done = command_in(project)("harness", "predict", "picture.png", *arguments)
    assert (done.returncode, done.stderr.count("\n")) in ((0, 0), (2, 1)), done.stderr
    return done.stderr or done.stdout


def test_a_registered_network_imports_modules_where_the_command_runs(
    trained: Path, project: Path
) -> None:
    run = only_folder(trained).name
    store = ("--uri", f"sqlite:///{trained}/outputs/mlflow.db")
    for choice in ((), ("--run", run)):
        with_folder = predicted(project, *store, *choice, "-cd", "mine")
        assert f"run {run})" in with_folder
        assert ("version 1, " in with_folder) is (choice == ())
        expected = (
            f"error: run {run} uses own_swish:Swish: there is no module own_swish in {project}; "
            "start where it is, or name its folder with --config-dir\n"
        )
        assert predicted(project, *store, *choice) == expected, "not where it was trained"
    (project / "mine/own_gate.py").write_text(OTHER)
    assert predicted(project, *store, "-cd", "mine") == (
        f"error: {project}/mine/own_gate.py: is not what run {run} was trained with; restore it "
        "(the run keeps a copy, in code/)\n"
    )
    for path in (project / "mine").glob("*.py"):
        shutil.move(path, project)
    (project / "own_gate.py").write_text(f"# the same\n{GATE}")
    assert f"run {run})" in predicted(project, *store), "from the working directory"


def test_the_best_run_imports_the_modules_that_it_recorded(trained: Path, project: Path) -> None:
    shutil.copytree(trained / "outputs/runs", project / "outputs/runs")
    run = only_folder(project).name
    table = predicted(project)
    assert f"(run {run})" in table
    (trained / "own").rename(trained / "away")
    try:
        assert f"(run {run})" in predicted(project, "-cd", "mine")
        line = predicted(project)
    finally:
        (trained / "away").rename(trained / "own")
    assert line.startswith("error: own_swish.py: the run uses this module, which is not in ")
    (project / "mine/own_swish.py").write_text(PARTS.replace("1.0", "2.0"))
    line = predicted(project, "-cd", "mine")
    assert line.startswith(f"error: {project}/mine/own_swish.py: was changed after the run was")


def test_the_page_offers_such_runs_until_a_module_changes(trained: Path, project: Path) -> None:
    """A server imports a module once, so it refuses a run that was trained with it changed."""
    shutil.copytree(trained / "outputs/runs", project / "outputs/runs")
    first = only_folder(project).name
    built_in = ("epochs=1", "activation=relu", "tracking=none")
    options = (*small(trained / "data"), "epochs=1", "tracking=none", "-cd", "mine", "lr=0.05")
    command = command_in(project)
    assert command(RUN, *small(trained / "data"), *built_in).returncode == 0
    (default,) = {each.name for each in run_folders(project / "outputs")} - {first}
    (project / "mine/own_gate.py").write_text(OTHER)
    done = command(RUN, *options, "activation=own_swish:Swish", "activation.beta=1.5")
    assert done.returncode == 0, done.stderr
    (second,) = {each.name for each in run_folders(project / "outputs")} - {first, default}
    (project / "mine/own_gate.py").write_text(GATE)
    arguments = ("--outputs", str(project / "outputs"), "--run", default)
    (trained / "own").rename(trained / "away")  # so that --config-dir is needed
    try:
        with served(*arguments, "-cd", str(project / "mine")) as number:
            listed = json.loads(ask(number, "GET", "/api/models")[2])["models"]
            assert {each["id"] for each in listed} == {first, second, default}
            status, answer = post(number, encoded_png(), "image/png", f"?model={first}")
            assert (status, answer.get("model")) == (200, first), answer
            assert post(number, encoded_png(), "image/png", f"?model={second}")[0] == 404
            (project / "mine/own_gate.py").write_text(OTHER)
            assert post(number, encoded_png(), "image/png", f"?model={second}")[0] == 404
        with served(*arguments, "-cd", str(project / "mine")) as number:
            assert post(number, encoded_png(), "image/png", f"?model={second}")[0] == 200
    finally:
        (trained / "away").rename(trained / "own")


@pytest.mark.parametrize("name", ["antigravity:x", "harness.nn.optimizers:SGD", "os:x", "a b:c"])
def test_a_store_cannot_have_other_modules_imported(
    trained: Path, project: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights whose description names what is not the user's, with its true digest."""
    from harness.recognizer import recognizer
    from harness.runfolder import own_code

    monkeypatch.chdir(project)
    arrays, description = checkpoint.load(Run(only_folder(trained)).weights)
    description["parts"]["loss"] = {"name": name}
    if name.startswith("antigravity"):
        description["code"] |= {e.path: e.syntax for e in own_code.sources([name])}
    checkpoint.save(project / "w.safetensors", arrays, description)
    with own_code.searching(["mine"]), pytest.raises(own_code.OwnCodeError, match="uses ") as told:
        recognizer.load(project / "w.safetensors", run="abc")
    assert "\n" not in str(told.value)
    del description["code"]
    checkpoint.save(project / "w.safetensors", arrays, description)
    with pytest.raises(own_code.OwnCodeError, match="no digest of the module was stored"):
        recognizer.load(project / "w.safetensors", run="abc")


def test_evaluate_says_nats_only_of_cross_entropy(trained: Path, project: Path) -> None:
    (project / "own_loss.py").write_text(
        "from harness.nn.losses import CrossEntropy\n\nclass Half(CrossEntropy):\n"
        "    def value(self, outputs, targets):\n"
        "        return super().value(outputs, targets) / 2\n"
    )
    command = command_in(project)
    for loss, unit in (("own_loss:Half", ""), ("cross_entropy", " nats")):
        options = (*small(trained / "data"), "epochs=1", "tracking=none", f"loss={loss}")
        done = command(RUN, *options)
        assert done.returncode == 0, done.stderr
        done = command("harness", "evaluate", "last")
        (line,) = [each for each in done.stdout.splitlines() if each.startswith("loss ")]
        assert re.match(rf"loss \d\.\d{{4}}{unit}, expected calibration error", line)


def test_a_changed_metric_is_not_computed(trained: Path, project: Path) -> None:
    text = "import numpy as np\n\ndef half(p, y):\n    return np.mean(p[:, 0]) / 2\n"
    (project / "own_half.py").write_text(text)
    command = command_in(project)
    options = (*small(trained / "data"), "epochs=1", "tracking=none", "metrics=[own_half:half]")
    assert command(RUN, *options).returncode == 0
    assert "\nhalf 0." in command("harness", "evaluate", "last").stdout
    (project / "own_half.py").write_text(text.replace("2", "3"))
    done = command("harness", "evaluate", "last")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "own_half.py: was changed after the run was frozen" in done.stderr
    assert "skipping metrics=[own_half:half]" in done.stderr
    assert "half" not in done.stdout
