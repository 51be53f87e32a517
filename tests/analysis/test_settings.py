"""Grouping runs into settings: what differs, repeated seeds, the order, and the summaries.

Covers: harness/analysis/seed_run.py
"""

import math
from dataclasses import replace

import pytest

from harness.analysis import statistics
from harness.analysis.settings import (
    ONE_SETTING,
    Setting,
    differing,
    group,
    natural,
    number,
    rounded,
    summarize,
    swept_numbers,
)
from tests.analysis.conftest import seed_run


def test_runs_that_differ_in_their_seed_only_are_one_setting() -> None:
    runs = [seed_run(16, seed, [0.5, value, 0.4], 0.2) for seed, value in ((1, 0.1), (2, 0.3))]
    notes: list[str] = []
    (setting,) = group([*runs], notes)
    assert setting.label == ONE_SETTING
    best, last = setting.best_val, setting.last_val
    assert (best.n, best.best, best.worst) == (2, 0.1, 0.3)
    assert best.mean == pytest.approx(0.2)
    assert best.deviation == pytest.approx(0.1 * math.sqrt(2))
    assert last.mean == pytest.approx(0.4)
    assert setting.chosen.run == "16-1"
    assert setting.chosen.best_epoch == 2
    assert notes == []


def test_only_what_differs_becomes_a_column() -> None:
    runs = [
        seed_run(16, 1, [0.1], 0.1, lr=0.1, width=8),
        seed_run(128, 1, [0.1], 0.1, lr=0.1, width=8),
        seed_run(16, 2, [0.1], 0.1, lr=0.1, width=8, momentum=0.9),
    ]
    assert differing(runs) == ["batch", "momentum"]
    labels = [setting.label for setting in group(runs, [])]
    assert labels == ["batch=16 momentum=0.9", "batch=16", "batch=128"]


def test_what_the_name_of_an_optimizer_tells_is_no_column() -> None:
    """Nor is the backend that follows from it, unless it was swept."""
    sgd = {"optimizer.name": "sgd", "backend": "numba"}
    adam = {"optimizer.name": "adam", "optimizer.beta1": 0.9, "backend": "numpy"}
    runs = [
        seed_run(16, 1, [0.1], 0.1, **values)
        for values in ({**sgd, "lr": 0.1}, {**sgd, "lr": 0.2}, {**adam, "lr": 0.001})
    ]
    assert differing(runs) == ["optimizer.name", "lr"]
    other = seed_run(16, 1, [0.1], 0.1, **{**adam, "lr": 0.001, "optimizer.beta1": 0.8})
    assert differing([*runs, other]) == ["optimizer.name", "lr", "optimizer.beta1"]
    labels = [each.label for each in group([*runs, other], [])]
    assert "optimizer=adam lr=0.001 optimizer.beta1=0.8" in labels
    assert labels[-2:] == ["optimizer=sgd lr=0.1", "optimizer=sgd lr=0.2"], "sgd has no beta1"
    models = [
        seed_run(16, 1, [0.1], 0.1, **{"model.name": name, "depth": depth})
        for name, depth in (("mlp", 1), ("conv", "null"))
    ]
    assert differing(models) == ["model.name"], "conv has no depth"
    compiled = seed_run(16, 1, [0.1], 0.1, **{**sgd, "lr": 0.1, "backend": "numpy"})
    assert set(differing([*runs, compiled])) == {"optimizer.name", "backend", "lr"}
    assert set(differing(runs[:2])) == {"lr"}


def test_the_learning_rate_that_each_optimizer_sets_is_no_column() -> None:
    """`-m optimizer=sgd,adam` is one column, named as it is typed."""
    runs = [
        seed_run(16, seed, [0.1], 0.1, **{"optimizer.name": name, "lr": lr})
        for name, lr in (("sgd", 0.2), ("adam", 0.001)) for seed in (1, 2)
    ]  # fmt: skip
    assert [setting.label for setting in group(runs, [])] == ["optimizer=adam", "optimizer=sgd"]
    slower = seed_run(16, 1, [0.1], 0.1, **{"optimizer.name": "adam", "lr": 0.0001})
    labels = [setting.label for setting in group([*runs, slower], [])]
    assert labels == [
        "optimizer=adam lr=0.0001", "optimizer=adam lr=0.001", "optimizer=sgd lr=0.2",
    ]  # fmt: skip


def test_numbers_have_as_few_digits_as_tell_them_apart() -> None:
    values = (0.12344, 0.12326, 0.5, 0.30000000000000004)
    runs = [seed_run(16, 1, [0.1], 0.1, lr=value) for value in values]
    settings = group(runs, [])
    assert [setting.label for setting in settings] == [
        "lr=0.1233", "lr=0.1234", "lr=0.3", "lr=0.5",
    ]  # fmt: skip
    assert settings[0].values["lr"] == "0.12326", "files have every digit"
    assert rounded(["16", "1e-3", "[0.5,0.25]"]) == {
        "16": "16", "1e-3": "1e-3", "[0.5,0.25]": "[0.5,0.25]",
    }  # fmt: skip
    assert rounded(["123456.5", "0.1"]) == {"123456.5": "123456.5", "0.1": "0.1"}


def test_what_only_one_trainer_has_is_no_column_unless_it_was_swept() -> None:
    ours = {"trainer.name": "scratch", "optimizer.name": "sgd", "width": 8, "lr": 0.1}
    own = {"trainer.name": "mine:fit", "trainer.rate": 0.5}
    runs = [
        seed_run(16, 1, [0.1], 0.1, **ours),
        seed_run(16, 1, [0.1], 0.1, **{**ours, "width": 16}),
        seed_run(16, 1, [0.1], 0.1, **own),
    ]
    assert differing(runs) == ["trainer.name", "width"]
    labels = [setting.label for setting in group(runs, [])]
    assert labels == [
        "trainer=mine:fit", "trainer=scratch width=8", "trainer=scratch width=16",
    ]  # fmt: skip
    faster = seed_run(16, 1, [0.1], 0.1, **{**own, "trainer.rate": 0.9})
    assert differing([*runs, faster]) == ["trainer.name", "width", "trainer.rate"]


def test_a_repeated_seed_is_no_new_evidence() -> None:
    notes: list[str] = []
    older, newer = seed_run(16, 1, [0.1], 0.1), seed_run(16, 1, [0.2], 0.1)
    (setting,) = group([older, newer], notes)
    assert setting.runs == (newer,)
    assert "1 run(s) repeat a seed" in notes[0]


def test_values_sort_as_people_expect() -> None:
    words = ["128", "16", "relu", "[64,32]", "1e-3", "[512,8]"]
    assert sorted(words, key=natural) == ["1e-3", "16", "128", "[64,32]", "[512,8]", "relu"]
    assert sorted(["m2²", "m10", "²"], key=natural) == ["m2²", "m10", "²"]
    assert number("nan") is None
    assert number("64_32") is None, "two widths"
    settings = [
        Setting({"batch": "16", "width": "[8]"}, ()),
        Setting({"batch": "2", "width": "8"}, ()),
    ]
    assert swept_numbers(settings) == ["batch"]


def test_the_best_epoch_is_the_latest_of_equals() -> None:
    run = seed_run(16, 1, [math.nan, 0.2, 0.1, 0.1, 0.3], 0.2)
    assert (run.best_epoch, run.best_val, run.last_val) == (4, 0.1, 0.3)
    assert run.seconds == 2.5
    assert run.test_interval == statistics.wilson(200, 1000)


def test_the_epoch_that_a_run_recorded_counts() -> None:
    run = seed_run(16, 1, [math.nan, 0.2, 0.1, 0.1, 0.3], 0.2)
    older = replace(run, final={**run.final, "best/epoch": 3.0})
    assert (older.best_epoch, older.best_val) == (3, 0.1), "the earliest of equals"
    last = replace(run, final={**run.final, "best/epoch": 5.0})
    assert (last.best_epoch, last.best_val) == (5, 0.3)
    assert replace(run, final={**run.final, "best/epoch": 6.0}).best_epoch == 4, "there is none"


def test_what_was_not_recorded_is_nan() -> None:
    run = replace(seed_run(16, 1, [], 0.2), curves={}, final={}, test_count=0)
    assert run.best_epoch is None
    values = (run.best_val, run.last_val, run.test, run.seconds, *run.test_interval)
    assert all(math.isnan(value) for value in values)


def test_a_summary_leaves_out_nan() -> None:
    summary = summarize([0.3, math.nan, 0.1])
    assert (summary.n, summary.best, summary.worst) == (2, 0.1, 0.3)
    assert (summary.mean, summary.deviation) == pytest.approx((0.2, 0.1 * math.sqrt(2)))
    assert math.isnan(summarize([0.1]).deviation)
    assert summarize([math.nan]).n == 0


def test_other_source_of_the_same_modules_is_another_setting() -> None:
    """And is shown only then: what follows from the names of the modules is no column."""
    own = {"trainer.name": "mine.cst:fit"}
    runs = [
        replace(seed_run(16, seed, [0.5], 0.5, **own, k=k), code="a" * 64)
        for k in (1, 2)
        for seed in (1, 2, 3)
    ]
    other = seed_run(16, 1, [0.1], 0.1, **{"trainer.name": "mine.other:fit"}, k=1)
    assert differing([*runs, replace(other, code="c" * 64)]) == ["trainer.name", "k"]
    notes: list[str] = []
    again = replace(seed_run(16, 1, [0.9], 0.9, **own, k=1), code="1234567890")
    settings = group([*runs, again], notes)
    assert [(each.label, len(each.runs)) for each in settings] == [
        ("k=1 code=12345678", 1), ("k=1 code=aaaaaaaa", 3), ("k=2 code=aaaaaaaa", 3),
    ]  # fmt: skip
    assert notes == []
    assert swept_numbers(settings) == ["k"]
