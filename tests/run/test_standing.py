"""Ranks and times of runs that are still trained."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.run.standing import left_in_all_s, standings
from harness.runfolder.history import History
from harness.runfolder.liveness import this_process
from harness.runfolder.status import RunStatus
from tests.conftest import DATASET, new_run, record_training

COUNT = 10_000  # validation examples


def begun(outputs: Path, *measured: float, overrides: tuple[str, ...] = ()) -> History:
    """A run that was started and has recorded these values."""
    run = record_training(new_run(outputs, "epochs=10", *overrides), *measured, status=None)
    history = run.history()
    return replace(history, create=history.create | {"dataset": DATASET | {"val": COUNT}})


def test_a_rank_is_as_wide_as_the_intervals(tmp_path: Path) -> None:
    values = (0.030, 0.0305, 0.05, 0.0495, 0.09)
    found = standings([begun(tmp_path, 0.5, v) for v in values], lambda history: True)
    assert [each.ranks for each in found] == [(1, 2), (1, 2), (3, 4), (3, 4), (5, 5)]
    low, high = found[0].interval or (0.0, 0.0)
    assert low == pytest.approx(0.02683, abs=1e-5)
    assert high == pytest.approx(0.03353, abs=1e-5)
    assert [each.value for each in found] == list(values)


def test_where_higher_is_better_and_nothing_is_known_of_the_spread(tmp_path: Path) -> None:
    own = ("objective=val/loss:max",)
    values = (0.5, 0.9, 0.7)
    runs = [begun(tmp_path, 0.1, v, overrides=own) for v in values]
    found = standings(runs, lambda history: True)
    assert [each.ranks for each in found] == [(3, 3), (1, 1), (2, 2)]


def test_runs_of_other_objectives_have_ranks_of_their_own(tmp_path: Path) -> None:
    runs = [begun(tmp_path, 0.9), begun(tmp_path, 0.1, overrides=("objective=val/loss",))]
    assert [each.ranks for each in standings(runs, lambda history: True)] == [(1, 1), (1, 1)]


def test_the_value_so_far_is_of_the_weights_that_count(tmp_path: Path) -> None:
    runs = [begun(tmp_path, 0.2, 0.3), begun(tmp_path, 0.2, 0.3, overrides=("weights=last",))]
    assert [each.value for each in standings(runs, lambda history: True)] == [0.2, 0.3]


def test_the_time_left(tmp_path: Path) -> None:
    """Epochs take 0.5 s, the newest has just ended; two runs wait and one is over."""
    running = begun(tmp_path, 0.4, 0.3, 0.2, 0.1)
    over = record_training(new_run(tmp_path, "epochs=10"), *[0.2] * 10).history()
    waiting = [new_run(tmp_path, "epochs=10").history() for _ in range(2)]
    before = time.time()
    found = standings([running, over, *waiting], lambda history: True)
    assert found[0].left_s == pytest.approx(3.0, abs=0.5 + time.time() - before)
    assert found[0].left_s >= 2.5
    assert [each.left_s for each in found[1:]] == [None] * 3
    left = left_in_all_s(found)
    assert left == pytest.approx(found[0].left_s + 2 * (found[0].left_s + 2 + 5) / 2)


def test_the_time_left_includes_evaluation_and_not_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs train for 0.5 s and are 2 s apart; between two of them the run was stopped."""
    now = 1e9
    monkeypatch.setattr(time, "time_ns", lambda: int(now * 1e9))
    run = new_run(tmp_path, "epochs=10")
    with run.writing() as journal:
        journal.append("start", **this_process(), threads=1, backend="numpy")
        for epoch, gap in enumerate((2, 2, 1000, 2, 2), 1):
            now += gap
            values = {"val/error": 0.5, "time/epoch_s": 0.5}
            journal.append("epoch", epoch=epoch, metrics=values)
    monkeypatch.setattr(time, "time", lambda: now + 1)
    (found,) = standings([run.history()], lambda history: True)
    assert found.left_s == pytest.approx(5 * 2 - 1)


def test_a_process_that_died_trains_nothing(tmp_path: Path) -> None:
    (found,) = standings([begun(tmp_path, 0.4)], lambda history: False)
    assert (found.status, found.left_s) == (RunStatus.KILLED, None)
    assert left_in_all_s([found]) is None


def test_before_the_first_epoch_nothing_is_known(tmp_path: Path) -> None:
    (found,) = standings([begun(tmp_path)], lambda history: True)
    assert (found.value, found.interval, found.ranks, found.left_s) == (None,) * 4
    assert left_in_all_s([found]) is None
