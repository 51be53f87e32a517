"""The life of one project, tests/project.sh, and what its results are worth at the end."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

import harness
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.sync import prove
from tests.conftest import ROOT, run_folders


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")  # of MLflow's libraries
def test_the_life_of_a_project(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "tests/project.sh"), str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    laptop, server, joined, reader = (
        tmp_path / name for name in ("laptop", "server", "joined", "reader")
    )

    # Every value of both machines is in the joined folder, once, to the last digit.
    apart = [harness.runs(outputs=each / "outputs") for each in (laptop, server)]
    assert [len(frame) for frame in apart] == [7, 12]
    together = harness.runs(outputs=joined / "outputs").set_index("run")
    for frame in apart:
        own = frame.set_index("run")
        columns = [name for name in own if name in together and "/" in name]
        assert len(columns) > 10
        pd.testing.assert_frame_equal(own[columns], together.loc[own.index, columns])
    assert len(together) == 19
    both = pd.read_csv(tmp_path / "both.csv").set_index("run")
    assert list(both["test/error"][together.index]) == list(together["test/error"])
    curves = [harness.curves(outputs=each / "outputs") for each in (laptop, server, joined)]
    assert len(curves[0]) + len(curves[1]) == len(curves[2])
    runs = [Run(folder) for folder in run_folders(joined / "outputs")]
    proofs = prove(Target.local(joined / "outputs"), runs)
    assert [proof.differences for proof in proofs] == [()] * 19
    assert "took in 0 run(s)" in (joined / "again.txt").read_text()

    assert "6 of 6 runs delivered in full" in (joined / "synced.txt").read_text()

    # Two days, names, notes, the question and its answer.
    today = json.loads((joined / "today.json").read_text())
    assert sorted(sweep["name"] for sweep in today["sweeps"]) == ["rates", "widths"]
    assert len(today["runs"]) == 12
    assert "slip" not in (laptop / "without.txt").read_text()
    status = (joined / "status.txt").read_text()
    assert "lr was 1e9 by mistake" in status
    assert "64 for the paper?" in status
    (report,) = (laptop / "outputs/reports").iterdir()
    assert "Is 16 better than 64?" in (report / "index.html").read_text()
    evaluated = json.loads((joined / "evaluated.json").read_text())
    assert evaluated["error"] == together.loc[evaluated["run"], "test/error"]
    assert "val/error: different from epoch 1 on" in (joined / "diff.txt").read_text()

    # The comparison over all three: five settings, each with its three seeds.
    settings = harness.settings("batches", "rates", "widths", outputs=joined / "outputs")
    assert list(settings["n"]) == [3] * 5
    best = settings.iloc[0]
    assert f"{100 * best['test_error_mean']:.2f} ± " in (joined / "compare.txt").read_text()

    # The paper, and what its reader finds.
    paper = joined / "paper"
    assert "\\toprule" in (paper / "table.tex").read_text()
    assert len(list((paper / "figures").glob("*.pdf"))) >= 5
    assert len((paper / "claims.txt").read_text().splitlines()) == 5
    assert (paper / "runs.csv").read_bytes() == (reader / "runs.csv").read_bytes()
    assert "reproduced to the last bit" in (reader / "reproduced.txt").read_text()
