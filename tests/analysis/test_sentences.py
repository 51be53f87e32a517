"""A comparison as sentences: every claim has its numbers, its test and its p."""

import re
from dataclasses import replace

import numpy as np

from harness.analysis import ranking
from harness.analysis.sentences import sentences
from harness.analysis.settings import group
from harness.runfolder.objective import Objective
from tests.analysis.conftest import outcome, seed_run


def test_a_claim_for_each_setting() -> None:
    generator = np.random.default_rng(3)
    runs = [
        seed_run(batch, seed, [error], error + generator.normal(0, 1e-3))
        for batch, error in ((16, 0.02), (32, 0.0201), (64, 0.03)) for seed in range(1, 8)
    ]  # fmt: skip
    lines = sentences(ranking.stand(ranking.ordered(group(runs, []), []), {}), data="mnist")
    number = r"\d\.\d\d"
    assert len(lines) == 3
    assert re.fullmatch(
        rf"batch=16 on mnist was chosen for the lowest validation error and has a test error of "
        rf"{number} % ± {number}, n = 7\.",
        lines[0],
    )
    assert re.fullmatch(
        rf"No difference in test error between batch=16 and batch=32 \({number} % ± {number}, "
        rf"n = 7\) was shown \({number} percentage points; p = 0\.\d+, .*sign flips over 7 seeds, "
        r"Holm-corrected for 2 comparisons\)\.",
        lines[1],
    )
    assert re.match(
        rf"batch=64 \({number} % ± {number}, n = 7\) has a higher test error than batch=16 \(by "
        rf"1\.\d\d percentage points; p = 0\.0\d+, ",
        lines[2],
    )


def test_what_was_not_tested_says_why() -> None:
    runs = [seed_run(batch, 1, [error], error) for batch, error in ((16, 0.02), (32, 0.03))]
    standings = ranking.stand(ranking.ordered(group(runs, []), []), {})
    assert sentences(standings, data="")[1] == (
        "batch=32 (3.00 %, n = 1) was not tested against batch=16: fewer than two seeds in common, "
        "and no test predictions available."
    )
    outcomes = {"16-1": outcome(range(20)), "32-1": outcome(range(60))}
    standings = ranking.stand(ranking.ordered(group(runs, []), []), outcomes)
    assert sentences(standings, data="")[1] == (
        "batch=32 (3.00 %, n = 1) has a higher test error than batch=16 (by 4.00 percentage "
        "points; p < 0.001, McNemar on 1,000 examples, one seed)."
    )


def test_a_metric_that_is_higher_where_it_is_better() -> None:
    objective = Objective.parse("val/score:max")
    runs = [
        seed_run(batch, seed, [value], value + seed / 1000, objective)
        for batch, value in ((16, 5.0), (32, 3.0)) for seed in range(1, 8)
    ]  # fmt: skip
    lines = sentences(ranking.stand(ranking.ordered(group(runs, []), []), {}), data="")
    assert lines[0].startswith("batch=16 was chosen for the highest validation score")
    assert lines[0].endswith(" has a test score of 5.0040 ± 0.0022, n = 7."), "as in the report"
    assert "has a lower test score than batch=16 (by 2; p " in lines[1]


def test_one_setting() -> None:
    runs = [seed_run(16, seed, [0.02], 0.02) for seed in (1, 2)]
    (line,) = sentences(ranking.stand(group(runs, []), {}), data="mnist")
    assert line == "the one setting on mnist has a test error of 2.00 % ± 0.00, n = 2."


def test_a_verdict_leads_and_nothing_else_is_claimed() -> None:
    runs = [seed_run(b, s, [b / 1e3], (b + s) / 1e3) for b in (16, 32) for s in range(1, 7)]
    runs = [replace(run, is_raced=True) for run in runs]
    standings = ranking.stand(ranking.ordered(group(runs, []), []), {})
    first, _, other = sentences(standings, data="", verdict="decided after 12 of 20 runs. More")
    assert first == "Decided after 12 of 20 runs."
    assert other.endswith("was not tested against batch=16: seeds were added by results.")
