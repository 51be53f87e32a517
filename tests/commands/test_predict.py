"""The commands on files: predict, import; and which network answers."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.commands.import_csv import read_csv
from harness.data import dataset, idx, own_data
from harness.data.sources import FILES
from harness.recognizer import loading
from harness.recognizer.recognizer import Recognizer
from harness.runfolder.run import WEIGHTS
from tests.conftest import Command
from tests.recognizer.conftest import outputs, run_folder, trained  # noqa: F401  # fixtures
from tests.recognizer.test_picture import png

# ruff: noqa: F811


@pytest.fixture
def digits(tmp_path: Path, outputs: Path) -> list[Path]:
    """Ten test digits, dark on light paper of 120 x 90; the label is in the name."""
    test = dataset.load("mnist", cache=outputs / "cache").test
    paths = []
    for number in range(10):
        paper = Image.new("L", (120, 90), 230)
        digit = Image.fromarray(255 - test.images[number].reshape(28, 28)).resize((56, 56))
        paper.paste(digit.point(lambda value: value * 230 // 255), (5 + 5 * number, 20))
        paths.append(tmp_path / f"{number}-{test.labels[number]}.png")
        paper.save(paths[-1])
    return paths


def test_files_are_read(command: Command, digits: list[Path], outputs: Path) -> None:
    names = [str(path) for path in digits]
    done = command("harness", "predict", "--outputs", str(outputs), *names, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert [row["file"] for row in found] == names
    right = sum(str(row["digit"]) == path.stem[-1] for row, path in zip(found, digits, strict=True))
    assert right >= 8
    for row in found:
        assert row["probability"] == max(row["probabilities"])
        assert row["unsure"] == (row["probability"] < 0.8)


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: limits of address space")
def test_hostile_files_are_one_line_each(digits: list[Path], outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "huge.png").write_bytes(png(100_000, 100_000))
    (tmp_path / "cut.png").write_bytes(digits[0].read_bytes()[:100])
    (tmp_path / "text.jpg").write_text("not a picture")
    Image.new("L", (50, 50), 255).save(tmp_path / "empty.png")
    Image.open(digits[1]).convert("RGB").save(tmp_path / "jpeg.png", "JPEG")
    bad = [tmp_path / name for name in ("huge.png", "cut.png", "text.jpg", "none.png")]
    files = [
        digits[0],
        *bad,
        tmp_path,
        Path("/dev/zero"),
        tmp_path / "empty.png",
        tmp_path / "jpeg.png",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "harness", "predict", "--outputs", outputs, *files],
        capture_output=True,
        text=True,
        preexec_fn=limit_memory,
        env={"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 2
    errors = done.stderr.splitlines()
    assert len(errors) == len(bad) + 2
    for path, line in zip([*bad, tmp_path, "/dev/zero"], errors, strict=True):
        assert line.startswith(f"{path}: ")
    rows = done.stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows] == [str(files[0]), str(files[-2]), str(files[-1])]
    assert "no digit found" in rows[1]
    assert rows[2].split()[1] == digits[1].stem[-1]


def test_without_any_network_it_says_what_to_run(command: Command, digits: list[Path]) -> None:
    done = command("harness", "predict", str(digits[0]))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "`python -m harness.run experiment=quick` first" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_damaged_weights_are_refused(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outputs/runs").mkdir(parents=True)
    copy = tmp_path / "outputs/runs" / run_folder.name
    subprocess.run(["cp", "-r", run_folder, copy], check=True)
    weights = copy / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="do not match their SHA-256"):
        loading.choose(tmp_path / "outputs")


def test_calibration_is_kept_beside_the_weights(run_folder: Path, trained: Recognizer) -> None:
    kept = json.loads((run_folder / loading.CALIBRATION).read_text())
    assert trained.temperature == kept["temperature"]
    assert 0.3 < kept["temperature"] < 3
    assert kept["images"] == 5000
    assert kept["error"] < 0.02


def test_own_pictures_become_a_data_set(
    command: Command, digits: list[Path], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    for name, places in (("cat", digits[:5]), ("dog", digits[5:])):
        (own / name).mkdir(parents=True)
        for path in places:
            path.rename(own / name / path.name)
    (own / "cat/bad.png").write_text("no picture")
    (own / "cat/notes.txt").write_text("ignored")
    done = command("harness", "import-images", str(own), str(tmp_path / "idx"), "--test", "0.4")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"skipped: {own / 'cat/bad.png'}: ")
    assert "6 training and 4 test images of 28x28 in 2 classes" in done.stdout
    assert json.loads((tmp_path / "idx/classes.json").read_text()) == ["cat", "dog"]
    labels = idx.read(tmp_path / "idx" / FILES[3])
    assert sorted(labels) == [0, 0, 1, 1]
    train = [
        "dataset=idx",
        f"dataset.dir={tmp_path / 'idx'}",
        "epochs=1",
        "batch=2",
        "tracking=none",
    ]
    assert command("harness.run", *train).returncode == 0
    again = command("harness", "import-images", str(own), str(tmp_path / "idx"))
    assert again.returncode == 2
    assert "already exists" in again.stderr


def test_kaggle_csv(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    rows = random.integers(0, 256, (50, 10))
    rows[:, 0] = np.arange(50) % 3
    names = ",".join(["label", *(f"pixel{n}" for n in range(9))])
    lines = [",".join(map(str, row)) for row in rows]
    path = tmp_path / "train.csv"
    path.write_text("\n".join([names, *lines]) + "\n")
    found = read_csv(path)
    assert np.array_equal(found.images.reshape(50, 9), rows[:, 1:])
    assert np.array_equal(found.labels, rows[:, 0])
    said = own_data.write(found, tmp_path / "idx", test_share=0.2)
    assert "40 training and 10 test images of 3x3 in 3 classes" in said[0]
    written = np.concatenate([idx.read(tmp_path / "idx" / FILES[i]) for i in (0, 2)])
    assert sorted(map(bytes, written)) == sorted(map(bytes, found.images))
    path.write_text("\n".join(lines))  # the same without names
    assert np.array_equal(read_csv(path).images, found.images)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "found none"),
        ("label,a,b,c,d\n", "found none"),
        ("1,2,3\n", "square image"),
        ("0,1,2,3,4\n1,1,2,3,256\n", "line 2: expected a label and gray values"),
        ("0,1,2,3,4\n1,1,2,3\n", "expected numbers"),
        ("0,1,2,3,4\n1,1,2,3,x\n", "expected numbers"),
        ("0,1,2,3,4\n0,1,2,3,4\n", "found only 0"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem) as caught:
        read_csv(path)
    assert str(caught.value).startswith(str(path))
