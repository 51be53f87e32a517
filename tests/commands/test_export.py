"""Exporting tables of runs, curves and settings, and a data set as JSON."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.commands.export import write_json
from harness.data import dataset
from tests.conftest import Command, new_run, record_training


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


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Outputs with runs of two batch sizes and two seeds each, and one that failed."""
    outputs = tmp_path / "outputs"
    for batch, seed in ((16, 1), (16, 2), (64, 1), (64, 2)):
        record_training(new_run(outputs, f"batch={batch}", f"seed={seed}"), 0.5, 1 / (batch + seed))
    record_training(new_run(outputs, "lr=0.5"), 0.5, status="FAILED", error="why")
    return outputs


ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}


def test_an_ascii_terminal_gets_data_as_it_is(command: Command, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    for rate, seed in ((0.1, 1), (0.1, 2), (0.2, 1), (0.2, 2)):
        run = new_run(outputs, f"lr={rate}", f"seed={seed}", name="é x")
        record_training(run, 0.5, rate + seed / 100)
    for words in (("runs", "é x"), ("curves",), ("settings",), ("latex", "é x"),
                  ("sentence", "é x"), ("runs", "--format", "json")):  # fmt: skip
        plain, usual = (command("harness", "export", *words, **env) for env in (ASCII, {}))
        assert (plain.returncode, plain.stderr) == (0, usual.stderr), words
        assert plain.stdout == usual.stdout, words
    assert ",é x," in command("harness", "export", "runs", **ASCII).stdout
    assert " ± " in command("harness", "export", "sentence", "é x", **ASCII).stdout
    shown = command("harness", "compare", "é x", "--no-attach", **ASCII).stdout
    assert "11.50 +- 0.71 %" in shown
    assert shown.isascii()
    (line,) = [line for line in shown.splitlines() if line.startswith("lr=0.1 has")]
    assert "?" not in line
    lines = [line for line in shown.splitlines() if " % " in line and "seed" not in line]
    assert len({line.index(" % ") for line in lines}) == 1, "columns are aligned"


def test_a_metric_that_no_run_has_is_one_line(
    command: Command, trained: Path, tmp_path: Path
) -> None:
    done = command("harness", "export", "curves", "--metric", "val/eror", "--to", "c.csv")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: metric 'val/eror': no run of all runs has it; expected")
    assert "val/error" in done.stderr
    assert not (tmp_path / "c.csv").exists()


@pytest.mark.parametrize(
    ("to", "form"), [("a.csv", "json"), ("a.JSON", "csv"), ("a.parquet", "csv")]
)
@pytest.mark.parametrize("what", ["runs", "curves", "settings"])
def test_a_name_of_another_format_is_refused(
    command: Command, trained: Path, tmp_path: Path, what: str, to: str, form: str
) -> None:
    done = command("harness", "export", what, "--to", to, "--format", form)
    assert (done.returncode, done.stdout) == (2, "")
    ending = to.partition(".")[2].lower()
    assert done.stderr == (
        f"error: --to {to} --format {form}: the name ends in .{ending}; leave one out\n"
    )
    assert not (tmp_path / to).exists()
    if what == "runs":
        assert command("harness", "export", what, "--to", "a.txt", "--format", "csv").stdout


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_runs_as_a_file(command: Command, trained: Path, tmp_path: Path, form: str) -> None:
    done = command("harness", "export", "runs", "params.lr < 0.4", "--to", f"tables/runs.{form}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"tables/runs.{form}: 4 rows of ")
    exactly = {"precise_float": True} if form == "json" else {}
    frame = getattr(pd, f"read_{form}")(tmp_path / f"tables/runs.{form}", **exactly)
    assert list(frame["batch"]) == [16, 16, 64, 64]
    assert frame["val/error"].iloc[0] == 1 / 17, "to the last digit"


def test_a_table_on_standard_output(command: Command, trained: Path) -> None:
    frame = pd.read_csv(io.StringIO(command("harness", "export", "curves").stdout))
    assert (len(frame), list(frame.columns)) == (18, ["run", "epoch", "metric", "value"])
    metric = ("--metric", "val/error", "--format", "json")
    rows = json.loads(command("harness", "export", "curves", *metric).stdout)
    assert {row["metric"] for row in rows} == {"val/error"}
    every = pd.read_csv(io.StringIO(command("harness", "export", "runs", "--all-settings").stdout))
    assert set(every["epochs"]) == set(every["epochs"].astype(int))


def test_the_ranking_as_a_table(command: Command, trained: Path) -> None:
    done = command("harness", "export", "settings")
    assert done.returncode == 0
    assert done.stderr.startswith("note: left out because not finished: 1 FAILED")
    frame = pd.read_csv(io.StringIO(done.stdout))
    assert list(frame["batch"]) == [64, 16]


def test_the_ranking_for_a_paper(command: Command, trained: Path, tmp_path: Path) -> None:
    for name, begin in (("latex", r"\begin{table}"), ("sentence", "batch=64 on ")):
        done = command("harness", "export", name, "params.lr < 0.4")
        assert (done.returncode, done.stdout.startswith(begin)) == (0, True), done.stderr
        assert "predictions/test.npz is missing" in done.stderr, "a note"
        again = command("harness", "export", name, "params.lr < 0.4", "--to", "paper/file.tex")
        assert (again.returncode, again.stdout) == (0, "paper/file.tex\n")
        assert (tmp_path / "paper/file.tex").read_text() == done.stdout


def test_figures_by_their_titles(command: Command, trained: Path, tmp_path: Path) -> None:
    done = command("harness", "export", "figures", "params.lr < 0.4", "--format", "svg")
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["figures/validation-error.svg", "figures/error-by-batch.svg",
                     "figures/time-against-error.svg"]  # fmt: skip
    for name in names:
        assert b"<svg" in (tmp_path / name).read_bytes()


def test_nothing_to_draw_is_one_line(command: Command, tmp_path: Path) -> None:
    record_training(new_run(tmp_path / "outputs"), 0.5)
    done = command("harness", "export", "figures", "last")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is nothing to draw: no metric by epoch or step, no swept" in done.stderr
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["latex"], "no sweep yet; start one with"),
        (["figures", "nonsense"], "'nonsense' is no run, sweep"),
        (["figures", "--to", "file"], "file: is a file; name a folder to write to"),
        (["runs", "nonsense"], "'nonsense' is no run, sweep, name or experiment in outputs"),
        (["runs", "--to", "a.txt"], "--to a.txt: expected a name that ends in .csv, .parquet"),
        (["runs", "--format", "parquet"], "--format parquet: expected --to FILE as well"),
        (["runs", "--to", "file/a.csv"], "file: is a file; name a folder to write to"),
        (["latex", "params.lr < 0.4", "--to", "."], ".: is a folder; name a file to write to"),
        (["figures", "--width", "nan"], "--width nan: expected inches, from 1 to 20"),
        (["figures", "status = 'FAILED'"], "nothing to compare"),
        (["settings", "params.lr = 9"], "there are no runs to compare"),
    ],
)
def test_bad_input_is_one_line(
    command: Command, trained: Path, tmp_path: Path, arguments: list[str], problem: str
) -> None:
    (tmp_path / "file").write_text("kept")
    done = command("harness", "export", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert problem in done.stderr
