"""The plans of sweeps on disk."""

import os
from pathlib import Path

import pytest

from harness.runfolder.plan import Plan, SweepJob, all_plans, load_plan, sweeps_folder
from tests.conftest import new_run


def test_a_plan_is_read_as_it_was_saved(tmp_path: Path) -> None:
    jobs = (SweepJob("abc", "batch=16", {"batch": "16"}, "key"),)
    plan = Plan("0123456789", ("-m", "batch=16"), jobs)
    plan.save(tmp_path)
    assert load_plan(tmp_path, plan.id) == plan
    assert all_plans(tmp_path) == [plan]


def test_an_unknown_id_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sweep 'abc' is not in"):
        load_plan(tmp_path, "abc")
    assert all_plans(tmp_path) == []


def test_the_runs_of_a_plan_are_in_its_order(tmp_path: Path) -> None:
    first, second = new_run(tmp_path), new_run(tmp_path)
    jobs = tuple(SweepJob(run.id, "n", {}, "k") for run in (second, first))
    runs = Plan("p", (), jobs).runs(tmp_path)
    assert [run.folder for run in runs] == [second.folder, first.folder]


def test_the_plan_saved_last_is_the_newest_whatever_the_times_of_the_files(tmp_path: Path) -> None:
    first, second = Plan("b", ("-m", "seed=1,2"), ()), Plan("a", ("-m", "seed=3,4"), ())
    for plan in (first, second):
        plan.save(tmp_path)
    for number, name in enumerate(("a", "b"), 1):
        os.utime(sweeps_folder(tmp_path) / f"{name}.json", (number, number))
    assert all_plans(tmp_path) == [first, second]
    first.save(tmp_path)
    assert all_plans(tmp_path) == [second, first], "its command was repeated"
    path = sweeps_folder(tmp_path) / "b.json"
    path.write_text(path.read_text().replace("saved_ns", "other"))
    os.utime(path, (0, 0))
    assert all_plans(tmp_path) == [first, second], "without a time of its own, the file's counts"
