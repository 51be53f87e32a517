"""Every command and the example of docs/results.md work as they are printed."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT, Command

PAGE = (ROOT / "docs/results.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.service
def test_every_command_and_example(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    own = ("dataset=idx", f"dataset.dir={idx_folder}", "dataset.label=mnist", "tracking=none",
           "dataset.num_val=40", "epochs=2", "width=8")  # fmt: skip
    for sweep in (("batch=16", "seed=1,2"), ("batch=10,40", "seed=1,2")):
        done = command("harness.run", "-m", *own, *sweep)
        assert done.returncode == 0, done.stderr
    for line in (line for block in blocks("sh") for line in block.splitlines()):
        python, m, *words = shlex.split(line)
        assert (python, m) == ("python", "-m")
        words += ["tracking=none"] if words[0] == "harness.run" else []
        done = command(*words)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "" or words[0] == "harness.run", line
        assert done.stdout, line
    (example,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "against_best" in done.stdout
    assert list(pd.read_csv(tmp_path / "runs.csv")["batch"]) == [10, 10, 40, 40]
    assert len(pd.read_parquet(tmp_path / "curves.parquet")) == 4 * 2
    assert (tmp_path / "table.tex").read_text().startswith("\\begin{table}")
    assert len(list((tmp_path / "figures").glob("*.pdf"))) >= 4


@pytest.mark.service
def test_the_forms_of_json(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    own = ("dataset=idx", f"dataset.dir={idx_folder}", "dataset.num_val=40", "epochs=1", "width=8")
    assert command("harness.run", "-m", *own, "seed=1,2").returncode == 0
    named = re.findall(r"\| `(\w+) --json` \| `(.*?)` \| (.*?) \|", PAGE)
    assert [name for name, *_ in named] == [
        "status", "du", "diff", "compare", "results", "sync",
    ]  # fmt: skip
    for name, form, listed in named:
        words = ["seed=1", "seed=2"] if name == "diff" else []
        done = command("harness", name, *words, "--json")
        assert done.returncode == 0, done.stderr
        content = json.loads(done.stdout)
        version = 2 if name == "compare" else 1
        assert (content.pop("format"), content.pop("version")) == (form, version)
        assert list(content) == re.findall(r"`(\w+)`", listed), name
