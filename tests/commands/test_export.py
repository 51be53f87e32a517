"""Exporting a data set as JSON."""

import json
from pathlib import Path

import numpy as np
import pytest

from harness.commands.export import write_json
from harness.data import dataset
from tests.conftest import Command


def test_the_json_has_every_image_and_label(tmp_path: Path, idx_folder: Path) -> None:
    data = dataset.load("idx", folder=str(idx_folder), cache=tmp_path / "cache", num_val=0)
    paths = write_json(data, tmp_path / "json")
    assert [path.name for path in paths] == ["train.json", "test.json"]
    for path, part in zip(paths, (data.train, data.test), strict=True):
        content = json.loads(path.read_text())
        rows = slice(None) if part.rows is None else part.rows
        np.testing.assert_array_equal(content["images"], part.inputs[rows])
        np.testing.assert_array_equal(content["labels"], part.labels[rows])


def test_the_command(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    done = command("harness", "export", "json", "out", "--dataset", "idx", "--dir", str(idx_folder))
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "out/train.json", "out/test.json",
    ]  # fmt: skip
    assert len(json.loads((tmp_path / "out/train.json").read_text())["labels"]) == 300


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["out", "--dataset", "mnst"], "error: dataset 'mnst': expected mnist, fashion_mnist, idx"),
        (["out", "--dataset", "idx"], "error: dataset=idx: expected dataset.dir=FOLDER"),
        (["file"], "file: is a file; name a folder to write to"),
        (["file/out"], "file: is a file; name a folder to write to"),
    ],
)
def test_bad_arguments_are_one_line(
    command: Command, tmp_path: Path, arguments: list[str], problem: str
) -> None:
    (tmp_path / "file").write_text("kept")
    done = command("harness", "export", "json", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert problem in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
