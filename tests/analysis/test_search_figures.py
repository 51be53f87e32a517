"""The figures of a search.

Covers: harness/analysis/search_charts.py
"""

import re
from dataclasses import replace

import pytest

from harness.analysis.drawing import Chart
from harness.analysis.search_figures import figures
from harness.analysis.trials import End, Trial
from harness.runfolder.objective import DEFAULT, Objective


def tried(count: int = 20, **more: str) -> list[Trial]:
    ends = [End.WHOLE, End.ENDED, End.PRUNED, End.BROKEN]
    return [
        Trial(
            {"lr": f"{0.001 * 2 ** (n % 7)}", "optimizer": ["sgd", "adam"][n % 2], **more},
            value=0.5 / (1 + n), epochs=3, spent=3 * n + 3, end=ends[n % 4],
        )
        for n in range(count)
    ]  # fmt: skip


def words(chart: Chart) -> set[str]:
    """The texts of a chart."""
    return set(re.findall(r"<text[^>]*>([^<]*)</text>", chart.svg))


def test_a_search_has_its_history_its_keys_and_slices() -> None:
    found = figures(tried(), DEFAULT)
    assert [(figure.section, figure.title) for figure in found[:3]] == [
        ("search", "The search"),
        ("search", "Epochs of each trial"),
        ("search", "Importance of the keys"),
    ]
    assert {figure.title for figure in found[3:]} == {"Error by lr", "Error by optimizer"}
    assert found[0].caption.startswith(
        "5 finished, 5 ended with fewer seeds, 5 pruned, 5 not finished. "
    )
    assert found[1].caption == "60 epochs in all, over all seeds."
    assert {"best so far", "pruned", "validation error (%)"} <= words(found[0].chart)
    assert {"lr", "optimizer"} <= words(found[2].chart)
    assert "of 20 trials" in found[2].caption
    assert " 10 of them ended before their last epoch and " in found[2].caption
    whole = [replace(each, end=End.WHOLE) for each in tried()]
    assert "before their last epoch" not in figures(whole, DEFAULT)[2].caption
    by_title = {figure.title: figure for figure in found}
    assert {"adam", "sgd"} <= words(by_title["Error by optimizer"].chart)
    assert {"0.001", "0.064"} <= words(by_title["Error by lr"].chart)


def test_the_best_so_far_is_in_the_legend_where_there_is_a_line() -> None:
    paused = [replace(each, end=End.PAUSED) for each in tried(3)]
    last = replace(paused[-1], end=End.WHOLE)
    assert "best so far" not in words(figures([*paused[:2], last], DEFAULT)[0].chart)
    first = replace(paused[0], end=End.WHOLE)
    assert "best so far" in words(figures([first, *paused[1:]], DEFAULT)[0].chart)


def test_two_long_values_are_rounded() -> None:
    trials = [replace(each, values={"a": f"0.{n}5358958571"}) for n, each in enumerate(tried(2), 3)]
    assert {"0.354", "0.454"} <= words(figures(trials, DEFAULT)[-1].chart)


def test_the_pauses_of_trials_are_shown() -> None:
    trials = [replace(each, end=End.PAUSED, epochs=3, pauses=(1, 3)) for each in tried(5)]
    trials += [replace(each, pauses=(1,)) for each in tried(2)] + tried(1)
    ends = figures(trials, DEFAULT)[1]
    assert ends.caption.endswith("A white line is where a trial paused; 7 trials went on later.")
    assert "paused" in words(ends.chart)
    assert ends.chart.svg != figures([replace(e, pauses=()) for e in trials], DEFAULT)[1].chart.svg


def test_few_trials_have_no_importance() -> None:
    titles = [figure.title for figure in figures(tried(4), DEFAULT)]
    assert titles == ["The search", "Epochs of each trial", "Error by lr", "Error by optimizer"]
    (first, *_) = figures(tried(4), DEFAULT)
    assert first.caption.endswith("How important each key is, fewer than 12 trials cannot tell.")
    assert figures(tried(1), DEFAULT) == []


def test_a_search_without_a_whole_trial_has_no_best() -> None:
    trials = [replace(trial, end=End.PRUNED) for trial in tried(5)]
    shown = words(figures(trials, DEFAULT)[0].chart)
    assert "best so far" not in shown
    assert "pruned" in shown


@pytest.mark.parametrize("name", ["val/loss", "val/own:max"])
def test_the_objective_is_named(name: str) -> None:
    objective = Objective.parse(name)
    first = figures(tried(), objective)[0]
    assert f"{objective.title}{objective.unit}" in words(first.chart)


def test_many_long_choices_are_upright() -> None:
    trials = [
        replace(trial, values={"activation": f"mine.parts:activation{number}"})
        for number, trial in enumerate(tried())
    ]
    (chart,) = [f.chart for f in figures(trials, DEFAULT) if f.title == "Error by activation"]
    assert "rotate(-90)" in chart.svg
