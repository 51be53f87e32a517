"""The table of a sweep over seeds: its settings as the report ranks them, and no run lost."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.run.fitted_table import FittedTable
from harness.run.run_table import sweep_tables
from harness.run.setting_table import seeds_text, setting_table
from harness.run.summary import summarize
from harness.runfolder.plan import Plan, SweepJob
from harness.runfolder.run import Run
from harness.runfolder.status import ExitStatus
from harness.tracking.delivery import Report
from tests.conftest import new_run, record_training


def trained(
    outputs: Path, batch: int, seed: int, error: float, status: str = "FINISHED", *more: str
) -> Run:
    name = f"batch={batch},seed={seed}"
    run = new_run(outputs, f"batch={batch}", f"seed={seed}", *more, name=name)
    return record_training(run, error, status=status, error=None if status != "FAILED" else "nan")


def plan_of(*runs: Run) -> Plan:
    jobs = tuple(
        SweepJob(run.id, run.name, dict(pair.split("=") for pair in run.name.split(",")), "key")
        for run in runs
    )
    return Plan("0123456789", ("-m", "batch=16,64", "seed=1,2"), jobs)


def rows(table: FittedTable) -> list[tuple[str, ...]]:
    return list(zip(*(map(str, column.cells) for column in table.columns), strict=True))


def titled(runs: list[Run]) -> tuple[str, list[tuple[str, ...]]]:
    table = setting_table(runs, plan_of(*runs))
    assert table is not None
    return str(table.title), rows(table)


def test_settings_are_means_over_their_seeds_best_first(tmp_path: Path) -> None:
    values = {(16, 1): 0.20, (16, 2): 0.22, (64, 1): 0.10, (64, 2): 0.12, (64, 3): 0.14}
    runs = [trained(tmp_path, *key, error) for key, error in values.items()]
    table = setting_table(runs, plan_of(*runs))
    assert table is not None
    assert [str(column.header) for column in table.columns] == [
        "", "batch", "n", "seeds", "val error", "test error", "seconds", "status",
    ]  # fmt: skip
    first, second = rows(table)
    assert first == (
        "*", "64", "3", "1 to 3", "12.00 ± 2.00 %", "13.00 ± 2.00 %", "0.5", "FINISHED",
    )  # fmt: skip
    assert second[1:5] == ("16", "2", "1, 2", "21.00 ± 1.41 %")
    assert [row.style for row in table.rows] == ["bold", None]


def test_a_setting_says_which_seeds_it_lacks(tmp_path: Path) -> None:
    runs = [
        trained(tmp_path, 16, 1, 0.1),
        trained(tmp_path, 16, 2, 0.01, "KILLED"),
        trained(tmp_path, 16, 3, 0.1),
        trained(tmp_path, 64, 1, 0.01, "FAILED"),
        trained(tmp_path, 64, 2, 0.01, "FAILED"),
        new_run(tmp_path, "batch=64", "seed=3", name="batch=64,seed=3"),
    ]
    title, (first, second) = titled(runs)
    assert title == "mean ± sd over n seeds"
    assert first[1:5] == ("16", "2 of 3", "1, 3", "10.00 ± 0.00 %")
    assert first[-1] == "2 FINISHED, 1 KILLED (seed 2)"
    assert second[:5] == ("", "64", "0 of 3", "–", "–")
    assert second[-1] == "2 FAILED (seeds 1, 2), 1 CREATED (seed 3)"


def test_settings_that_a_search_pruned_are_counted(tmp_path: Path) -> None:
    runs = [trained(tmp_path, 16, seed, 0.1) for seed in (1, 2)]
    runs += [trained(tmp_path, batch, 1, 0.3, "KILLED") for batch in (64, 128)]
    plan = replace(plan_of(*runs), overrides=("-m", "hydra/sweeper=optuna"))
    table = setting_table(runs, plan)
    assert table is not None
    assert [row[1] for row in rows(table)] == ["16"]
    assert table.caption == "and 2 setting(s) without a finished run"


def test_equal_settings_and_marks_are_as_in_the_report(tmp_path: Path) -> None:
    runs = [
        trained(tmp_path, batch, seed, 0.1 + 0.01 * seed) for batch in (64, 16) for seed in (1, 2)
    ]
    runs += [trained(tmp_path, 128, seed, 0.15 + 0.02 * seed) for seed in (1, 2)]
    title, (first, second, third) = titled(runs)
    assert title == (
        "mean ± sd over n seeds, ordered by validation error   (* best, the first of 2 equal ones, "
        "= not distinguishable from it at 5 %)"
    )
    assert [row[:2] for row in (first, second, third)] == [("*", "64"), ("=", "16"), ("=", "128")]


def test_the_order_goes_by_the_objective(tmp_path: Path) -> None:
    best = "objective=val/loss:max"
    runs = [
        trained(tmp_path, batch, seed, batch / 10, "FINISHED", best)
        for batch in (16, 64)
        for seed in (1, 2)
    ]
    title, (first, _) = titled(runs)
    assert "ordered by validation loss" in title
    assert first[1:5] == ("64", "2", "1, 2", "6.4 ± 0")


def test_where_rows_of_runs_say_more(tmp_path: Path) -> None:
    single = [trained(tmp_path, 16, 1, 0.1), trained(tmp_path, 64, 2, 0.1)]
    assert setting_table(single, plan_of(*single)) is None
    repeated = [trained(tmp_path, 16, seed, 0.1) for seed in (1, 1, 2)]
    assert setting_table(repeated, plan_of(*repeated)) is None, "one would not be counted"
    bad = [trained(tmp_path, 16, seed, 0.1, "FAILED") for seed in (1, 2)]
    (table,) = sweep_tables(bad, [run.history() for run in bad], plan_of(*bad))
    assert list(table.columns[-1].cells) == [run.id for run in bad]


def test_other_source_is_counted(tmp_path: Path) -> None:
    runs = [trained(tmp_path, 16, seed, 0.1) for seed in (1, 2)]
    plan = plan_of(*runs)
    jobs = (replace(plan.jobs[0], other_source="commit abcdef0"), plan.jobs[1])
    table = setting_table(runs, replace(plan, jobs=jobs))
    assert table is not None
    assert rows(table)[0][-1] == "FINISHED, 1 with other source"


def test_a_line_says_what_lists_each_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [trained(tmp_path, 16, seed, 0.1) for seed in range(31)]
    for some, limit in ((runs[:2], ""), (runs, " --limit 31")):
        status = summarize(some, plan_of(*some), Report(), None, interrupted=False)
        assert status is ExitStatus.DONE
        command = f"python -m harness status 0123456789{limit} --outputs {tmp_path}"
        assert f"each run:                  {command}\n" in capsys.readouterr().out
    summarize(runs[:1], plan_of(*runs[:1]), Report(), None, interrupted=False)
    assert "each run:" not in capsys.readouterr().out


def test_seeds_are_listed_in_short() -> None:
    assert seeds_text(["10", "2", "1", "3", "7", "8"]) == "1 to 3, 7, 8, 10"
    assert seeds_text(["5"]) == "5"
    assert seeds_text([""]) == ""


def test_costs_are_columns_also_with_one_seed(tmp_path: Path) -> None:
    runs = [trained(tmp_path, batch, 1, error) for batch, error in ((16, 0.2), (64, 0.1))]
    runs.append(trained(tmp_path, 32, 1, 0.3, "FAILED"))
    plan = replace(plan_of(*runs), costs=("time/epoch_s", "parameters"))
    table = setting_table(runs, plan)
    assert table is not None
    heads = [str(column.header) for column in table.columns]
    assert heads[5:] == [
        "test error", "time/epoch_s", "parameters", "front", "seconds", "status",
    ]  # fmt: skip
    first, second, failed = rows(table)
    assert first[6:9] == ("0.5", "–", ""), "the number of parameters is not known"
    assert failed[4:] == ("–", "–", "–", "–", "–", "–", "1 FAILED (seed 1)")
    assert len(first) == len(second) == len(failed) == len(heads)
