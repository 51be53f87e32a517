"""Runs that several commands share: claims, what is over, and what is taken over."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.run.launchers import shared as module
from harness.run.launchers.shared import SETTLED, Shared, claimed, settle
from harness.runfolder.run import Run
from tests.conftest import new_run, record_training

HOLD = """
import sys, time
from pathlib import Path
from harness.run.launchers.shared import claimed
from harness.runfolder.run import Run
with claimed(Run(Path(sys.argv[1]))) as held:
    print(held, flush=True)
    time.sleep(600)
"""


def give_up(seconds: float) -> bool:
    return True


def taken(shared: Shared) -> tuple[Run | None, bool]:
    """What the command would get next; its claim is released."""
    with shared.next(give_up) as found:
        return found


def test_a_claim_is_released_with_its_process(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.folder)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "True\n"
    with claimed(run) as held:
        assert not held
    other.kill()
    other.communicate(timeout=60)
    with claimed(run) as held:
        assert held
        with claimed(Run(run.folder)) as twice:
            assert not twice, "also for another thread of this process"


def test_a_run_that_another_machine_has_just_finished_is_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end appears when the network file system is asked, under the claim."""
    run = new_run(tmp_path)
    monkeypatch.setattr(module, "revalidate", lambda path: record_training(run, 0.5))
    assert taken(Shared([run])) == (run, False)


def test_each_run_is_given_out_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [new_run(tmp_path) for _ in range(3)]
    first, second = Shared(runs), Shared(runs)
    with first.next(give_up) as one, second.next(give_up) as two:
        assert (one, two) == ((runs[0], True), (runs[1], True))
        with first.next(give_up) as three:
            assert three == (runs[2], True)
            assert taken(second) == (None, False), "all that are left are trained elsewhere"
            assert taken(second) == (None, False)
    line = "2 job(s) are being trained by other commands; waiting\n"
    assert capsys.readouterr().out == line, "once"


def test_a_run_whose_job_still_lives_is_not_given_out(tmp_path: Path) -> None:
    """Its command was killed; the job ends by itself."""
    run = new_run(tmp_path)
    with run.lock():
        assert taken(Shared([run])) == (None, False)
    assert taken(Shared([run])) == (run, True)


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_what_another_command_ended_is_over(tmp_path: Path, status: str) -> None:
    run = new_run(tmp_path)
    shared = Shared([run])
    record_training(run, 0.5, status=status)
    settle(run)
    assert taken(shared) == (run, False)
    assert (run.folder / SETTLED).is_file() == (status != "FINISHED")


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_what_ended_before_this_command_is_trained_again(tmp_path: Path, status: str) -> None:
    run = record_training(new_run(tmp_path), 0.5, status=status)
    settle(run)
    assert taken(Shared([run])) == (run, True)


def test_what_a_dying_command_interrupted_is_continued(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    shared = Shared([run])
    record_training(run, 0.5, status="KILLED")
    assert taken(shared) == (run, True), "it is not settled"


def test_a_removed_run_is_left_to_its_job(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    assert run.create
    shared = Shared([run])
    run.folder.rename(tmp_path / "elsewhere")
    assert taken(shared) == (run, True)
    settle(run)
    assert not run.folder.exists()
