"""Comparing recorded runs: the content of a comparison, and the report after a sweep.

Covers: harness/analysis/ranked.py
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.analysis import compare, page
from harness.analysis.ranking import BY_RESULTS, ENDED
from harness.nn import metrics
from harness.runfolder.about import About
from harness.runfolder.plan import AFTERWARDS, DECIDED, SEARCH, Plan, SweepJob
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from harness.tracking.recorded import Journals, Recorded
from harness.tracking.selection import Selection
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
    assert content["version"] == 2
    assert [row["batch"] for row in content["settings"]] == [5, 6, 30]
    assert [(row["batch"], row["seed"]) for row in content["runs"]][:3] == [(5, 1), (5, 2), (6, 1)]
    assert len(content["runs"]) == 6
    assert content["answer"].startswith("batch=5 has the lowest validation error: 5.15 ± 0.07 %")


def test_two_kinds_of_p_values_are_said_to_be(tmp_path: Path, six: list[Recorded]) -> None:
    kinds = "p values are of two kinds"
    assert not any(kinds in note for note in build(tmp_path, *six).notes), "over seeds"
    assert any(kinds in note for note in build(tmp_path, *six, make_run(tmp_path, 40, 1)).notes)
    ones = [run for run in six if run.params["seed"] == "1"]
    assert not any(kinds in note for note in build(tmp_path, *ones).notes), "one seed each"


def test_settings_of_a_race_are_not_tested_among_others(tmp_path: Path) -> None:
    """Batch 9 got its seeds by results; with it as the best, nothing is tested."""
    runs = [make_run(tmp_path, batch, seed) for batch in (5, 9, 30) for seed in (1, 2)]

    def standings(raced: str) -> tuple[page.Comparison, list[str]]:
        its = frozenset(run.run for run in runs if run.params["batch"] == raced)
        chosen = Selection("sweeps abc def", runs, Journals(), raced=its)
        comparison, _ = compare.build(chosen, tmp_path)
        return comparison, [each.why for each in comparison.standings[1:]]

    comparison, whys = standings("9")
    assert whys == [BY_RESULTS, "paired t over 2 seeds"]
    assert [(pair.first, pair.second) for pair in comparison.pairs] == [(0, 2)]
    (note,) = [note for note in comparison.notes if "until=decided" in note]
    assert note == (
        "1 of 3 setting(s) have runs of a sweep with until=decided and are tested against no "
        f"other. {AFTERWARDS}"
    )
    assert "Not tested: batch=9." in comparison.lead
    comparison, whys = standings("5")
    assert whys == [BY_RESULTS] * 2
    assert [(pair.first, pair.second) for pair in comparison.pairs] == [(1, 2)]
    assert standings("")[1] == ["paired t over 2 seeds"] * 2


@pytest.mark.parametrize("kind", ["search", "race"])
def test_settings_that_got_no_more_seeds_are_not_tested(tmp_path: Path, kind: str) -> None:
    """They were called not distinguishable from the best. Batch 30 lacks a seed that failed."""
    runs = [make_run(tmp_path, batch, seed) for batch in (5, 9) for seed in (1, 2, 3)]
    runs += [make_run(tmp_path, batch, seed) for batch in (6, 30) for seed in (1, 2)]
    runs += [make_run(tmp_path, 30, 3, status="FAILED")]
    its = frozenset(run.run for run in runs) if kind == "race" else frozenset()
    chosen = Selection(
        "sweep abc", runs, Journals(), sweep="abc", is_search=kind == "search", is_raced=True,
        raced=its, costs=("time/epoch_s",),
    )  # fmt: skip
    for run in runs:
        run.curves["time/epoch_s"] = np.full(3, 1 / int(run.params["batch"]))
    comparison, _ = compare.build(chosen, tmp_path)
    found = {each.setting.values["batch"]: each for each in comparison.standings}
    assert [*found] == ["5", "9", "6", "30"]
    assert [each.verdict == ENDED for each in found.values()] == [False, False, True, False]
    assert [each.on_front for each in found.values()] == [True, True, False, True]
    assert (found["6"].p, found["6"].seeds, found["6"].why) == (None, "", BY_RESULTS)
    assert {2}.isdisjoint(
        {place for pair in comparison.pairs for place in (pair.first, pair.second)}
    )
    (row,) = [row for row in comparison.setting_rows() if row["batch"] == "6"]
    assert row["against_best"] == "ended"
    assert "<td>ended, as it cannot be the best</td>" in page.page(comparison)
    assert ("Ended, as they cannot be the best: batch=6." in comparison.lead) == (kind == "search")
    assert "until=decided" not in comparison.lead or kind == "race"
    (figure,) = [each for each in comparison.figures if each.title == "Time against error"]
    assert "that were ended early do not count" in figure.caption


def test_a_decided_sweep_has_ended_all_settings_but_one(tmp_path: Path) -> None:
    """Also those that have as many seeds as the best."""
    runs = [make_run(tmp_path, batch, seed) for batch in (5, 9) for seed in (1, 2, 3)]
    its = frozenset(run.run for run in runs)
    chosen = Selection("sweep abc", runs, Journals(), sweep="abc", is_raced=True, raced=its)
    for verdict, ended in ((f"{DECIDED} 6 of 6 runs", True), (f"not {DECIDED} 6", False)):
        comparison, _ = compare.build(replace(chosen, verdict=verdict), tmp_path)
        assert [each.verdict == ENDED for each in comparison.standings] == [False, ended]


def test_a_reason_why_predictions_are_missing_is_one_note(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, batch, 1) for batch in (5, 9, 30, 40, 50, 60)]
    for run in (*runs[:3], *runs[4:]):
        (Path(run.location) / "predictions/test.npz").unlink()
    for run in runs[:3]:
        run.params["trainer.name"] = "mine.train:fit"
    (Path(runs[3].location) / "predictions/test.npz").write_bytes(b"")
    notes = [note for note in build(tmp_path, *runs).notes if "no paired test" in note]
    several, one, lost = notes
    assert several.startswith("3 runs: trainer=mine.train:fit gave no predictions of the test set")
    assert lost == (
        "2 runs: the artifact predictions/test.npz is missing; no paired test on its examples"
    )
    assert one.startswith(f"{runs[3].run}: predictions/test.npz cannot be read")


def test_a_search_shows_its_course_in_place_of_means(tmp_path: Path, six: list[Recorded]) -> None:
    pruned = replace(make_run(tmp_path, 40, 1), status=RunStatus.KILLED, how_pruned="pruned")
    search = Selection("sweep abc", [*six, pruned], Journals(), sweep="abc", is_search=True)
    comparison, _ = compare.build(search, tmp_path)
    titles = [figure.title for figure in comparison.figures]
    assert titles[:3] == ["The search", "Epochs of each trial", "Error by batch"]
    assert titles.count("Error by batch") == 1
    assert comparison.figures[0].caption.startswith("3 finished, 1 pruned. ")
    assert [setting.values["batch"] for setting in comparison.settings] == ["5", "6", "30"]
    assert "The course of the search" in page.page(comparison)


def test_without_validation_the_rest_is_still_reported(tmp_path: Path) -> None:
    recorded = [make_run(tmp_path, batch, 1, validation=False) for batch in (5, 30)]
    comparison = build(tmp_path, *recorded)
    assert any("no run has validation examples" in note for note in comparison.notes)
    titles = [figure.title for figure in comparison.figures]
    assert "Time against error" in titles
    assert "Training loss" in titles
    assert "lowest on test" in page.page(comparison)


def test_other_data_is_refused_and_the_rest_is_still_reported(tmp_path: Path) -> None:
    comparison = build(tmp_path, make_run(tmp_path, 5, 1), make_run(tmp_path, 6, 1, data="cd" * 32))
    assert comparison.standings[1].verdict == "not compared"
    assert comparison.standings[1].why == "different data sets (abababab and cdcdcdcd)"
    assert comparison.pairs == []
    assert any("not tested on the same examples" in note for note in comparison.notes)
    assert "different data sets" in page.page(comparison)


def test_runs_with_another_test_set_are_left_out(tmp_path: Path) -> None:
    other = "cd" * 32
    runs = [make_run(tmp_path, batch, 1) for batch in (5, 6)]
    comparison = build(tmp_path, *runs, make_run(tmp_path, 4, 1, tests=180, data=other))
    assert [each.setting.label for each in comparison.standings] == ["batch=5", "batch=6"]
    (note,) = [note for note in comparison.notes if "left out" in note]
    assert note == (
        "1 run(s) on idx (180 test examples) were left out: runs on different data sets are not "
        "ranked together, and these are on idx (200 test examples); for the others: "
        f"python -m harness compare \"tags.data.sha256 = '{other}' and tags.sweep LIKE '%abc%'\""
    )


def test_other_labels_are_refused_and_the_rest_is_still_reported(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, batch, 1) for batch in (5, 6)]
    path = Path(runs[1].location) / "predictions/test.npz"
    with np.load(path) as content:
        labels, probabilities = content["labels"], content["probabilities"]
    np.savez(path, labels=labels[::-1], probabilities=probabilities)
    comparison = build(tmp_path, *runs)
    assert comparison.pairs == []
    assert any("different test sets (200 and 200 labels)" in note for note in comparison.notes)
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


@pytest.mark.parametrize("objective", ["val/loss", "val/loss:max"])
def test_everything_goes_by_the_objective(tmp_path: Path, objective: str) -> None:
    runs = [make_run(tmp_path, batch, seed, objective=objective)
            for batch in (5, 6, 30) for seed in (1, 2)]  # fmt: skip
    comparison = build(tmp_path, *runs)
    rows = comparison.setting_rows()
    # The highest loss of all runs is that of the first epoch.
    assert [row["batch"] for row in rows] == ["5", "6", "30"]
    row = {row["batch"]: row for row in rows}["5"]
    low, high = (0.51, 0.52) if objective == "val/loss" else (5.0, 5.0)
    best, worst = (low, high) if objective == "val/loss" else (high, low)
    assert row["val_loss_best_epoch_best"] == pytest.approx(best)
    assert row["val_loss_best_epoch_worst"] == pytest.approx(worst)
    assert row["best_epoch_mean"] == (2 if objective == "val/loss" else 1)
    assert row["test_loss_mean"] == pytest.approx(
        np.mean([run.final["test/loss"] for run in runs[:2]])
    )
    assert row["chosen_test_low"] is None
    assert not [key for key in row if "error" in key]
    titles = [figure.title for figure in comparison.figures]
    for title in ("Validation loss", "Loss by batch", "Time against loss"):
        assert title in titles
    text = page.page(comparison)
    assert "validation error" not in text
    assert "test error" not in text
    word = "lowest" if objective == "val/loss" else "highest"
    assert f"has the {word} validation loss: " in text
    assert f"the one with the {word} validation loss; the last" in text
    assert "Errors in percent" not in text
    assert not comparison.notes or all("objective" not in note for note in comparison.notes)


def test_runs_of_different_objectives_are_not_ranked_together(tmp_path: Path) -> None:
    """Those of most runs are compared, and a line says how to compare the others."""
    old = make_run(tmp_path, 5, 1)  # of an earlier version: it has no such key
    errors = [old, make_run(tmp_path, 6, 1, objective="val/error")]
    losses = [make_run(tmp_path, batch, 1, objective="val/loss") for batch in (7, 8, 9)]
    comparison = build(tmp_path, *errors, *losses)
    assert [row["batch"] for row in comparison.setting_rows()] == ["7", "8", "9"]
    (note,) = [note for note in comparison.notes if "objective" in note]
    assert note == (
        "2 run(s) with objective=val/error were left out: runs of different objectives are not "
        "ranked together, and these have objective=val/loss; for the others: python -m harness "
        "compare \"params.objective = 'val/error' and tags.sweep LIKE '%abc%'\""
    )
    part = Selection("sweep abc since=7d", [*errors, *losses], Journals())
    comparison, _ = compare.build(part, tmp_path)
    (note,) = [note for note in comparison.notes if "objective" in note]
    assert note.endswith("compare \"params.objective = 'val/error'\""), "no sweep of another name"
    comparison = build(tmp_path, *errors)
    assert [list(each.values) for each in comparison.settings] == [["batch"]] * 2
    assert not [note for note in comparison.notes if "objective" in note]


def test_runs_on_different_data_sets_are_not_ranked_together(tmp_path: Path) -> None:
    """Even the best of all runs, which is on another data set than most."""
    trees = [make_run(tmp_path, batch, 1, label="trees") for batch in (6, 7)]
    shapes = make_run(tmp_path, 1, 1, data="cd" * 32, label="shapes")
    comparison = build(tmp_path, shapes, *trees)
    assert [setting.values["batch"] for setting in comparison.settings] == ["6", "7"]
    assert [note for note in comparison.notes if "data sets" in note] == [
        "1 run(s) on shapes were left out: runs on different data sets are not ranked together, "
        "and these are on trees; for the others: python -m harness compare "
        "\"params.dataset.label = 'shapes' and tags.sweep LIKE '%abc%'\""
    ]
    jobs = tuple(SweepJob(run.run, run.name, {}, run.run) for run in (shapes, *trees))
    line = compare.after_sweep(Plan("abc", (), jobs), tmp_path)
    assert line.endswith("index.html   (without 1 of 3 runs, which have other data sets)")


def test_a_sweep_over_objectives_makes_its_report_once(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, batch, 1, objective=text)
            for batch, text in ((5, "val/error"), (6, "val/error"), (7, "val/loss"))]  # fmt: skip
    plan = Plan("abc", (), tuple(SweepJob(run.run, run.name, {}, run.run) for run in runs))
    line = compare.after_sweep(plan, tmp_path)
    assert line.endswith("index.html   (without 1 of 3 runs, which have other objectives)")
    index = tmp_path / "reports/abc/index.html"
    before = index.stat().st_mtime_ns
    assert compare.after_sweep(plan, tmp_path) == line
    assert index.stat().st_mtime_ns == before


def test_the_report_of_a_search_has_trials_that_did_not_finish(tmp_path: Path) -> None:
    """Also those that came after it, or went on."""
    runs = [make_run(tmp_path, batch, 1) for batch in (5, 6)]
    runs.append(make_run(tmp_path, 30, 1, status="KILLED"))
    jobs = [SweepJob(run.run, run.name, {}, run.run) for run in runs]
    report = tmp_path / "reports/abc/report.json"
    for count, epochs in ((2, 6), (3, 9)):
        compare.after_sweep(Plan("abc", ("-m", SEARCH), tuple(jobs[:count])), tmp_path)
        assert json.loads(report.read_text())["epochs"] == epochs
    before = report.stat().st_mtime_ns
    compare.after_sweep(Plan("abc", ("-m", SEARCH), tuple(jobs)), tmp_path)
    assert report.stat().st_mtime_ns == before, "it is up to date"
    assert "left out because not finished: 1 KILLED" in report.read_text()


def test_a_report_that_is_written_again_keeps_its_costs(tmp_path: Path) -> None:
    """Those that `compare --cost` gave it, and those of the sweep, which may come later."""
    runs = [make_run(tmp_path, batch, 1) for batch in (5, 6)]
    plan = Plan("abc", (), tuple(SweepJob(run.run, run.name, {}, run.run) for run in runs))
    whole = Selection("sweep abc", runs, Journals(), sweep="abc")
    comparison, _ = compare.build(replace(whole, costs=("parameters",)), tmp_path)
    compare.write(comparison, tmp_path / "reports/abc")
    report = tmp_path / "reports/abc/report.json"
    noted = replace(plan, about=About(note="too slow"))
    compare.after_sweep(noted, tmp_path)
    content = json.loads(report.read_text())
    assert (content["note"], content["costs"]) == ("too slow", ["parameters"])
    assert "parameters_mean" in content["settings"][0]
    assert "parameters" in report.with_name("settings.csv").read_text().splitlines()[0]
    before = report.stat().st_mtime_ns
    compare.after_sweep(noted, tmp_path)
    assert report.stat().st_mtime_ns == before, "it is up to date"
    compare.after_sweep(replace(noted, costs=("time/epoch_s",)), tmp_path)
    assert json.loads(report.read_text())["costs"] == ["time/epoch_s", "parameters"]
    report.write_text(json.dumps(content | {"costs": ["test/error"]}))  # not of this program
    compare.after_sweep(plan, tmp_path)
    assert json.loads(report.read_text())["costs"] == []


def test_costs_are_columns_figures_and_a_front(tmp_path: Path) -> None:
    recorded = []
    for batch, parameters in ((5, 900), (6, 300), (30, 500)):
        for seed in (1, 2):
            run = make_run(tmp_path, batch, seed)
            run.final["model/parameters"] = float(parameters)
            recorded.append(run)
    selection = Selection(
        "sweep abc", recorded, Journals(), sweep="abc",
        costs=("parameters", "time/epoch_s", "machine/none"),
    )  # fmt: skip
    comparison, _ = compare.build(replace(selection, costs=("parameters",)), tmp_path)
    found = {row["batch"]: (row["parameters_mean"], row["on_front"])
             for row in comparison.setting_rows()}  # fmt: skip
    assert found == {"5": (900, True), "6": (300, True), "30": (500, False)}
    assert json.loads(comparison.to_json())["answer"].endswith(
        " On the Pareto front of validation error, parameters: batch=5, batch=6."
    )
    (figure,) = [f for f in comparison.figures if f.title == "Parameters against error"]
    assert "parameters, mean over seeds" in figure.chart.svg
    assert ">front</th>" in page.page(comparison)
    unknown, _ = compare.build(selection, tmp_path)
    assert unknown.setting_rows()[0]["machine_none_mean"] is None
    assert not any(row["on_front"] for row in unknown.setting_rows())
    assert "No setting has a value of each of validation error" in unknown.to_json()
    plain, _ = compare.build(replace(selection, costs=()), tmp_path)
    assert not {"on_front", "parameters_mean"} & plain.setting_rows()[0].keys()
    assert "front" not in json.loads(plain.to_json())["answer"]
