"""The study of a search: Optuna's samplers and pruners, one database, each trial taken once."""

import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState, create_trial

from harness.run.search.search import Search
from harness.run.search.storage import Storage
from harness.run.search.study import (
    best,
    ended,
    is_removed,
    open_study,
)
from harness.runfolder import removed
from harness.runfolder.config import ConfigError
from tests.conftest import ROOT, composed
from tests.run.search.conftest import sweeper

pytestmark = pytest.mark.filterwarnings("ignore")  # Optuna's experimental samplers


def search_in(outputs: Path, name: str = "s", **changes: object) -> Search:
    base = replace(composed(), outputs=str(outputs))
    return Search(name, sweeper(**changes), (), (), base, ())


def test_every_sampler_and_pruner_is_optunas_own(tmp_path: Path) -> None:
    for sampler, pruner, expected in (
        ("tpe", "median", "TPESampler MedianPruner"),
        ("random", "halving", "RandomSampler SuccessiveHalvingPruner"),
        ("qmc", "hyperband", "QMCSampler HyperbandPruner"),
        ("tpe", "none", "TPESampler NopPruner"),
    ):
        study = open_study(search_in(tmp_path, sampler=sampler, pruner=pruner))
        assert f"{type(study.sampler).__name__} {type(study.pruner).__name__}" == expected


def test_optuna_prints_no_warning(tmp_path: Path) -> None:
    """Some of its samplers are called experimental."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        open_study(search_in(tmp_path, sampler="qmc"))
    assert [str(each.message) for each in shown] == []


def test_a_continued_search_does_not_repeat_its_first_proposals(tmp_path: Path) -> None:
    proposals = []
    for _ in range(2):
        study = open_study(search_in(tmp_path, sampler="random"))
        trial = study.ask()
        proposals.append(trial.suggest_float("lr", 0, 1))
        study.tell(trial, 0.5)
    assert proposals[0] != proposals[1]
    again = open_study(search_in(tmp_path / "again", sampler="random"))
    assert again.ask().suggest_float("lr", 0, 1) == proposals[0], "the seed decides"


def test_interrupted_trials_do_not_count_towards_the_total(tmp_path: Path) -> None:
    study = open_study(search_in(tmp_path, sampler="random"))
    complete, pruned, failed, interrupted, _running = (study.ask() for _ in range(5))
    study.tell(complete, 0.5)
    study.tell(pruned, state=TrialState.PRUNED)
    failed.set_user_attr("error", "why")
    study.tell(failed, state=TrialState.FAIL)
    study.tell(interrupted, state=TrialState.FAIL)
    assert [trial.number for trial in ended(study)] == [0, 1, 2]


def test_searches_that_start_at_once_share_one_new_database(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; "
        "import optuna.samplers, optuna.pruners; optuna.storages.RDBStorage; "
        "from harness.run.search.study import open_study; "
        "from tests.run.search.test_study import search_in; "
        f"search = search_in(Path({str(tmp_path)!r}), sys.argv[1]); "
        "sys.stdin.read(); open_study(search)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", script, f"s{number}"],
            cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    time.sleep(3)  # all have imported what they need, and start when their input closes
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr


@pytest.mark.parametrize(("objective", "first"), [("val/loss", "0.25"), ("val/loss:max", "0.5")])
def test_the_best_settings_are_as_they_were_tried(
    tmp_path: Path, objective: str, first: str
) -> None:
    search = search_in(tmp_path)
    search = replace(search, base=replace(search.base, objective=objective))
    study = open_study(search)
    for lr, value in ((0.5, 0.3), (0.1 + 0.2, 0.2), (0.25, 0.1), (0.1 + 0.2, 0.2)):
        study.enqueue_trial({"lr": lr})
        trial = study.ask()
        trial.suggest_float("lr", 0, 1)
        study.tell(trial, value)
    study.ask()  # unfinished
    expected = [{"lr": first}, {"lr": "0.30000000000000004"}]
    assert best(search.outputs, search.id, 2) == expected
    assert len(best(search.outputs, search.id, 9)) == 3
    with pytest.raises(ConfigError, match="has no trials of search other; repeat its command"):
        best(search.outputs, "other", 2)
    with pytest.raises(ConfigError, match="has no trials of search"):
        best(tmp_path / "empty", search.id, 2)


@pytest.mark.parametrize("damage", ["text", "cut", "header", "schema"])
def test_a_damaged_database_is_one_line(tmp_path: Path, damage: str) -> None:
    Storage(tmp_path).check()  # there is none
    study = open_study(search_in(tmp_path))
    study.tell(study.ask(), 0.5)
    Storage(tmp_path).check()

    def check(outputs: Path) -> None:
        Storage(outputs).check()

    path = tmp_path / "optuna.db"
    content = path.read_bytes()
    path.write_bytes(
        {
            "text": b"rotten",
            "cut": content[: len(content) // 2],
            "header": b"\0" * 100 + content[100:],
            "schema": content.replace(b"CREATE TABLE studies", b"CREATE TABLE nothing"),
        }[damage]
    )
    for call in (check, lambda outputs: open_study(search_in(outputs))):
        if (damage, call) != ("schema", check):
            with pytest.raises(ConfigError, match=r"optuna\.db: not a usable record") as caught:
                call(tmp_path)
            assert "\n" not in str(caught.value)


def test_of_several_objectives_the_best_are_on_the_front(tmp_path: Path) -> None:
    search = replace(search_in(tmp_path, pruner="median"), costs=("parameters", "val/f1:max"))
    study = open_study(search)
    assert [direction.name for direction in study.directions] == [
        "MINIMIZE", "MINIMIZE", "MAXIMIZE",
    ]  # fmt: skip
    assert type(study.pruner).__name__ == "NopPruner", "Optuna prunes by one objective only"
    for lr, values in ((0.1, (0.3, 5, 0.5)), (0.2, (0.2, 9, 0.5)), (0.3, (0.4, 9, 0.4))):
        study.enqueue_trial({"lr": lr})
        trial = study.ask()
        trial.suggest_float("lr", 0, 1)
        study.tell(trial, values)
    assert best(search.outputs, search.id, 9) == [{"lr": "0.2"}, {"lr": "0.1"}]
    study.enqueue_trial({"lr": 0.4}, user_attrs={"runs": ["removed"]})
    trial = study.ask()
    trial.suggest_float("lr", 0, 1)
    study.tell(trial, (0.1, 1, 0.9))
    found = best(search.outputs, search.id, 9)
    assert found == [{"lr": "0.2"}, {"lr": "0.1"}], "what was removed keeps no other off the front"
    for sampler in ("tpe", "random", "qmc", "nsga2"):
        again = replace(search, settings=replace(search.settings, sampler=sampler))
        study = open_study(replace(again, id=sampler))
        trial = study.ask()
        trial.suggest_float("lr", 0, 1)
        study.tell(trial, (0.1, 2.0, 0.5))


def test_what_was_removed_here_counts_as_removed_also_in_a_shared_database(tmp_path: Path) -> None:
    """Of commands with other outputs, a run that is not here is theirs."""
    trial = create_trial(value=0.5, user_attrs={"runs": ["there", "mine"]})
    place = Storage(tmp_path, "postgresql://ada@h/studies")
    assert is_removed(Storage(tmp_path), trial)
    assert not is_removed(place, trial)
    run = removed.removed_run(tmp_path, "mine")
    run.folder.mkdir(parents=True)
    assert is_removed(place, trial)
    run.folder.rmdir()
    (removed.place(tmp_path) / removed.GONE).write_text('{"run": "mine"}\n')
    assert is_removed(place, trial), "also when gc has removed it for good"
