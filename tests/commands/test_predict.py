"""`harness predict`: every file is read, or is one line of error.

Covers: harness/commands/options.py
"""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.job.trained import RANGE
from harness.runfolder import checkpoint
from tests.conftest import ROOT, RUN, Command, only_folder
from tests.recognizer.test_picture import odd_exif, png, scans


def test_files_are_read(command: Command, digits: list[Path], outputs: Path) -> None:
    names = [str(path) for path in digits]
    done = command("harness", "predict", "--outputs", str(outputs), *names, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)
    assert [row["file"] for row in rows] == names
    correct = [str(row["digit"]) == path.stem[-1] for row, path in zip(rows, digits, strict=True)]
    assert sum(correct) >= 8
    for row in rows:
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
    (tmp_path / "scans.jpg").write_bytes(scans(1000))
    (tmp_path / "exif.jpg").write_bytes(odd_exif())
    names = ("huge.png", "cut.png", "text.jpg", "scans.jpg", "none.png")
    bad = [tmp_path / name for name in names]
    files = [
        digits[0],
        *bad,
        tmp_path,
        Path("/dev/zero"),
        tmp_path / "empty.png",
        tmp_path / "jpeg.png",
        tmp_path / "exif.jpg",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "harness", "predict", "--outputs", outputs, *files],
        capture_output=True,
        text=True,
        preexec_fn=limit_memory,
        env={"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    errors = done.stderr.splitlines()
    assert len(errors) == len(bad) + 2
    for path, line in zip([*bad, tmp_path, "/dev/zero"], errors, strict=True):
        assert line.startswith(f"{path}: ")
    rows = done.stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows] == [str(files[0]), *map(str, files[-3:])]
    assert "no digit found" in rows[1]
    assert rows[2].split()[1] == digits[1].stem[-1]


def test_without_a_network_the_error_says_what_to_run(command: Command, digits: list[Path]) -> None:
    done = command("harness", "predict", str(digits[0]))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "`python -m harness.run experiment=quick` first" in done.stderr
    assert len(done.stderr.splitlines()) == 1


DIGITS = """
from sklearn.datasets import load_digits

def digits():
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8).astype("uint8")
    return {"x_train": x[:1500], "y_train": y[:1500], "x_test": x[1500:], "y_test": y[1500:]}
"""


def test_pictures_are_scaled_to_the_gray_values_of_the_training_data(
    command: Command, tmp_path: Path
) -> None:
    """scikit-learn's digits have gray values 0 to 16, and pictures 0 to 255."""
    from sklearn.datasets import load_digits

    (tmp_path / "few_grays.py").write_text(DIGITS)
    done = command(
        RUN, "dataset=few_grays:digits", "normalization=standard", "epochs=5", "width=64",
        "batch=32", "lr=0.3", "tracking=none", "dataset.label=digits",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    weights = only_folder(tmp_path) / "weights/best.safetensors"
    arrays, description = checkpoint.load(weights)
    assert description[RANGE] == [0, 16]
    pixels, labels = load_digits(return_X_y=True)
    files = []
    for number in range(1500, 1530):
        digit = (pixels[number].reshape(8, 8) * (255 / 16)).astype(np.uint8)
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(digit).save(files[-1])
    for is_older in (False, True):
        if is_older:  # its range is that of the data in the cache
            checkpoint.save(weights, arrays, {k: v for k, v in description.items() if k != RANGE})
            (weights.parent / "calibration.json").unlink()
            journal = only_folder(tmp_path) / "journal.jsonl"
            kept = [line for line in journal.read_bytes().splitlines() if b"best.safe" not in line]
            journal.write_bytes(b"\n".join([*kept, b""]))
        done = command("harness", "predict", "--as-is", "--run", "last", *map(str, files))
        assert done.returncode == 0, done.stderr
        heading, *rows = done.stdout.splitlines()
        assert ")   pictures are rescaled to its training range, 0 to 16" in heading
        read = np.array([int(row.split()[1]) for row in rows])
        assert (read == labels[1500:1530]).mean() > 0.85
    done = command("harness", "predict", "--run", "last", str(files[0]))
    assert done.stderr == ""
    heading = done.stdout.splitlines()[0]
    assert heading.endswith("16; preprocessed as MNIST's digits were, --as-is only resizes")
    assert "only resizes" not in command("harness", "predict", "--as-is", str(files[0])).stdout
    np.savez(
        tmp_path / "full.npz", x_train=np.zeros((4, 8, 8), np.uint8), y_train=[0, 1, 0, 1],
        x_test=np.full((4, 8, 8), 255, np.uint8), y_test=[0, 1, 0, 1],
    )  # fmt: skip
    done = command("harness", "evaluate", "last", "dataset=arrays", "dataset.file=full.npz")
    assert "was trained on values 0 to 16, and the test examples have 255 to 255; " in done.stderr
