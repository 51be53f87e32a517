"""The plans of sweeps on disk."""

import os
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from harness.runfolder import plan as module
from harness.runfolder.about import About
from harness.runfolder.plan import Plan, SweepJob, all_plans, load_plan, sweeps_folder
from tests.conftest import new_run


def test_a_plan_is_read_as_it_was_saved(tmp_path: Path) -> None:
    jobs = (SweepJob("abc", "batch=16", {"batch": "16"}, "key"),)
    plan = Plan("0123456789", ("-m", "batch=16"), jobs)
    plan.save(tmp_path)
    assert load_plan(tmp_path, plan.id) == plan
    assert all_plans(tmp_path) == [plan]


def test_a_change_keeps_what_another_machine_changed_just_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plan appears when the network file system is asked, under the lock."""
    plan = Plan("0123456789", ("-m",), ())
    plan.save(tmp_path)
    noted = replace(plan, about=About(note="theirs"))
    monkeypatch.setattr(module, "revalidate", lambda path: noted.save(tmp_path))
    archived = module.change(tmp_path, plan.id, lambda each: replace(each, is_archived=True))
    assert (archived.about.note, archived.is_archived) == ("theirs", True)


def test_a_search_is_known_by_its_command() -> None:
    words = ("-m", "hydra/sweeper=optuna", "lr=interval(0.1,1)")
    assert Plan("a", words, ()).is_search
    for quoted in ("hydra/sweeper='optuna'", "'hydra/sweeper=optuna'", "+hydra/sweeper=optuna"):
        assert Plan("a", ("-m", quoted), ()).is_search
    assert Plan("a", ("-m", 'until="decided"'), ()).is_raced
    assert Plan("a", words, ()).is_raced
    assert not Plan("a", words, (), costs=("parameters",)).is_raced, "each setting has all seeds"
    assert not Plan("a", ("-m", "lr=0.1,1"), ()).is_search


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
    text = path.read_text().replace("saved_ns", "other").replace("sha256", "another")
    path.write_text(text)
    os.utime(path, (0, 0))
    assert all_plans(tmp_path) == [first, second], "without a time of its own, the file's counts"


def test_damaged_plans_are_named_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = SweepJob("abc", "batch=16", {"batch": "16"}, "key")
    good = Plan("good", ("-m",), (job,))
    good.save(tmp_path)
    text = (sweeps_folder(tmp_path) / "good.json").read_text()
    for number, content in enumerate(
        (b"", b"{", b"[]", b"3", b"null", b"\xff", b'{"id": "x"}', b'{"jobs": 5, "id": "x"}',
         text.replace("batch=16", "batch=17").encode(), text.replace("good", "evil").encode())
    ):  # fmt: skip
        (sweeps_folder(tmp_path) / f"bad{number}.json").write_bytes(content)
    assert all_plans(tmp_path) == [good]
    for number in range(10):
        assert f"bad{number}.json: not the plan of a sweep" in caplog.text
        with pytest.raises(ValueError, match=rf"bad{number}\.json: ") as caught:
            load_plan(tmp_path, f"bad{number}")
        assert "\n" not in str(caught.value)


def test_the_readable_runs_of_a_plan_are_those_that_are_there(tmp_path: Path) -> None:
    runs = [new_run(tmp_path) for _ in range(3)]
    plan = Plan("p", (), tuple(SweepJob(run.id, "n", {}, "k") for run in runs))
    shutil.rmtree(runs[0].folder)
    runs[1].journal.write_bytes(b"")
    assert plan.readable_runs(tmp_path) == runs[2:]
    assert len(plan.runs(tmp_path)) == 3


def test_the_plan_saved_last_is_the_newest_when_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [Plan(name, (), ()) for name in "zya"]
    now = time.time_ns()
    for hours, plan in enumerate(plans):
        monkeypatch.setattr(time, "time_ns", partial(int, now - hours * 3_600_000_000_000))
        plan.save(tmp_path)
    assert all_plans(tmp_path) == plans
