"""`harness predict`: every file is read, or is one line of error.

Covers: harness/commands/options.py
"""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT, Command
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
