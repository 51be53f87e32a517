"""`harness import-images`: folders of pictures become a data set that can be trained on."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.commands import import_images
from harness.commands.import_images import natural, read_folder
from harness.data import idx
from harness.data.sources import FILES
from harness.recognizer.decoding import Decoder
from tests.conftest import Command


def test_own_pictures_become_a_data_set(
    command: Command, digits: list[Path], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    for name, paths in (("cat", digits[:5]), ("dog", digits[5:])):
        (own / name).mkdir(parents=True)
        for path in paths:
            path.rename(own / name / path.name)
    (own / "cat/bad.png").write_text("no picture")
    (own / "dog/notes.txt").write_text("not ignored in silence")
    done = command("harness", "import-images", str(own), str(tmp_path / "idx"), "--test", "0.4")
    assert done.returncode == 0, done.stderr
    unused = done.stderr.splitlines()
    assert [line.split(": expected")[0] for line in unused] == [
        f"not used: {own / 'cat/bad.png'}",
        f"not used: {own / 'dog/notes.txt'}",
    ]
    assert done.stdout.splitlines()[:3] == [
        f"{tmp_path / 'idx'}: 6 training and 4 test images of 28x28 in 2 classes",
        "10 pictures used; 2 lines on standard error say what was not used, and why",
        "images per class: cat 5, dog 5",
    ]
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


def write_pictures(folder: Path, sizes: dict[str, tuple[int, int]]) -> None:
    """One gray picture of this size (rows, columns) in each class folder, of gray value 7."""
    for name, size in sizes.items():
        (folder / name).mkdir()
        Image.fromarray(np.full(size, 7, np.uint8)).save(folder / name / "x.png")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("10", "9", "2"), ["2", "9", "10"]),
        (("a10", "a9", "b1", "A1"), ["A1", "a9", "a10", "b1"]),
        (("dog", "2 cats", "10 cats"), ["2 cats", "10 cats", "dog"]),
        (("01", "1", "2"), ["01", "1", "2"]),
        (("²", "5²", "10"), ["5²", "10", "²"]),
    ],
)
def test_classes_are_in_natural_order(
    tmp_path: Path, names: list[str], expected: list[str]
) -> None:
    write_pictures(tmp_path, dict.fromkeys(names, (5, 4)))
    examples = read_folder(tmp_path, as_is=True)
    assert examples.classes == expected == sorted(names, key=natural)
    assert examples.labels.tolist() == list(range(len(names)))
    assert np.array_equal(examples.images, np.full((len(names), 5, 4), 7))


@pytest.mark.parametrize("suffix", [".bmp", ".webp", ".gif", ".tiff", ".ppm", ".jpg", ".PNG", ""])
def test_every_format_is_read_by_its_content(tmp_path: Path, suffix: str) -> None:
    write_pictures(tmp_path, {"a": (5, 4), "b": (5, 4)})
    picture = Image.fromarray(np.full((5, 4), 200, np.uint8))
    path = tmp_path / f"b/y{suffix}"
    with path.open("wb") as file:
        picture.save(file, Image.registered_extensions().get(suffix.lower(), "PNG"))
    examples = read_folder(tmp_path, as_is=True)
    assert (examples.labels.tolist(), examples.skipped) == ([0, 1, 1], [])
    assert abs(int(examples.images[2, 0, 0]) - 200) < 3


def test_everything_that_is_not_used_is_named(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"a": (5, 4), "b": (5, 4), ".ipynb_checkpoints": (5, 4)})
    write_pictures(tmp_path / "a", {"set1": (5, 4), ".hidden": (5, 4)})
    (tmp_path / "a/.DS_Store").write_text("x")
    (tmp_path / "b/notes.txt").write_text("x")
    (tmp_path / "b/empty.png").touch()
    (tmp_path / "b/link").symlink_to(tmp_path / "a")
    (tmp_path / "b/gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "labels.csv").write_text("x")
    os.mkfifo(tmp_path / "b/pipe.png")  # would be read for ever
    examples = read_folder(tmp_path, as_is=True)
    assert examples.classes == ["a", "b"]
    assert examples.labels.tolist() == [0, 0, 1]
    assert examples.images[:, 0, 0].tolist() == [7, 7, 7]
    found = {line.split(": ")[0].removeprefix(f"{tmp_path}/"): line for line in examples.skipped}
    assert sorted(found) == [
        ".ipynb_checkpoints", "__MACOSX", "a/.DS_Store", "a/.hidden", "b/empty.png", "b/gone.png",
        "b/link", "b/notes.txt", "b/pipe.png", "labels.csv",
    ]  # fmt: skip
    assert found["b/link"].endswith("a link to a folder")
    assert found["labels.csv"].endswith("not in the folder of a class")
    assert not any("\n" in line for line in examples.skipped)


def test_a_machine_that_stands_still_leaves_no_picture_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def suspended() -> Decoder:
        decoder = Decoder(elapsed_s=0.2)
        os.kill(decoder._process.pid, signal.SIGSTOP)
        return decoder

    write_pictures(tmp_path, {"a": (5, 4), "b": (5, 4)})
    monkeypatch.setattr(import_images, "Decoder", suspended)
    with pytest.raises(OSError, match=r"a/x\.png: no answer .* try again"):
        read_folder(tmp_path, as_is=True)


def test_only_the_process_with_limits_opens_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    write_pictures(tmp_path, {"a": (5, 4), "b": (5, 4)})
    monkeypatch.setattr(Image, "open", lambda *arguments, **_: opened.append(arguments))
    assert len(read_folder(tmp_path, as_is=True).images) == 2
    assert not opened


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected 2 to 256 folders of pictures.* found 0"):
        read_folder(tmp_path / "none")
    write_pictures(tmp_path, {"a": (5, 4)})
    (tmp_path / ".b").mkdir()
    with pytest.raises(ValueError, match="found 1"):
        read_folder(tmp_path)
    write_pictures(tmp_path, {"b": (5, 5)})
    with pytest.raises(ValueError, match="expected pictures of one size"):
        read_folder(tmp_path, as_is=True)
    with pytest.raises(ValueError, match=r"no usable picture of class a, b; .*: no digit"):
        read_folder(tmp_path)  # they are empty


@pytest.mark.parametrize("target", ["file", "file/idx"])
def test_a_target_that_is_a_file_is_one_line(command: Command, tmp_path: Path, target: str) -> None:
    (tmp_path / "own").mkdir()
    write_pictures(tmp_path / "own", {"a": (5, 4), "b": (5, 4)})
    (tmp_path / "file").write_text("kept")
    done = command("harness", "import-images", "own", target)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "is a file; name a folder to write to" in done.stderr


def test_a_damaged_picture_gives_up_no_folder(tmp_path: Path, digits: list[Path]) -> None:
    for name in ("a", "b"):
        (tmp_path / "own" / name).mkdir(parents=True)
        shutil.copy(digits[0], tmp_path / "own" / name / "1.png")
    content = digits[0].read_bytes()
    (tmp_path / "own/a/2.png").write_bytes(content[: len(content) // 2])
    examples = read_folder(tmp_path / "own")
    assert examples.labels.tolist() == [0, 1]
    assert len(examples.skipped) == 1


def write_colors(folder: Path, sizes: dict[str, tuple[int, int]]) -> None:
    """One picture of this size (rows, columns) in each class folder: red, then green, ..."""
    for number, (name, size) in enumerate(sizes.items()):
        pixels = np.full((*size, 3), 10, np.uint8)
        pixels[..., number] = 200
        (folder / name).mkdir(parents=True)
        Image.fromarray(pixels).save(folder / name / "x.png")


def test_colors_are_kept(tmp_path: Path) -> None:
    write_colors(tmp_path, {"r": (6, 8), "g": (6, 8)})
    examples = read_folder(tmp_path, color=True)
    assert examples.images.shape == (2, 6, 8, 3)
    assert examples.classes == ["g", "r"]
    assert examples.images[:, 0, 0].tolist() == [[10, 200, 10], [200, 10, 10]]
    small = read_folder(tmp_path, color=True, size=(2, 4)).images
    assert small.shape == (2, 2, 4, 3)
    assert np.array_equal(small, examples.images[:, :2, :4])
    assert read_folder(tmp_path, as_is=True, size=(3, 5)).images.shape == (2, 3, 5)


def test_pictures_of_several_sizes(tmp_path: Path) -> None:
    write_colors(tmp_path, {"r": (6, 8), "g": (7, 8)})
    with pytest.raises(ValueError, match="one size, found 6x8, 7x8; --size 32 resizes them"):
        read_folder(tmp_path, color=True)
    assert read_folder(tmp_path, color=True, size=(5, 5)).images.shape == (2, 5, 5, 3)


def test_digits_of_another_size(tmp_path: Path, digits: list[Path]) -> None:
    for name, path in (("a", digits[0]), ("b", digits[1])):
        (tmp_path / "own" / name).mkdir(parents=True)
        shutil.copy(path, tmp_path / "own" / name)
    examples = read_folder(tmp_path / "own", size=(20, 16))
    assert examples.images.shape == (2, 20, 16)
    assert (examples.images.max(axis=(1, 2)) > 200).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("32", (32, 32)), ("32x24", (32, 24)), ("1", (1, 1)), ("1024", (1024,) * 2)],
)
def test_a_size(text: str, expected: tuple[int, int]) -> None:
    assert import_images.parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "0", "32x", "x32", "32x0", "1025", "-1", "3.5", "32x24x3"])
def test_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=f"--size {text}: expected a side, or ROWSxCOLUMNS"):
        import_images.parse_size(text)


def test_a_class_that_cannot_be_printed(tmp_path: Path) -> None:
    write_colors(tmp_path, {"r\n": (6, 8), "g": (6, 8)})
    with pytest.raises(ValueError, match=r"expected names of .* that can be printed") as caught:
        read_folder(tmp_path, color=True)
    assert "\n" not in str(caught.value)
