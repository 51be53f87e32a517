"""Searches whose trials pause and go on later, and what is left of one that is killed.

HARNESS_KILLS=20 python -m pytest tests/run/search/test_asha.py -m fault
"""

import os
import random
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from harness.runfolder.history import PAUSED_AFTER, History
from tests.conftest import RUN, Command, command_in, histories, small, start, wait_for

KILLS = int(os.environ.get("HARNESS_KILLS", "4"))
EPOCHS = 27
RUNGS = (1, 3, 9, 27)
TRIALS = 12
# A metric that waits, so that a search takes long enough to be killed.
WAITING = "import time\n\ndef waits(probabilities, labels):\n    time.sleep(0.01)\n    return 0.5\n"


def settings(cwd: Path, folder: Path, *more: str) -> tuple[str, ...]:
    (cwd / "waiting.py").write_text(WAITING)
    return (
        "-m", "hydra/sweeper=optuna", "tracking=none", *small(folder), "threads=1",
        f"epochs={EPOCHS}", "metrics=[waiting:waits]", "lr=tag(log, interval(0.001, 1))",
        "width=choice(4,8,16)", "hydra.sweeper.pruner=asha", "hydra.sweeper.warmup_epochs=1",
        "hydra.sweeper.startup_trials=2", f"hydra.sweeper.n_trials={TRIALS}", *more,
    )  # fmt: skip


def curves(cwd: Path) -> dict[str, tuple[str, list[float]]]:
    """How each run ended, and its validation errors, by the run's name."""
    return {run.name: (str(run.status), run.curve("val/error")) for run in histories(cwd)}


def recorded(cwd: Path) -> int:
    """How many epochs all runs have together."""
    return sum(len(run.epochs) for run in histories(cwd))


def assert_is_whole(runs: list[History]) -> None:
    """Each run has each epoch once, and ended at a rung."""
    for run in runs:
        assert [record["epoch"] for record in run.epochs] == list(range(1, len(run.epochs) + 1))
        assert len(run.epochs) in RUNGS
        assert run.how_pruned == ("paused" if len(run.epochs) < EPOCHS else "")


@pytest.mark.fault
def test_trials_pause_and_go_on(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    done = command(RUN, *settings(tmp_path, idx_folder), timeout=900)
    assert done.returncode == 0, done.stderr
    runs = histories(tmp_path)
    assert len(runs) == TRIALS
    assert_is_whole(runs)
    assert {len(run.epochs) for run in runs} >= {1, EPOCHS}
    finished = [run for run in runs if run.status == "FINISHED"]
    went_on = [run for run in finished if run.tags.get(PAUSED_AFTER) == "1,3,9"]
    assert went_on == finished, "every one paused at each rung"
    assert "PAUSED" in done.stdout

    one = finished[0]
    words = [f"{key}={one.params[key]!r}" for key in ("lr", "width")]
    fixed = [word for word in settings(tmp_path, idx_folder)[3:-5] if "interval" not in word]
    other = tmp_path / "other"
    other.mkdir()
    (other / "waiting.py").write_text(WAITING)
    plain = command_in(other)(RUN, "tracking=none", *fixed[:-1], *words, timeout=300)
    assert plain.returncode == 0, plain.stderr
    (same,) = histories(other)
    assert same.curve("val/error") == one.curve("val/error"), "as one that never paused"
    assert same.final["test/error"] == one.final["test/error"]

    before = curves(tmp_path)
    again = command(RUN, *settings(tmp_path, idx_folder), timeout=300)
    assert again.returncode == 0, again.stderr
    assert curves(tmp_path) == before, "nothing is left to train"
    more = command(RUN, *settings(tmp_path, idx_folder, "hydra.sweeper.n_trials=14"), timeout=900)
    assert more.returncode == 0, more.stderr
    assert len(histories(tmp_path)) == 14
    assert_is_whole(histories(tmp_path))


@pytest.mark.fault
def test_a_limit_ends_a_search(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    """Repeating goes on, and what the limit said is gone when the total is there."""
    own = settings(tmp_path, idx_folder, "hydra.sweeper.pruner=none", "epochs=4")
    done = command(RUN, *own, "max_epochs=9", timeout=300)
    assert done.returncode == 0, done.stderr
    said = "max_epochs=9 ended the search after 3 runs, before its 12 trials"
    assert said in done.stdout
    assert [len(run.epochs) for run in histories(tmp_path)] == [4, 4, 4]
    again = command(RUN, *own, "max_epochs=9", timeout=300)
    assert said in again.stdout
    assert len(histories(tmp_path)) == 3, "it counts the whole search"
    none = command(RUN, *own, "budget=0.001s", timeout=300)
    assert "budget=0.001s ended the search after 3 runs" in none.stdout
    whole = command(RUN, *own, "hydra.sweeper.n_trials=4", "max_epochs=16", timeout=300)
    assert whole.returncode == 0, whole.stderr
    assert "ended the search" not in whole.stdout
    assert len(histories(tmp_path)) == 4


@pytest.mark.fault
def test_a_command_at_its_limit_waits_for_the_trials_of_others(
    tmp_path: Path, idx_folder: Path
) -> None:
    """For those that run as it gets there, not for later ones, which are no failures of its."""
    own = settings(tmp_path, idx_folder, "hydra.sweeper.pruner=none", "hydra.sweeper.n_trials=9")
    other = start(tmp_path, *own)
    wait_for(lambda: recorded(tmp_path) > 0)
    limited = start(tmp_path, *own, "budget=0.001s")
    stdout, stderr = limited.communicate(timeout=300)
    assert limited.returncode == 0, stderr
    assert "1 trial(s) are being trained by other commands; waiting" in stdout
    assert "budget=0.001s ended the search after" in stdout
    assert any(run.status == "FINISHED" for run in histories(tmp_path)), "it waited"
    stdout, stderr = other.communicate(timeout=300)
    assert other.returncode == 0, stderr
    assert "ended the search" not in stdout
    runs = histories(tmp_path)
    assert [run.status for run in runs] == ["FINISHED"] * 9
    (plan,) = (tmp_path / "outputs" / "sweeps").glob("*.json")
    assert "ended the search" not in plan.read_text()


@pytest.mark.fault
def test_commands_that_reach_the_limit_of_all_end_together(
    tmp_path: Path, idx_folder: Path
) -> None:
    own = settings(tmp_path, idx_folder, "hydra.sweeper.pruner=none", f"max_epochs={2 * EPOCHS}")
    both = [start(tmp_path, *own) for _ in range(2)]
    for command in both:
        stdout, stderr = command.communicate(timeout=300)
        assert command.returncode == 0, stderr
        assert "RUNNING" not in stdout
        assert f"max_epochs={2 * EPOCHS} ended the search after" in stdout
    again = start(tmp_path, *own, "hydra.sweeper.n_trials=2")
    stdout, stderr = again.communicate(timeout=300)
    assert again.returncode == 0, stderr
    assert "ended the search" not in stdout, "it has its total"


@pytest.mark.fault
def test_a_search_that_is_killed_ends_as_an_undisturbed_one(
    tmp_path: Path, idx_folder: Path
) -> None:
    """What is proposed and what goes on follows from the record alone."""
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = command_in(whole)(RUN, *settings(whole, idx_folder), timeout=900)
    assert done.returncode == 0, done.stderr
    chance = random.Random(5)
    most = recorded(whole) // (KILLS + 1)
    for _ in range(KILLS):
        process = start(killed, *settings(killed, idx_folder))
        goal = recorded(killed) + chance.randint(1, most)
        wait_for(lambda goal=goal: recorded(killed) >= goal)
        assert process.poll() is None, "it still runs"
        dying = [psutil.Process(process.pid)]
        if chance.random() < 0.5:  # its jobs end themselves otherwise
            dying += dying[0].children(recursive=True)
        for each in dying:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.communicate(timeout=120)
    process = start(killed, *settings(killed, idx_folder))
    _, stderr = process.communicate(timeout=900)
    assert process.returncode == 0, stderr
    assert_is_whole(histories(killed))
    assert curves(killed) == curves(whole)
