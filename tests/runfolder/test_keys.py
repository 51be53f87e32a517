"""The plans of sweeps on disk."""

import os
from pathlib import Path

from harness.runfolder.plan import Plan, all_plans, sweeps_folder


def test_the_plan_saved_last_is_the_newest_whatever_the_files_times(tmp_path: Path) -> None:
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
    assert all_plans(tmp_path) == [first, second], "without a time of its own, the file's"
