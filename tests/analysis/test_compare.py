"""Comparing recorded runs: the content of a comparison, and the report after a sweep."""

import json
from pathlib import Path

import numpy as np
import pytest

from harness.analysis import compare, page
from harness.nn import metrics
from harness.runfolder.plan import Plan, SweepJob
from harness.runfolder.run import Run
from harness.tracking.recorded import Recorded
from tests.analysis.conftest import build, make_run


def test_a_comparison_has_the_recorded_numbers(tmp_path: Path, six: list[Recorded]) -> None:
    comparison = build(tmp_path, *six)
    assert [row["batch"] for row in comparison.setting_rows()] == ["5", "6", "30"]
    first, *_, last = comparison.setting_rows()
    assert first["val_error_best_epoch_mean"] == pytest.approx(0.0515)
    assert first["val_error_last_epoch_mean"] == pytest.approx(5 / 90)
    assert first["best_epoch_mean"] == 2
    assert first["test_error_mean"] == pytest.approx(
        np.mean([run.final[metrics.TEST_ERROR] for run in six[:2]])
    )
    assert last["against_best"] != "best"
    assert len(comparison.pairs) == 3
    assert comparison.pairs[1].p < 0.001, "5 % against 30 % of 200 images"
    titles = [figure.title for figure in comparison.figures]
    for title in ("Validation error", "Training loss", "Error by batch", "Time against error",
                  "Confusion matrix of batch=5", "First-layer weights"):  # fmt: skip
        assert title in titles
    content = json.loads(comparison.to_json())
    assert len(content["runs"]) == 6
    assert content["answer"].startswith("batch=5 has the lowest validation error: 5.15 ± 0.07 %")


def test_without_validation_the_rest_is_still_reported(tmp_path: Path) -> None:
    recorded = [make_run(tmp_path, batch, 1, validation=False) for batch in (5, 30)]
    comparison = build(tmp_path, *recorded)
    assert any("no run has validation images" in note for note in comparison.notes)
    titles = [figure.title for figure in comparison.figures]
    assert "Time against error" in titles
    assert "Training loss" in titles
    assert "lowest on test" in page.page(comparison)


def test_other_data_is_refused_and_the_rest_is_still_reported(tmp_path: Path) -> None:
    comparison = build(tmp_path, make_run(tmp_path, 5, 1), make_run(tmp_path, 6, 1, data="cd" * 32))
    assert comparison.standings[1].verdict == "not compared"
    assert comparison.standings[1].why == "different data sets (abababab and cdcdcdcd)"
    assert comparison.pairs == []
    assert any("not tested on the same images" in note for note in comparison.notes)
    assert "different data sets" in page.page(comparison)


def test_another_test_set_is_refused_and_the_rest_is_still_reported(tmp_path: Path) -> None:
    comparison = build(tmp_path, make_run(tmp_path, 5, 1), make_run(tmp_path, 6, 1, tests=180))
    assert comparison.pairs == []
    assert any("different test sets (200 and 180 labels)" in note for note in comparison.notes)
    assert not any(figure.title.startswith("Difference") for figure in comparison.figures)


def test_a_sweep_makes_its_report_once(tmp_path: Path, six: list[Recorded]) -> None:
    jobs = tuple(SweepJob(run.run, run.name, {}, run.run) for run in six)
    line = compare.after_sweep(Plan("abc", (), jobs), tmp_path)
    index = tmp_path / "reports/abc/index.html"
    assert line.endswith(str(index))
    attached = [run.run for run in six if "report/abc/index.html"
                in Run(tmp_path / "runs" / run.run).history().artifacts]  # fmt: skip
    best = build(tmp_path, *six).settings[0].chosen.run
    assert attached == [best]
    assert (tmp_path / "runs" / best / "report/abc/index.html").read_text() == index.read_text()
    before = index.stat().st_mtime_ns
    compare.after_sweep(Plan("abc", (), jobs), tmp_path)
    assert index.stat().st_mtime_ns == before


def test_a_failed_report_is_one_line(tmp_path: Path, six: list[Recorded]) -> None:
    jobs = (SweepJob(six[0].run, "", {}, ""), SweepJob("gone", "", {}, ""))
    line = compare.after_sweep(Plan("abc", (), jobs), tmp_path)
    assert line.endswith("index.html   (without 1 of 2 runs, which cannot be read)")
    (tmp_path / "reports/def").touch()
    line = compare.after_sweep(Plan("def", (), jobs), tmp_path)
    assert line.startswith("no report: FileExistsError")
    assert "\n" not in line
