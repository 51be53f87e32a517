"""The trials of a search as its runs tell them."""

from dataclasses import replace
from pathlib import Path

from harness.analysis.trials import End, incumbents, trials
from harness.runfolder.objective import DEFAULT
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from harness.tracking.recorded import Journals, Recorded
from harness.tracking.selection import Selection
from tests.analysis.conftest import make_run


def search(*recorded: Recorded) -> Selection:
    """A search whose runs ended in this order."""
    ended = [replace(run, ended_ms=1000 * place) for place, run in enumerate(recorded, 1)]
    return Selection("sweep abc", ended, Journals(), sweep="abc", is_search=True)


def pruned(run: Recorded) -> Recorded:
    return replace(run, status=RunStatus.KILLED, how_pruned="pruned")


def test_how_each_trial_ended(tmp_path: Path) -> None:
    """Batch 20 has both seeds, 30 could not win, 40 was pruned, 50 failed, 10 has both."""
    runs = [make_run(tmp_path, 20, seed) for seed in (1, 2)]
    runs += [make_run(tmp_path, 30, 1), pruned(make_run(tmp_path, 40, 1))]
    runs += [replace(make_run(tmp_path, 50, 1), status=RunStatus.FAILED)]
    runs += [make_run(tmp_path, 10, seed) for seed in (1, 2)]
    found = trials(search(*runs), DEFAULT)
    assert [(t.values["batch"], t.end, t.epochs, t.spent) for t in found] == [
        ("20", End.WHOLE, 6, 6),
        ("30", End.ENDED, 3, 9),
        ("40", End.PRUNED, 3, 12),
        ("50", End.BROKEN, 3, 15),
        ("10", End.WHOLE, 6, 21),
    ]
    assert abs(found[0].value - 0.2015) < 1e-9, "the mean over both seeds"
    assert [trial.values["batch"] for trial in incumbents(found, DEFAULT)] == ["20", "10"]
    assert [trial.values["batch"] for trial in incumbents(found[::-1], DEFAULT)] == ["10"]


def test_a_run_without_a_value_is_no_trial(tmp_path: Path) -> None:
    without = make_run(tmp_path, 30, 1, validation=False)
    (found,) = trials(search(make_run(tmp_path, 20, 1), without), DEFAULT)
    assert (found.values["batch"], found.epochs) == ("20", 3)
    assert trials(search(without), DEFAULT) == []
    assert Run(Path(without.location)).is_finished


def test_a_seed_that_failed_in_its_first_epoch_did_not_end_its_trial_early(tmp_path: Path) -> None:
    """It has fewer seeds, but not because it could not win."""
    runs = [make_run(tmp_path, 20, seed) for seed in (1, 2)] + [make_run(tmp_path, 30, 1)]
    failed = make_run(tmp_path, 30, 2, validation=False)
    runs.append(replace(failed, status=RunStatus.FAILED))
    found = trials(search(*runs), DEFAULT)
    assert [(t.values["batch"], t.end, t.epochs) for t in found] == [
        ("20", End.WHOLE, 6), ("30", End.BROKEN, 3),
    ]  # fmt: skip


def test_a_trial_that_paused_and_one_that_went_on(tmp_path: Path) -> None:
    paused = pruned(make_run(tmp_path, 20, 1))
    paused = replace(paused, how_pruned="paused", tags={**paused.tags, "paused_after": "1,3"})
    went_on = make_run(tmp_path, 30, 1)
    went_on = replace(went_on, tags={**went_on.tags, "paused_after": "1"})
    found = trials(search(paused, went_on), DEFAULT)
    assert [(t.values["batch"], t.end, t.pauses) for t in found] == [
        ("20", End.PAUSED, (1, 3)), ("30", End.WHOLE, (1,)),
    ]  # fmt: skip
