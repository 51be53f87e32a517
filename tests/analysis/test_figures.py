"""Which figures a report has."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.analysis import figures
from harness.analysis.figures import Best
from harness.analysis.outcome import Outcome
from harness.analysis.settings import group
from tests.analysis.conftest import build, make_run, seed_run


def test_two_swept_keys_make_a_map(tmp_path: Path) -> None:
    recorded = []
    for batch in (5, 10):
        for lr in ("0.1", "0.2"):
            run = make_run(tmp_path, batch, int(10 * float(lr)))
            run.params.update(seed="1", lr=lr)
            recorded.append(run)
    comparison = build(tmp_path, *recorded)
    assert "Validation error by batch and lr" in [figure.title for figure in comparison.figures]
    assert all("McNemar" in standing.why for standing in comparison.standings[1:])


def test_curves_of_different_length_are_padded() -> None:
    table = figures.padded([np.array([1.0, 2.0]), np.array([3.0])])
    np.testing.assert_array_equal(table, [[1, 2], [3, math.nan]])
    assert figures.padded([np.empty(0)]).shape == (1, 0)


def test_a_single_epoch_has_no_learning_curve() -> None:
    for val, titles in (([0.2], []), ([0.2, 0.1], ["Validation error"])):
        settings = group([seed_run(batch, 1, val, 0.1) for batch in (16, 32)], [])
        assert [figure.title for figure in figures.curves(settings)] == titles


def test_points_have_the_rows_of_the_ranking() -> None:
    """The long names of the points on the Pareto front begin with them."""
    settings = [
        group([seed_run(16, 1, [error], 0.1, activation=f"mine.parts:{name * 30}")], [])[0]
        for name, error in (("a", 0.3), ("b", 0.2), ("c", 0.1))
    ]
    fast = [
        replace(setting, values={"activation": setting.runs[0].settings["activation"]})
        for setting in settings
    ]
    (figure,) = figures.front(fast[::-1])
    assert "1  activation=mine.parts:cccc" in figure.chart.svg
    assert "its row in the ranking" in figure.caption
    assert "faster and better than the best one." in figure.caption, "a line needs two"


def test_different_losses_are_told_at_their_curves() -> None:
    def captions(*losses: str) -> list[str]:
        runs = []
        for batch, loss in enumerate(losses):
            run = seed_run(batch, 1, [0.2, 0.1], 0.1, **{"loss.name": loss})
            runs.append(replace(run, curves={**run.curves, "train/loss": np.array([2.0, 1.0])}))
        return [figure.caption for figure in figures.curves(group(runs, []))]

    told = "The settings have different losses (loss), whose values are not comparable"
    assert [told in caption for caption in captions("hinge", "cross_entropy")] == [False, True]
    assert [told in caption for caption in captions("hinge", "hinge")] == [False, False]


def test_words_are_not_drawn_as_numbers() -> None:
    runs = [seed_run(16, 1, [0.1], 0.1, norm=norm) for norm in ("none", "batch", "2")]
    titles = [figure.title for figure in figures.swept(group(runs, []))]
    assert titles == ["Time against error"]


def test_only_what_is_known_of_the_best_run_is_drawn() -> None:
    assert figures.best(Best(), None, "a=1", "01") == []
    labels, confidence = np.array([0, 1, 1]), np.full(3, 0.9, np.float32)
    right, wrong = Outcome(labels, labels, confidence), Outcome(labels, labels[::-1], confidence)
    images = np.zeros((3, 4, 4), np.uint8)

    def titles(best: Best, runner_up: tuple[str, Outcome] | None = None) -> list[str]:
        return [figure.title for figure in figures.best(best, runner_up, "a=1", "01")]

    matrix = "Confusion matrix of a=1"
    assert titles(Best(wrong)) == [matrix]
    assert titles(Best(right, images)) == [matrix], "nothing is wrong"
    assert titles(Best(wrong, images)) == [matrix, "Most confidently wrong"]
    assert titles(Best(right), ("a=2", wrong)) == [matrix, "Difference from the runner-up, a=2"]
    assert titles(Best(weights=np.ones((4, 4, 5)))) == ["First-layer weights"]
    huge = np.full((4, 4, 5), 1e30, np.float32)  # of a learning rate that is far too high
    assert titles(Best(weights=huge)) == ["First-layer weights"], "without a warning"
