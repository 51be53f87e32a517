"""Every file and every command of docs/your-own.md works as it is printed.

The example in JAX is run where JAX is installed, which it is not in CI: it is not collected there.
"""

import importlib.util
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import harness
from harness.data.dataset import Dataset
from harness.runfolder import checkpoint, journal
from harness.runfolder.folder import all_runs
from tests.conftest import ROOT, command_in

PAGE = (ROOT / "docs/your-own.md").read_text()
FILES = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
LINES = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]
LIBRARIES = {"mine/sklearn_mlp.py": "sklearn", "mine/jax_mlp.py": "jax", "mine/iris.py": "sklearn"}
TRAINERS = ["mine/softmax.py", "mine/sklearn_mlp.py", "mine/jax_mlp.py"]
IS_CI = bool(os.environ.get("HARNESS_NO_SKIP"))


def needing(item: str, path: str) -> Any:
    """A parameter of a test, skipped without the library that a file needs."""
    library = LIBRARIES.get(path)
    is_missing = library is not None and importlib.util.find_spec(library) is None
    name = {"sklearn": "scikit-learn"}.get(library or "", library)
    reason = f"needs {name}: python -m pip install {name}"
    return pytest.param(item, marks=pytest.mark.skipif(is_missing, reason=reason), id=item)


def collected(path: str) -> bool:
    """Whether a file is run here: the example in JAX only where it can be, and never in CI."""
    return not (IS_CI and LIBRARIES.get(path) == "jax" and not importlib.util.find_spec("jax"))


def file_of(line: str) -> str:
    """The file that a command needs a library for; empty when there is none."""
    found = (path for path in LIBRARIES if path[:-3].replace("/", ".") + ":" in line)
    return next(found, "mine/iris.py" if "dataset=iris" in line else "")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all files of the page."""
    folder = tmp_path_factory.mktemp("project")
    for path, text in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def module(project: Path, path: str) -> ModuleType:
    """A file of the page, imported."""
    spec = importlib.util.spec_from_file_location(f"page_{Path(path).stem}", project / path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


@pytest.mark.service
@pytest.mark.parametrize(
    "line", [needing(line, file_of(line)) for line in LINES if collected(file_of(line))]
)
def test_every_command(project: Path, line: str) -> None:
    words = shlex.split(line)
    assert words[0] == "python"
    data = [] if "iris" in line else ["dataset.num_train=300", "dataset.num_val=100"]
    short = ["epochs=2", "tracking=none", "fresh=true", *data]
    before = {run.id for run in all_runs(project / "outputs")}
    done = command_in(project)(*words[2:], *short)
    # Two columns of iris are equal for several flowers, which is said.
    shared = r"(dataset=\S+: \d+ of \d+ \w+ examples are also \w+ examples\n)+"
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert re.fullmatch(shared if "columns=2" in line else "", done.stderr), done.stderr
    made = [run for run in all_runs(project / "outputs") if run.id not in before]
    assert all(run.is_finished for run in made)
    own = re.findall(r"mine\.(\w+):", line) or (["swish"] if "mine" in line else [])
    for name in own:
        kept = [f"code/mine/{name}.py" in run.history().artifacts for run in made]
        assert any(kept) or "--help" in line or "--dry-run" in line, line


@pytest.mark.service
def test_the_example_from_python(tmp_path: Path) -> None:
    (example,) = re.findall(
        r"^```python\n(import harness\n.*?)^```", PAGE, re.DOTALL | re.MULTILINE
    )
    short = example.replace('"epochs=1"', '"epochs=1", "dataset.num_train=300"')
    done = subprocess.run(
        [sys.executable, "-c", short], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\S+ FINISHED 0\.\d+ 1\n", done.stdout)


@pytest.mark.service
@pytest.mark.parametrize(
    "path",
    [needing(path, path) for path in TRAINERS if collected(path)],
)
def test_a_trainer_without_validation_examples(project: Path, path: str) -> None:
    """Then the last epoch is the best one."""
    pytest.importorskip("sklearn", reason="needs scikit-learn: python -m pip install scikit-learn")
    name = f"trainer={path[:-3].replace('/', '.')}:fit"
    options = ("epochs=2", "tracking=none", "dataset.num_val=0", f"outputs=without/{path}")
    done = command_in(project)("harness.run", "dataset=mine.iris:flowers", name, *options)
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = all_runs(project / "without" / path)
    frame = run.frame()
    assert len(frame) == 2
    assert [key for key in frame if key.startswith("train/")]
    assert not [key for key in frame if key.startswith("val/")]
    assert 0 <= run.metrics["test/error"] <= 1


def test_another_program_reads_a_journal(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(import json\n.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    defined: dict[str, Any] = {}
    exec(example, defined)
    path = tmp_path / journal.FILE_NAME
    written = []
    with journal.Journal(path) as open_journal:
        for kind in ("create", "epoch", "end"):
            written.append(open_journal.append(kind, metrics={"val/error": 0.5}))
    with path.open("ab") as file:
        file.write(b"00000000 {torn")
    assert list(defined["records"](path)) == written
    section = PAGE.partition("Every record has")[2].partition("## ")[0]
    named = set(re.findall(r"^\| (.*?) \|", section, re.MULTILINE)) - {"`kind`", "---"}
    kinds = {kind for cell in named for kind in re.findall(r"`(\w+)`", cell)}
    assert kinds == set(journal.RECORDS)
    for line in section.splitlines():
        for kind in re.findall(r"`(\w+)`", line.split(" | ")[0]) if " | " in line else ():
            fields = set(re.findall(r"`([a-z_\d]+)`", line.split(" | ")[1]))
            assert fields <= journal.RECORDS.get(kind, fields)


def test_the_files_are_short_and_complete() -> None:
    assert len(FILES) == 16
    for path in TRAINERS:
        assert len([line for line in FILES[path].splitlines() if line.strip()]) < 40, path
    assert all(line.startswith("python ") for line in LINES)


@pytest.mark.parametrize(
    "path",
    [needing(path, path) for path in TRAINERS if collected(path)],
)
def test_a_trainer_continues_with_the_same_bits(project: Path, tmp_path: Path, path: str) -> None:
    """As `TrainingRun` has it: four epochs at once, and two after the checkpoint of the second."""
    pytest.importorskip("sklearn", reason="needs scikit-learn: python -m pip install scikit-learn")
    dataset = Dataset.from_arrays(**module(project, "mine/iris.py").flowers())
    loaded = module(project, path)

    def trained(first: int, restored: Path | None) -> tuple[list[float], Any]:
        found: dict[str, Any] = {"errors": []}

        def log(epoch: int, values: dict[str, float], checkpoint: Callable[[Path], Any]) -> None:
            found["errors"].append(values["val/error"])
            (tmp_path / str(epoch)).mkdir(exist_ok=True)
            checkpoint(tmp_path / str(epoch))

        def epochs() -> Iterator[int]:
            yield from range(first, 5)

        run = SimpleNamespace(
            dataset=dataset, seed=3, restored=restored, best=None, epochs=epochs, log=log,
            final=found.update, predictions=lambda y, p: found.update(p=np.asarray(p)),
        )  # fmt: skip
        loaded.fit(loaded.Settings(), run)
        assert 0 <= found["test/error"] <= 1
        return found["errors"], found["p"]

    errors, expected = trained(1, None)
    later, resumed = trained(3, tmp_path / "2")
    assert later == errors[2:]
    np.testing.assert_array_equal(resumed, expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_gradient_of_the_focal_loss(project: Path, gamma: float) -> None:
    loss = module(project, "mine/focal.py").Focal(gamma=gamma)
    generator = np.random.default_rng(1)
    z, t = generator.normal(size=(3, 4)), np.eye(4)[[0, 2, 3]]
    out = np.empty_like(z)
    loss.gradient(z, t, out)
    for at in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[at] = 1e-6
        slope = (loss.value(z + step, t) - loss.value(z - step, t)).mean() / 2e-6
        assert out[at] == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_the_gradient_of_batch_normalization(project: Path) -> None:
    """Against differences of the loss sum(y^3) of a batch, by inputs and by parameters."""
    from harness.nn.layers import Dense
    from harness.nn.network import Network

    layers = [Dense(3), module(project, "mine/batchnorm.py").BatchNorm()]
    network = Network.create(layers, 2, np.random.default_rng(1), np.float64)
    x, flat = np.random.default_rng(2).normal(size=(5, 2)), network.parameters.flat
    flat += np.linspace(0.1, 0.5, len(flat))
    start = flat.copy()

    def loss() -> float:
        value = (network.forward(x, training=True) ** 3).sum()
        flat[:] = start  # also the running means
        return float(value)

    delta = 3 * network.forward(x, training=True) ** 2
    flat[:] = start
    below = network.input_gradient(delta).copy()
    gradient = network.backward(delta).into(np.empty_like(flat))
    for array, found in ((x, below), (start, gradient)):
        for at in np.ndindex(array.shape):
            values = []
            for step in (1e-6, -1e-6):
                before = array[at]
                array[at] += step
                flat[:] = start
                values.append(loss())
                array[at] = before
            assert found[at] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-6)
    network.forward(x, training=True)
    dense, statistics = network.by_layer(start)
    mean = (x @ dense["weights"] + dense["bias"]).mean(axis=0)
    found = network.by_layer(flat)[1]["mean"]
    np.testing.assert_allclose(found, 0.9 * statistics["mean"] + 0.1 * mean)


@pytest.mark.service
def test_running_means_are_resumed_and_loaded_with_the_weights(project: Path) -> None:
    """Training continued from its second epoch ends with the same bits, and they predict."""
    command, folder = command_in(project), project / "resumed"
    options = (
        *(
            "model=mine.batchnorm:network",
            "activation=relu",
            "lr=0.05",
            "epochs=3",
            "tracking=none",
        ),
        *("dataset.num_train=300", "dataset.num_val=100", "checkpoint.keep=0", "threads=1"),
    )
    done = command("harness.run", *options, f"outputs={folder}")
    assert done.returncode == 0, done.stderr
    (run,) = all_runs(folder)
    arrays, _ = checkpoint.load(run.folder / "weights/last.safetensors")
    assert np.abs(arrays["layer2.mean"]).max() > 0.01
    records = journal.read(run.journal)[0]
    kept = [each for each in records if each["kind"] in ("create", "start")]
    kept += [each for each in records if each["kind"] == "epoch" and each["epoch"] < 3]
    kept = [each | {"n": number} for number, each in enumerate(kept)]
    run.journal.write_bytes(b"".join(map(journal.encode, kept)))
    shutil.rmtree(run.folder / "checkpoints/epoch-000003")
    done = command("harness.run", f"resume={run.id}", f"outputs={folder}")
    assert done.returncode == 0, done.stderr
    again, _ = checkpoint.load(run.folder / "weights/last.safetensors")
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)
    done = command("harness", "evaluate", run.id, "--outputs", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["error"] == run.metrics["test/error"]


def test_the_schedule_starts_again(project: Path) -> None:
    schedule = module(project, "mine/restarts.py").warm_restarts(9, period=1, factor=2)
    assert [schedule(time) for time in (0, 0.5, 1, 2, 3, 5)] == pytest.approx(
        [1, 0.5, 1, 0.5, 1, 0.5]
    )


def test_the_normalization_by_hand(project: Path) -> None:
    made = module(project, "mine/zscore.py").ZScore(clip=1.2)
    x = np.array([[0, 7], [10, 7], [20, 7], [255, 9]], np.uint8)
    made.fit(x, np.array([0, 1, 2]))
    out = np.empty(x.shape, np.float32)
    made.apply(x, out)
    np.testing.assert_allclose(out[:, 0], [-1.2, 0, 1.2, 1.2], rtol=1e-6)
    np.testing.assert_array_equal(out[:, 1], np.float32([0, 0, 0, 1.2]))


def test_the_optimizer_by_hand(project: Path) -> None:
    w = np.array([1.0, -2.0, 3.0], np.float32)
    parameters = SimpleNamespace(flat=w, weights=[w[:2]])
    lion = module(project, "mine/lion.py").Lion(parameters, weight_decay=0.5, beta1=0.5, beta2=0.75)
    gradients = [[1.0, -1.0, 0.0], [-4.0, -1.0, 1.0]]
    for g in gradients:
        lion.step(SimpleNamespace(into=lambda out, g=g: out.__setitem__(slice(None), g)), 0.1)
    np.testing.assert_allclose(lion.state["momentum"], [-0.8125, -0.4375, 0.25])
    np.testing.assert_allclose(w, [(0.95 - 0.1) * 0.95 + 0.1, (-1.9 + 0.1) * 0.95 + 0.1, 2.9])


def test_the_metric_by_hand(project: Path) -> None:
    error = module(project, "mine/top2.py").wrong_twice
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.2, 0.5, 0.3]], np.float32)
    assert error(p, np.array([1, 0, 2])) == pytest.approx(1 / 3)
    assert math.isfinite(error(p, np.array([0, 2, 1])))


def test_what_is_public_is_exported() -> None:
    public = PAGE.partition("## What is public")[2]
    named = set(re.findall(r"`harness\.(\w+)`", public))
    assert named == set(harness.__all__)
    for name in harness.__all__:
        assert getattr(harness, name) is not None
