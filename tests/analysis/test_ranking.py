"""Ranking, ties and pairs, on tables made by hand and by simulation."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from harness.analysis import fields, page, ranking, tables
from harness.analysis.outcome import Outcome
from harness.analysis.ranking import BEST, BETTER, HIGHEST, TIE, UNKNOWN, WORSE
from harness.analysis.seed_run import SeedRun
from harness.analysis.settings import group
from harness.runfolder.objective import Objective
from tests.analysis.conftest import outcome, seed_run


def rank(
    runs: Sequence[SeedRun], outcomes: dict[str, Outcome] | None = None
) -> tuple[list[ranking.Standing], list[str]]:
    notes: list[str] = []
    settings = ranking.ordered(group(runs, notes), notes)
    return ranking.stand(settings, outcomes or {}), notes


def test_the_ranking_is_by_validation_and_the_test_by_test_errors() -> None:
    runs = []
    for seed in range(1, 6):
        wobble = 0.0001 * seed
        runs += [
            seed_run(16, seed, [0.9, 0.010 + wobble], 0.020 + wobble),
            seed_run(32, seed, [0.011 + wobble, 0.9], 0.020 + 0.0007 * (-1) ** seed + wobble),
            seed_run(64, seed, [0.020], 0.030 + 2 * wobble),
            seed_run(99, seed, [0.030], 0.010 - wobble),
        ]
    standings, notes = rank(runs)
    assert notes == []
    assert [standing.setting.values["batch"] for standing in standings] == ["16", "32", "64", "99"]
    assert [standing.verdict for standing in standings] == [BEST, TIE, WORSE, BETTER]
    assert [standing.rank for standing in standings] == [1, 2, 3, 4]
    assert standings[1].seeds.startswith(("about ", "more than "))
    assert "paired t over 5 seeds" in standings[1].why
    row = fields.setting_fields(standings[1])
    assert row["val_error_best_epoch_mean"] == pytest.approx(0.0113)
    assert row["val_error_last_epoch_mean"] == pytest.approx(0.9)
    assert row["best_epoch_mean"] == 1


def test_the_best_epoch_and_the_last_are_not_ranked_without_a_word() -> None:
    runs = [
        seed_run(16, seed, [0.02], 0.03, weights=weights)
        for seed in (1, 2)
        for weights in ("best", "last")
    ]
    _, notes = rank(runs)
    assert [note.partition(" have the lowest validation error of all")[0] for note in notes] == [
        "runs with weights=best"
    ]
    assert rank(runs[::2])[1] == rank(runs[1::2])[1] == []


@pytest.mark.parametrize(
    ("metric", "key", "is_noted"),
    [
        ("val/loss", "loss", True),
        ("val/loss", "loss.scale", True),
        ("val/error", "loss", False),
        ("val/loss", "label_smoothing", False),
        ("train/loss", "label_smoothing", True),
    ],
)
def test_losses_of_different_kinds_are_not_ranked_without_a_word(
    metric: str, key: str, is_noted: bool
) -> None:
    by = Objective(metric)
    runs = [seed_run(16, s, [0.02], 0.03, by, **{key: x}) for s in (1, 2) for x in (0.1, 0.2)]
    _, notes = rank(runs)
    assert any("are not comparable" in note for note in notes) == is_noted


def test_settings_that_were_ended_are_after_those_with_all_seeds() -> None:
    runs = [seed_run(16, seed, [0.02], 0.03) for seed in (1, 2, 3)]
    runs += [seed_run(32, 1, [0.01], 0.03), seed_run(64, 1, [0.03], 0.03)]
    runs += [seed_run(64, seed, [0.03], 0.03) for seed in (2, 3)]
    notes: list[str] = []
    order = ranking.whole_first(ranking.ordered(group(runs, notes), notes), notes)
    assert [setting.values["batch"] for setting in order] == ["16", "64", "32"]
    assert notes == [
        "1 setting(s) with fewer than 3 seeds are after those with all: they could no longer "
        "win, or a run failed or is not trained yet"
    ]


@pytest.mark.parametrize("seeds", [5, 6, 7, 8, 9])
def test_more_seeds_never_hide_a_plain_difference(seeds: int) -> None:
    """Twelve settings 2 to 22 points apart: Holm's correction must not make the flips powerless."""
    noise = np.random.default_rng(seeds).normal(0, 1e-4, (12, seeds))
    runs = [
        seed_run(batch, seed, [0.01 + 0.02 * batch], 0.01 + 0.02 * batch + noise[batch, seed - 1])
        for batch in range(12)
        for seed in range(1, seeds + 1)
    ]
    standings, _ = rank(runs)
    assert [standing.verdict for standing in standings] == [BEST, *[WORSE] * 11]


def test_one_seed_is_tested_over_the_images() -> None:
    runs = [seed_run(b, 1, [0.01 * b], 0.02) for b in (1, 2, 3)]
    outcomes = {
        "1-1": outcome(range(20)),
        "2-1": outcome([*range(18), 30, 31, 32]),
        "3-1": outcome([*range(18), *range(100, 130)]),
    }
    standings, _ = rank(runs, outcomes)
    assert [standing.verdict for standing in standings] == [BEST, TIE, WORSE]
    assert standings[1].seeds == "unknown (one seed)"

    assert standings[2].difference == pytest.approx((30 - 2) / 1000)
    notes: list[str] = []
    pairs = ranking.pairs([s.setting for s in standings], outcomes, notes)
    assert [(p.only_first, p.only_second) for p in pairs] == [(2, 3), (2, 30), (3, 30)]
    assert notes == []


@pytest.mark.parametrize(
    ("seeds", "words"), [((3, 4), "no seed in common"), ((2, 3), "one seed in common")]
)
def test_settings_of_several_seeds_that_differ_say_so(seeds: tuple[int, int], words: str) -> None:
    runs = [seed_run(1, seed, [0.01], 0.02) for seed in (1, 2)]
    runs += [seed_run(2, seed, [0.02], 0.02) for seed in seeds]
    same = outcome(range(20))
    standings, _ = rank(runs, {each.run: same for each in runs})
    assert standings[1].verdict == TIE
    assert standings[1].seeds == f"unknown ({words})"


def test_without_predictions_one_seed_is_not_compared() -> None:
    standings, _ = rank([seed_run(b, 1, [0.01 * b], 0.02) for b in (1, 2)])
    assert standings[1].verdict == UNKNOWN
    assert "no test predictions available" in standings[1].why


def test_one_seed_is_tested_for_the_first_settings_only() -> None:
    runs = [seed_run(b, 1, [0.01 * b], 0.02) for b in range(1, ranking.SHOWN + 3)]
    shown = {f"{b}-1": outcome(range(20 * b)) for b in range(1, ranking.SHOWN + 1)}
    standings, _ = rank(runs, shown)
    assert UNKNOWN not in [each.verdict for each in standings[: ranking.SHOWN]]
    why = [each.why for each in standings[ranking.SHOWN :]]
    assert why == ["only the first 12 are tested on examples"] * 2
    assert len(why[0]) <= page.SENTENCE, "a cell of one line"


def test_other_data_is_refused_with_the_reason() -> None:
    first = [seed_run(1, seed, [0.01], 0.02) for seed in (1, 2)]
    second = [seed_run(2, seed, [0.02], 0.02, data="e") for seed in (1, 2)]
    standings, notes = rank([*first, *second])
    assert list(standings[0].setting.values) == ["batch", "data"]
    assert standings[1].verdict == UNKNOWN
    assert standings[1].why == "different data sets (d and e)"
    assert "2 different sets of validation examples" in notes[0]


def test_other_test_sets_are_refused_with_the_reason() -> None:
    runs = [seed_run(b, 1, [0.01 * b], 0.02) for b in (1, 2)]
    outcomes = {"1-1": outcome([1]), "2-1": outcome([1], count=900)}
    standings, _ = rank(runs, outcomes)
    assert standings[1].why == "different test sets (900 and 1,000 labels)"
    notes: list[str] = []
    assert ranking.pairs([s.setting for s in standings], outcomes, notes) == []
    assert "different test sets" in notes[0]


def test_the_same_reason_is_noted_once_in_either_order() -> None:
    runs = [
        seed_run(b, 1, [0.01 * b], 0.02, data=data) for b, data in ((1, "d"), (2, "e"), (3, "d"))
    ]
    outcomes = {f"{b}-1": outcome([1]) for b in (1, 2, 3)}
    notes: list[str] = []
    ranking.pairs([s.setting for s in rank(runs, outcomes)[0]], outcomes, notes)
    assert notes == [
        "2 pair(s) of settings were not tested on the same examples: different data sets (d and e)"
    ]


def test_without_validation_nothing_is_chosen() -> None:
    standings, notes = rank([seed_run(1, 1, [], 0.03), seed_run(2, 1, [], 0.02)])
    assert [standing.rank for standing in standings] == [None, None]
    assert standings[0].setting.values["batch"] == "2"
    assert standings[0].verdict == ranking.LOWEST
    assert "choosing on the test set" in notes[0]
    assert tables.lead(standings).startswith("batch=2 has the lowest test error")


def test_equal_settings_share_a_rank_whatever_the_rounding() -> None:
    values = {1: 0.2, 2: 0.10714285714285715, 3: 0.1071428571428571, 4: 0.107142857142857}
    standings, _ = rank([seed_run(b, 1, [value], 0.02) for b, value in values.items()])
    assert [standing.setting.values["batch"] for standing in standings] == ["2", "3", "4", "1"]
    assert [standing.rank for standing in standings] == [1, 1, 1, 4]
    assert tables.lead(standings).startswith(
        "batch=2, to which 2 others are equal (batch=3, batch=4), has the lowest validation error: "
    )


def test_of_equal_settings_the_oldest_is_first() -> None:
    """As in the table of a sweep, and for `register`."""
    standings, _ = rank([seed_run(b, 1, [0.25], 0.02) for b in (64, 16, 32)])
    assert [standing.setting.values["batch"] for standing in standings] == ["64", "16", "32"]


def test_equal_test_errors_without_validation_are_counted() -> None:
    standings, _ = rank([seed_run(b, 1, [], 0.02) for b in (1, 2)])
    assert tables.lead(standings).startswith(
        "batch=1, to which another is equal (batch=2), has the lowest test error: "
    )


def test_some_without_validation_come_last() -> None:
    standings, notes = rank([seed_run(1, 1, [], 0.01), seed_run(2, 1, [0.1, math.nan], 0.02)])
    assert [standing.rank for standing in standings] == [1, None]
    assert "1 setting(s) have no validation error and no rank: batch=1" in notes[0]


def test_the_tie_rule_rarely_calls_equal_settings_different() -> None:
    """Six equal settings, three seeds: any false alarm among five comparisons in at most 5 %."""
    generator = np.random.default_rng(11)
    alarms = 0
    for _ in range(300):
        val = generator.normal(0.02, 0.001, (6, 3))
        test = generator.binomial(10_000, generator.normal(0.02, 0.001, (6, 3))) / 10_000
        runs = [seed_run(b, s, [val[b, s]], test[b, s]) for b in range(6) for s in range(3)]
        standings, _ = rank(runs)
        alarms += any(standing.verdict in (WORSE, BETTER) for standing in standings)
    assert alarms / 300 < 0.05 + 0.03


def test_the_tie_rule_finds_what_is_there() -> None:
    generator = np.random.default_rng(12)
    hits = 0
    for _ in range(100):
        runs = [
            seed_run(b, s, [0.02 * b], generator.normal(0.02 * b, 0.001)) for b in (1, 2)
            for s in range(4)
        ]  # fmt: skip
        standings, _ = rank(runs)
        hits += standings[1].verdict == WORSE
    assert hits > 95


def test_pareto() -> None:
    assert ranking.pareto([3, 1, 2, 4], [1.0, 3.0, 3.5, 1.0]) == [1, 0]


def test_where_higher_is_better_the_highest_is_best() -> None:
    accuracy = Objective("val/accuracy", is_max=True)
    runs = []
    for seed in range(1, 6):
        wobble = 0.0001 * seed
        runs += [
            seed_run(16, seed, [0.1, 0.98 + wobble], 0.95 + wobble, accuracy),
            seed_run(32, seed, [0.97 + wobble, 0.1], 0.90 + 2 * wobble, accuracy),
            seed_run(64, seed, [0.96], 0.99 - wobble, accuracy),
        ]
    standings, _ = rank(runs)
    assert [standing.setting.values["batch"] for standing in standings] == ["16", "32", "64"]
    assert [standing.verdict for standing in standings] == [BEST, WORSE, BETTER]
    assert [standing.setting.chosen.seed for standing in standings] == ["5", "5", "1"]
    best = standings[0].setting.best_val
    assert (best.best, best.worst) == (pytest.approx(0.9805), pytest.approx(0.9801))


def test_one_seed_over_the_images_has_the_sign_of_the_objective() -> None:
    accuracy = Objective("val/accuracy", is_max=True)
    runs = [seed_run(b, 1, [1 - 0.01 * b], 0.98, accuracy) for b in (1, 2)]
    outcomes = {"1-1": outcome(range(20)), "2-1": outcome([*range(18), *range(100, 130)])}
    standings, _ = rank(runs, outcomes)
    assert (standings[1].verdict, standings[1].difference) == (WORSE, pytest.approx(-0.028))


def test_one_seed_of_a_loss_is_not_tested() -> None:
    """McNemar's test is about errors, which a lower loss need not have fewer of."""
    loss = Objective("val/loss")
    runs = [seed_run(b, 1, [0.01 * b], 0.02, loss) for b in (1, 2)]
    standings, _ = rank(runs, {f"{b}-1": outcome(range(20 * b)) for b in (1, 2)})
    assert standings[1].verdict == UNKNOWN
    assert standings[1].why.endswith("with one seed, only errors are tested")


def test_without_a_validation_metric_the_highest_on_test_is_named() -> None:
    accuracy = Objective("val/accuracy", is_max=True)
    standings, _ = rank([seed_run(b, 1, [], 0.1 * b, accuracy) for b in (1, 2)])
    assert [standing.setting.values["batch"] for standing in standings] == ["2", "1"]
    assert standings[0].verdict == HIGHEST
    assert tables.lead(standings).startswith("batch=2 has the highest test accuracy: 20.00 %")


def test_a_ranking_by_training_says_so() -> None:
    runs = [seed_run(b, 1, [0.1 * b], 0.1, Objective("train/loss")) for b in (1, 2)]
    (note,) = rank(runs)[1]
    assert note.startswith("the settings are ranked by training loss, which says how well they fit")
