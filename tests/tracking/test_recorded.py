"""Runs as they were recorded in journals, and their artifacts in the run folder."""

from pathlib import Path

import numpy as np
import pytest

from harness.nn import metrics
from harness.runfolder.status import RunStatus
from harness.tracking.recorded import Journals, Missing, from_journal
from tests.conftest import DATASET, new_run, record_training


def test_a_run_as_its_journal_has_it(tmp_path: Path) -> None:
    run = record_training(new_run(tmp_path, "batch=16", sweep="s"), 0.5, 0.25)
    recorded = from_journal(run)
    assert (recorded.run, recorded.name, recorded.status) == (
        run.id, "batch=16", RunStatus.FINISHED,
    )  # fmt: skip
    assert (recorded.params["batch"], recorded.params["max_norm"]) == ("16", "None"), "as in MLflow"
    assert recorded.tags["sweep"] == "s"
    assert recorded.final[metrics.BEST_VAL_ERROR] == 0.25
    assert recorded.final[metrics.VAL_ERROR] == 0.25, "the last epoch's"
    assert recorded.dataset == DATASET
    assert recorded.location == str(run.folder)
    np.testing.assert_array_equal(recorded.curves[metrics.VAL_ERROR], [0.5, 0.25])
    assert recorded.curves[metrics.VAL_ERROR].dtype == np.float64


def test_a_run_that_never_started_has_no_metrics(tmp_path: Path) -> None:
    recorded = from_journal(new_run(tmp_path))
    assert (recorded.status, recorded.final, recorded.curves) == (RunStatus.CREATED, {}, {})


def test_artifacts_are_files_of_the_run_folder(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    recorded, source = from_journal(run), Journals()
    with pytest.raises(Missing, match=rf"{run.id}: the artifact plots/x\.png is missing"):
        source.fetch(recorded, "plots/x.png", tmp_path)
    report = tmp_path / "index.html"
    report.write_text("<p>")
    source.attach(recorded, [report], "report/abc")
    fetched = source.fetch(recorded, "report/abc/index.html", tmp_path / "unused")
    assert fetched == run.folder / "report/abc/index.html"
    assert fetched.read_text() == "<p>"


def test_curves_of_a_journal_are_complete_already(tmp_path: Path) -> None:
    recorded = from_journal(record_training(new_run(tmp_path), 0.5))
    before = dict(recorded.curves)
    Journals().add_curves([recorded], ["no/such"])
    assert recorded.curves == before
