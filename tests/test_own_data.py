"""Data of other kinds through the whole harness, by the real commands: names, pictures, numbers."""

import asyncio
import base64
import http.client
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from harness.analysis import evidence, run_plots
from harness.commands import evaluate
from harness.data import idx
from harness.data.sources import FILES
from harness.recognizer import loading
from harness.runfolder import checkpoint
from harness.runfolder.run import Run
from harness.tracking.recorded import from_journal
from tests.conftest import ROOT, Command, command_in, only_folder, run_folders, small
from tests.recognizer.test_server import served

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SHORT = ("width=64", "epochs=60", "batch=16", "activation=relu", "optimizer=adam", "lr=0.003")


def write_letters(folder: Path, count: int = 12) -> None:
    """Pictures of 26 letters, in random colors on random dark paper."""
    generator = np.random.default_rng(2)
    font = ImageFont.load_default(24)
    for letter in LETTERS:
        (folder / letter).mkdir(parents=True)
        for number in range(count):
            paper = tuple(generator.integers(0, 60, 3).tolist())
            image = Image.new("RGB", (36, 32), paper)
            ink = tuple(generator.integers(150, 256, 3).tolist())
            at = tuple(generator.integers(5, 9, 2).tolist())
            ImageDraw.Draw(image).text((at[0], at[1] - 4), letter, ink, font)
            image.save(folder / letter / f"{number}.png")


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained run on 26 letters in color."""
    folder = tmp_path_factory.mktemp("letters")
    write_letters(folder / "pictures")
    command = command_in(folder)
    done = command("harness", "import-images", "pictures", "data", "--color", "--size", "16")
    assert done.returncode == 0, done.stderr
    assert "images per class: A 12, B 12," in done.stdout
    own = ("dataset=arrays", "dataset.file=data/arrays.npz", "dataset.label=letters")
    own = (*own, "tracking.experiment=letters")
    done = command("harness.run", *own, *SHORT, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_records_the_names(letters: Path) -> None:
    run = Run(only_folder(letters))
    recorded = run.create["dataset"]
    assert (recorded["name"], recorded["class_names"]) == ("letters", list(LETTERS))
    assert (recorded["image_shape"], recorded["dtype"]) == ([16, 16, 3], "uint8")
    assert (recorded["train"], recorded["val"], recorded["test"]) == (212, 38, 62)
    _, description = checkpoint.load(run.weights)
    assert (description["class_names"], description["dataset"]) == (list(LETTERS), "letters")
    trained = loading.load_run(run)
    assert trained.class_names == tuple(LETTERS)
    assert trained.temperature == 1
    assert trained.uncalibrated == "38 validation examples, fewer than 200"
    data = run.dataset()
    assert (data.name, data.is_image, data.class_names) == ("letters", True, tuple(LETTERS))
    recorded_run = from_journal(run)
    images = evidence.images(recorded_run, letters / "outputs", notes := [])
    assert images is not None
    assert (images.shape, notes) == ((62, 16, 16, 3), [])
    assert evidence.class_names(recorded_run, 3) == tuple(LETTERS)


def test_a_lost_cache_of_arrays_is_restored(letters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(letters / "outputs/cache")
    monkeypatch.chdir(letters)  # the folder in which dataset.file was typed
    data = Run(only_folder(letters)).dataset()
    assert (len(data.train), data.class_names) == (212, tuple(LETTERS))


def test_evaluate_names_the_classes(letters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(letters)
    scores = evaluate.run_on(Path("outputs"), "last", [])
    assert scores.dataset == "letters (data/arrays.npz)"
    assert scores.class_names == tuple(LETTERS)
    assert scores.error < 0.5, "of 26 classes, chance is 96 %"
    lines = scores.text().splitlines()
    assert lines[4].split() == [str(number) for number in range(len(LETTERS))]
    assert [line.split()[-1] for line in lines[5:]] == list(LETTERS)
    again = evaluate.run_on(Path("outputs"), "last", ["dataset.file=data/arrays.npz"])
    assert again.error == scores.error
    for bad, problem in (
        (["dataset.dir=data"], "dataset.dir=data: dataset=arrays has none; add dataset=idx"),
        (["dataset=mnist"], "expects images of 16x16x3 in at most 26 classes, found images of 28x"),
    ):
        with pytest.raises(ValueError, match=problem):
            evaluate.run_on(Path("outputs"), "last", bad)


def test_predict_names_the_classes(letters: Path) -> None:
    command = command_in(letters)
    paths = [f"pictures/{letter}/{number}.png" for letter in "AHZ" for number in range(12)]
    done = command("harness", "predict", "--run", "last", "--json", *paths)
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)
    assert all(row["class"] == LETTERS[row["digit"]] for row in rows)
    right = sum(row["class"] == row["file"].split("/")[1] for row in rows)
    assert right > 24, "most of these were trained on"
    done = command("harness", "predict", "--run", "last", paths[0])
    head, line = done.stdout.splitlines()
    assert head.split()[:2] == ["file", "class"]
    assert line.split()[1] == rows[0]["class"]
    assert line.split()[3] in LETTERS, "the runner-up"


def test_the_page_names_the_classes(letters: Path) -> None:
    content = (letters / "pictures/H/0.png").read_bytes()
    with served("--outputs", str(letters / "outputs"), "--run", "last") as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/api/models")
        listed = json.loads(connection.getresponse().read())
        assert listed["classes"] == list(LETTERS)
        assert listed["title"] == "Draw or open a picture: letters"
        connection.request("GET", "/")
        page = connection.getresponse().read().decode()
        assert "<title>Draw or open a picture: letters</title>" in page
        assert '<h1 id="title">Draw or open a picture: letters</h1>' in page
        connection.request("POST", "/api/predict", content, {"Content-Type": "image/png"})
        answer = json.loads(connection.getresponse().read())
        assert answer["class"] == LETTERS[answer["digit"]]
        assert answer["title"] == listed["title"]
        assert (answer["classes"], answer["seen_shape"]) == (list(LETTERS), [16, 16, 3])
        expected = Image.open(letters / "pictures/H/0.png").resize((16, 16), Image.LANCZOS)
        assert base64.b64decode(answer["seen"]) == expected.tobytes()
        pixels = json.dumps({"pixels": np.zeros((9, 9)).tolist()}).encode()
        connection.request("POST", "/api/predict", pixels, {"Content-Type": "application/json"})
        assert json.loads(connection.getresponse().read())["class"] in LETTERS
        connection.close()


def test_the_report_shows_names_and_colors(letters: Path) -> None:
    done = command_in(letters)("harness", "compare", "letters", timeout=300)
    assert done.returncode == 0, done.stderr
    (page,) = (letters / "outputs/reports").glob("*/index.html")
    text = page.read_text()
    assert "1 finished run(s) on letters, 1 setting(s)" in text
    assert "Confusion matrix" in text
    assert "Most confidently wrong" in text
    for letter in LETTERS:
        assert f">{letter}</text>" in text
    assert "no misclassified images" not in text
    assert "no figure of the first-layer weights" not in text


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_the_store_and_the_registry_have_the_names(letters: Path) -> None:
    import mlflow

    done = command_in(letters)("harness", "register", "last", timeout=300)
    assert done.returncode == 0, done.stderr
    assert "is letters version 1; letters@champion points to it" in done.stdout
    uri = f"sqlite:///{letters / 'outputs/mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    (run,) = mlflow.MlflowClient(uri).search_runs(["1"])
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.name == "letters"
    assert json.loads(given.dataset.profile)["class_names"] == list(LETTERS)
    with np.load(letters / "data/arrays.npz") as content:
        images = content["x_test"]
    table = mlflow.pyfunc.load_model("models:/letters@champion").predict(images)
    trained = loading.load_run(Run(only_folder(letters)))
    expected = trained.probabilities(images)
    assert np.array(table["probabilities"].tolist()) == pytest.approx(expected, abs=1e-5)
    assert table["name"].tolist() == [LETTERS[n] for n in expected.argmax(axis=1)]
    (command_in(letters)("harness", "predict", "--json", "pictures/A/0.png")).check_returncode()


def test_a_color_data_set_has_no_deformations(letters: Path) -> None:
    own = ("dataset=arrays", "dataset.file=data/arrays.npz", "augmentation=elastic")
    done = command_in(letters)("harness.run", *own, "tracking=none", "outputs=other")
    assert (done.returncode, done.stdout) == (2, "")
    assert "augmentation=elastic: expected gray images (rows, columns), found" in done.stderr
    assert not (letters / "other").exists()


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained run on Fisher's irises."""
    folder = tmp_path_factory.mktemp("iris")
    shutil.copy(ROOT / "tests/iris.csv", folder)
    command = command_in(folder)
    done = command("harness", "import-csv", "iris.csv", "data", "--label", "species", "--floats")
    assert done.returncode == 0, done.stderr
    own = ("dataset=arrays", "dataset.file=data/arrays.npz", "width=16", "epochs=60", "batch=8")
    done = command("harness.run", *own, "activation=tanh", "lr=0.1", "tracking=none", timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def test_iris(iris: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(iris)
    run = Run(only_folder(iris))
    scores = evaluate.run_on(Path("outputs"), "last", [])
    assert scores.class_names == ("setosa", "versicolor", "virginica")
    assert scores.error <= 0.1
    assert scores.confusion.sum() == scores.images == 30
    run_plots.draw(run)
    notes: list[str] = []
    assert evidence.images(from_journal(run), iris / "outputs", notes) is None
    assert notes == []


@pytest.mark.parametrize("arguments", [("predict", "x.png"), ("serve", "--port", "0")])
def test_a_network_of_other_data_is_refused_in_one_line(
    iris: Path, arguments: tuple[str, ...]
) -> None:
    done = command_in(iris)("harness", *arguments, "--run", "last")
    assert (done.returncode, done.stdout) == (2, "")
    assert "was trained on float32 of shape (4,), not on pictures" in done.stderr
    assert done.stderr.count("\n") == 1
    done = command_in(iris)("harness", *arguments)
    assert done.returncode == 2
    assert "no trained network of pictures in outputs" in done.stderr


def test_numba_trains_other_numbers_as_numpy_does(iris: Path) -> None:
    pytest.importorskip("numba", reason="python -m pip install numba")
    own = ("dataset=arrays", "dataset.file=data/arrays.npz", "normalization=standard", "epochs=3")
    finals = []
    for backend in ("numpy", "numba"):
        other = ("optimizer=adam", f"backend={backend}", f"outputs={backend}", "tracking=none")
        done = command_in(iris)("harness.run", *own, *other)
        assert done.returncode == 0, done.stderr
        (folder,) = run_folders(iris / backend)
        finals.append(Run(folder).history().final["test/loss"])
    assert finals[0] == pytest.approx(finals[1], rel=1e-4)


def digits16(folder: Path) -> Path:
    """MNIST digits as 7x7 gray values 0 to 16 in uint8, like scikit-learn's load_digits."""
    source = ROOT / "harness/data/mnist"
    content = {}
    for part, (images, labels), count in (
        ("train", FILES[:2], 3000), ("test", FILES[2:], 1000)
    ):  # fmt: skip
        pixels = idx.read(source / f"{images}.gz")[:count].reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4))
        content[f"x_{part}"] = (pixels * 16 / 255).round().astype(np.uint8)
        content[f"y_{part}"] = idx.read(source / f"{labels}.gz")[:count].astype(np.int64)
    np.savez(folder / "gray16.npz", **content)
    return folder / "gray16.npz"


def test_gray_values_that_do_not_fill_a_byte_are_told(command: Command, tmp_path: Path) -> None:
    own = ("dataset=arrays", f"dataset.file={digits16(tmp_path)}", "epochs=3", "tracking=none")
    errors = {}
    for normalization in ("minmax", "standard"):
        done = command("harness.run", *own, f"normalization={normalization}", timeout=300)
        assert done.returncode == 0, done.stderr
        told = "dataset arrays: gray values are only 0 to 16 of 0 to 255, and normalization=minmax"
        assert (told in done.stderr) == (normalization == "minmax")
        assert ("normalization=standard adapts to them" in done.stderr) == (told in done.stderr)
        run = Run(run_folders(tmp_path / "outputs")[-1])
        errors[normalization] = run.history().final["test/error"]
    assert errors["standard"] < 0.25 < 0.5 < errors["minmax"]


def test_names_beside_idx_files_can_be_given_later(
    command: Command, idx_folder: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(idx_folder, tmp_path / "own")
    keys, names = [], {}
    for given in (None, ["a", "b", "c", "d"], ["w", "x", "y", "z"]):
        if given is not None:
            (own / "classes.json").write_text(json.dumps(given))
        label = f"dataset.label={'abc'[len(keys)]}"
        done = command("harness.run", *small(own, "epochs=1", "tracking=none", label))
        assert done.returncode == 0, done.stderr
        run = Run(run_folders(tmp_path / "outputs")[-1])
        keys.append(run.create["tags"]["run_key"])
        names[run.create["dataset"]["name"]] = run.create["dataset"]["class_names"]
    assert len(set(keys)) == 1, "names change no result"
    assert names == {"a": list("0123"), "b": list("abcd"), "c": list("wxyz")}
    for text in ("[]", '["a", "b", "c"]', "no json", '{"a": 1}', '["a", "b", "c", 4]'):
        (own / "classes.json").write_text(text)
        done = command("harness.run", *small(own, "epochs=1", "tracking=none", "outputs=other"))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), text
        assert "classes.json: expected" in done.stderr


def test_validation_by_default(command: Command, idx_folder: Path, tmp_path: Path) -> None:
    own = ("dataset=idx", f"dataset.dir={idx_folder}", "width=8", "epochs=1", "tracking=none")
    for more, expected in (((), 45), (("dataset.num_val=0.5",), 150), (("dataset.num_val=0",), 0)):
        assert command("harness.run", *own, *more).returncode == 0
        run = Run(run_folders(tmp_path / "outputs")[-1])
        assert run.create["dataset"]["val"] == expected
        assert ("best/val_error" in run.history().final) == (expected > 0)
    for bad in ("1.5", "-0.1", "300"):
        done = command("harness.run", *own, f"dataset.num_val={bad}")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f"dataset.num_val={bad}: expected" in done.stderr


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["dataset=arrays"], "dataset.file=null: dataset=arrays needs dataset.file=FILE.npz"),
        (["dataset=arrays", "dataset.file=no.npz"], "dataset.file=no.npz: expected an .npz file"),
        (["dataset.file=x.npz"], "dataset.file=x.npz: dataset=mnist reads no such file"),
        (
            ["dataset=arrays", "dataset.file=x.npz", "dataset.dir=x"],
            "dataset.dir=x: dataset=",
        ),
        (["dataset.label="], "dataset.label=(nothing): expected a name, or null"),
    ],
)
def test_places_that_do_not_fit(command: Command, overrides: list[str], problem: str) -> None:
    done = command("harness.run", *overrides)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert problem in done.stderr


def test_a_request_for_a_network_of_other_data(iris: Path, letters: Path) -> None:
    """Such runs are not listed, and their ids are unknown to the page."""
    shutil.copytree(
        only_folder(iris), letters / "outputs/runs" / only_folder(iris).name, dirs_exist_ok=True
    )

    async def listed() -> list[dict[str, Any]]:
        from harness.recognizer.library import Library
        from harness.recognizer.service import Service

        default = loading.load_run(Run(letters_run))
        service = Service(Library(letters / "outputs", default))
        try:
            return await service.models()
        finally:
            service.close()

    iris_id = only_folder(iris).name
    letters_run = next(f for f in run_folders(letters / "outputs") if f.name != iris_id)
    assert [model["id"] for model in asyncio.run(listed())] == [letters_run.name]
    shutil.rmtree(letters / "outputs/runs" / iris_id)
