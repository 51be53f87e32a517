"""The progress of jobs that run at the same time: counts, the best error, the time left."""

import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.run.launchers.scoreboard import Scoreboard, best_value, ending
from harness.runfolder import folder
from harness.runfolder.folder import Identity
from harness.runfolder.run import Run
from tests.conftest import DATASET, composed, new_run, record_training


def runs_of(outputs: Path, count: int) -> list[Run]:
    return [new_run(outputs, "epochs=4", name=f"seed={number}") for number in range(count)]


def test_how_a_run_ended(tmp_path: Path) -> None:
    created, running, *over = runs_of(tmp_path, 6)
    record_training(running, 0.5, status=None)
    for run, status in zip(over, ("FINISHED", "FAILED", "KILLED", None), strict=True):
        record_training(run, 0.5, status=status)
    over[-1].mark_pruned(1)
    endings = [ending(run.history()) for run in (created, running, *over)]
    assert endings == ["created", "running", "finished", "failed", "killed", "pruned"]


def test_a_run_that_paused_and_goes_on_is_counted_once(tmp_path: Path) -> None:
    run, other = runs_of(tmp_path, 2)
    with Scoreboard([], 2) as board:
        board.add(run)
        record_training(run, 0.5, status="KILLED")
        run.mark_pruned(1, is_paused=True)
        board.ended(run)
        assert board.line().startswith("0/2 done, 0 running, 1 paused, best 50.00%")
        board.add(run)
        record_training(run, 0.25)
        board.ended(run)
        assert board.line().startswith("1/2 done, 0 running, best 25.00%")
        board.add(other)
        board.ended(record_training(other, 0.5))
        assert board.line().startswith("2/2 done")


def test_the_best_value_of_a_run(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    assert best_value(run.history()) is None
    record_training(run, 0.5, 0.25, 0.375)
    assert best_value(run.history()) == 0.25
    last = new_run(tmp_path, "weights=last")
    assert best_value(last.history()) is None
    record_training(last, 0.5, 0.25, 0.375)
    assert best_value(last.history()) == 0.375


def test_the_best_of_each_objective_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loss = [new_run(tmp_path, "objective=val/loss", name=f"loss={n}") for n in (1, 2)]
    high = new_run(tmp_path, "objective=val/loss:max", name="high")
    with Scoreboard([*loss, high]) as board:
        for run, values in zip([*loss, high], ((2.5, 1.5), (1.75,), (1.0, 3.0)), strict=True):
            board.ended(record_training(run, *values))
        assert board.line().endswith("best val/loss 1.5 (loss=1), best val/loss:max 3 (high)")
        (error,) = runs_of(tmp_path, 1)
        record_training(error, 0.5)
        board.ended(error)
        assert board.line().endswith("best val/error 50.00% (seed=0)")
    first, *_ = capsys.readouterr().out.splitlines()
    assert "  validation loss 1.5   " in first
    assert ", best 1.5 (loss=1)" in first


def test_a_run_that_failed_is_not_the_best(tmp_path: Path) -> None:
    failed, running, finished = runs_of(tmp_path, 3)
    with Scoreboard([failed, running, finished]) as board:
        board.ended(record_training(failed, 0.25, status="FAILED"))
        assert "best" not in board.line()
        board.ended(record_training(finished, 0.5))
        assert "1 failed, best 50.00% (seed=2)" in board.line()


def test_a_damaged_run_is_not_the_best(tmp_path: Path) -> None:
    damaged, finished = runs_of(tmp_path, 2)
    record_training(damaged, 0.25)
    with damaged.journal.open("ab") as file:
        file.write(b"00000000 {}\n")
    with Scoreboard([damaged, finished]) as board:
        board.ended(damaged)
        assert "1 damaged" in board.line()
        assert "best" not in board.line()
        board.ended(record_training(finished, 0.5))
        assert "1 damaged, best 50.00% (seed=1)" in board.line()


def test_a_run_of_an_earlier_command_has_its_name_in_this_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (earlier,) = runs_of(tmp_path, 1)
    run = Run(earlier.folder, "lr=0.1")
    with Scoreboard([run]) as board:
        board.ended(record_training(run, 0.5))
        assert board.line().endswith("best 50.00% (lr=0.1)")
    assert capsys.readouterr().out.startswith("lr=0.1  finished ")


def test_the_best_on_each_data_set_is_named(tmp_path: Path) -> None:
    about = Identity("b", {"run_key": "key"}, DATASET | {"name": "shapes"})
    other = folder.create(tmp_path, replace(composed(), outputs=str(tmp_path)), about)
    runs = [new_run(tmp_path, name="a"), other]
    with Scoreboard(runs) as board:
        for run, error in zip(runs, (0.5, 0.25), strict=True):
            board.ended(record_training(run, error))
        assert board.line().endswith("best on mnist 50.00% (a), best on shapes 25.00% (b)")


def test_the_line_counts_every_kind_of_ending(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, 6)
    with Scoreboard(runs) as board:
        assert board.line() == "0/6 done, 0 running"
        for run, status in zip(runs, ("FINISHED", "FAILED", "KILLED", None), strict=False):
            record_training(run, 0.5, status=status)
        runs[3].mark_pruned(1)
        for run in runs[:4]:
            board.ended(run)
        record_training(runs[4], 0.125, status=None)
        board._refresh()
        line = board.line()
    assert line.startswith("1/6 done, 1 running, 1 pruned, 1 failed, 1 killed, best 12.50% (seed=4")
    assert re.search(r", \d+ s left$", line)


def test_the_line_of_a_sweep_that_is_done_has_no_time_left(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, 1)
    with Scoreboard([run]) as board:
        record_training(run, 0.5, 0.25, 0.25, 0.25)
        board.ended(run)
        assert board.line() == "1/1 done, 0 running, best 25.00% (seed=0)"


def test_a_line_is_printed_for_every_job_that_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = runs_of(tmp_path, 2)
    with Scoreboard(runs) as board:
        record_training(runs[0], 0.5)
        board.ended(runs[0])
        record_training(runs[1], status="FAILED", error="why")
        board.ended(runs[1])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("seed=0  finished  validation error 50.00%   1/2 done, 0 running")
    assert second.startswith("seed=1  failed   1/2 done, 0 running, 1 failed, best 50.00% (seed=0)")


def test_the_runs_of_an_earlier_command_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A repeated sweep shows its whole progress, not that of the runs that were left."""
    finished, failed, left = runs_of(tmp_path, 3)
    record_training(finished, 0.25)
    record_training(failed, 0.125, status="FAILED")
    with Scoreboard([left], before=[finished, failed]) as board:
        assert board.line() == "1/3 done, 0 running, 1 failed, best 25.00% (seed=0)", (
            "they say nothing about the time left"
        )
        assert board._share() == 2 / 3
        board.ended(record_training(left, 0.5))
        assert board.line() == "2/3 done, 0 running, 1 failed, best 25.00% (seed=0)"
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("seed=2  finished "), "only what ended now has a line"


def test_a_search_adds_its_trials_one_by_one(tmp_path: Path) -> None:
    done, new = runs_of(tmp_path, 2)
    record_training(done, 0.5, 0.5, 0.5, 0.5)
    with Scoreboard([], total=5) as board:
        assert board.line() == "0/5 done, 0 running"
        board.add(done, over=True)
        board.add(new)
        assert board.line() == "1/5 done, 0 running, best 50.00% (seed=0)", (
            "an earlier command's trials say nothing about the time left"
        )


def test_a_continued_trial_counts_once(tmp_path: Path) -> None:
    """A search adds the trials that it knows, and adds one again when it continues it."""
    (known,) = runs_of(tmp_path, 1)
    record_training(known, 0.5, status=None)
    with Scoreboard([], total=3) as board:
        board.add(known)
        board.add(Run(known.folder))
        assert board.line().startswith("0/3 done, 1 running")
        record_training(known, 0.5)
        board.ended(Run(known.folder))
        assert board.line().startswith("1/3 done, 0 running")


def test_jobs_that_are_not_needed_are_not_expected(tmp_path: Path) -> None:
    (known,) = runs_of(tmp_path, 1)
    record_training(known, 0.5)
    with Scoreboard([], total=9) as board:
        board.add(known, over=True)
        board.ended(known)
        assert board.line().startswith("1/8 done"), "it was over before"
        board.fewer(3)
        assert board.line().startswith("1/5 done")


def test_a_search_of_which_no_trial_is_possible_expects_none() -> None:
    with Scoreboard([], total=2) as board:
        board.fewer(2)
        assert board.line() == "0/0 done, 0 running"


def test_the_time_left_is_told_while_another_thread_adds_a_trial(tmp_path: Path) -> None:
    run, other = runs_of(tmp_path, 2)
    with Scoreboard([run], total=2) as board:
        adding = threading.Thread(target=board.add, args=(other,))
        reads = []

        class Params(dict[str, Any]):
            def __getitem__(self, key: str) -> Any:
                reads.append(key)
                if len(reads) == 2:  # the epochs of all jobs, after the share that is done
                    adding.start()
                    adding.join(0.2)
                return super().__getitem__(key)

        history = board._histories[run]
        vars(history)["params"] = Params(history.params)
        board._seconds_left()
        adding.join()
        assert other in board._histories


def test_a_run_counts_by_its_epochs(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, 2)
    record_training(runs[0], 0.5, 0.5, status=None)
    with Scoreboard(runs) as board:
        assert board._share() == 0.25, "2 of 8 epochs"
        record_training(runs[0], 0.5, 0.5, status="FAILED")
        board.ended(runs[0])
        assert board._share() == 0.5, "a job that is over counts as whole"


def test_over_seeds_the_best_setting_is_shown_by_its_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The luckiest run is one of another setting, and of one with a single seed."""
    errors = {8: (0.5, 0.125), 16: (0.25, 0.25), 32: (0.0625,)}
    runs = {
        (batch, seed): new_run(
            tmp_path, f"batch={batch}", f"seed={seed}", name=f"batch={batch},seed={seed}"
        )
        for batch, of_it in errors.items()
        for seed in range(1, len(of_it) + 1)
    }
    with Scoreboard([], total=6) as board:
        for run in runs.values():
            board.add(run)
        record_training(runs[8, 1], 0.5, status=None)
        board._refresh()
        assert board.line().startswith("0/6 done, 1 running, best 50.00% (batch=8,seed=1)")
        for (batch, seed), run in runs.items():
            if (batch, seed) == (8, 1):
                record_training(run)
            else:
                record_training(run, errors[batch][seed - 1])
            board.ended(run)
        assert ", best 25.00% over 2 seeds (batch=16)" in board.line()
        (failed,) = runs_of(tmp_path, 1)
        board.add(failed)
        board.ended(record_training(failed, 0.0, status="FAILED"))
        assert ", best 25.00% over 2 seeds (batch=16)" in board.line()
    first, *_ = capsys.readouterr().out.splitlines()
    assert ", best 50.00% over 1 seed (batch=8)" in first


def test_the_one_setting_of_several_seeds_is_shown_by_its_mean(tmp_path: Path) -> None:
    runs = [new_run(tmp_path, f"seed={seed}", name=f"seed={seed}") for seed in (1, 2)]
    with Scoreboard(runs) as board:
        board.ended(record_training(runs[0], 0.5))
        assert ", mean 50.00% over 1 seed" in board.line()
        board.ended(record_training(runs[1], 0.25))
        assert board.line().endswith(", mean 37.50% over 2 seeds")
