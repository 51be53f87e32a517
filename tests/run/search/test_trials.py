"""The trials of a search: following a journal, pruning, and errors that end the search.

Covers: harness/run/search/growing.py harness/run/search/queue.py harness/run/search/watch.py
"""

import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from harness.nn import metrics
from harness.run.launchers.local import Parallel
from harness.run.launchers.prestart import Prestart
from harness.run.search.growing import GrowingPlan
from harness.run.search.queue import TrialQueue
from harness.run.search.search import Search
from harness.run.search.space import Parameter
from harness.run.search.trials import Trials
from harness.run.search.watch import Watch
from harness.runfolder import liveness
from harness.runfolder.folder import Busy
from harness.runfolder.own_code import OwnCodeError
from harness.runfolder.plan import Plan, SweepJob
from harness.runfolder.run import Run
from tests.conftest import composed, new_run
from tests.run.search.conftest import sweeper


class FakeTrial:
    """Notes what is reported; prunes after `prune_after` epochs."""

    def __init__(self, prune_after: int) -> None:
        self.reported: list[tuple[int, float]] = []
        self._prune_after = prune_after

    def report(self, value: float, step: int) -> None:
        self.reported.append((step, value))

    def should_prune(self) -> bool:
        return len(self.reported) >= self._prune_after


def add_epochs(run: Run, first: int, *val_errors: float) -> None:
    with run.writing() as journal:
        journal.append("start", **liveness.this_process(), threads=1, backend="numpy")
        for epoch, error in enumerate(val_errors, first):
            journal.append("epoch", epoch=epoch, metrics={metrics.VAL_ERROR: error})


def test_each_epoch_is_reported_once(tmp_path: Path) -> None:
    run, trial = new_run(tmp_path), FakeTrial(prune_after=99)
    watch = Watch(trial, run, threading.Event())  # type: ignore[arg-type]
    assert watch() is None
    add_epochs(run, 1, 0.5, 0.25)
    assert watch() is None
    assert watch() is None
    add_epochs(run, 2, 0.25, 0.125)  # resumed from the checkpoint of epoch 1
    assert watch() is None
    assert trial.reported == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert watch.pruned == 0


def test_the_pruner_ends_a_trial(tmp_path: Path) -> None:
    run, trial = new_run(tmp_path), FakeTrial(prune_after=2)
    watch = Watch(trial, run, threading.Event())  # type: ignore[arg-type]
    add_epochs(run, 1, 0.5, 0.5, 0.5)
    assert watch() == "end"
    assert watch.pruned == 2
    assert trial.reported == [(1, 0.5), (2, 0.5)], "the rest is not reported"


def test_a_finished_trial_is_reported_without_pruning(tmp_path: Path) -> None:
    run, trial = new_run(tmp_path), FakeTrial(prune_after=1)
    watch = Watch(trial, run, threading.Event())  # type: ignore[arg-type]
    add_epochs(run, 1, 0.5, 0.25)
    assert watch.report() is False
    assert len(trial.reported) == 2
    assert watch.pruned == 0


def test_a_signal_leaves_the_trials_to_the_launcher(tmp_path: Path) -> None:
    stop = threading.Event()
    watch = Watch(FakeTrial(1), new_run(tmp_path), stop)  # type: ignore[arg-type]
    stop.set()
    assert watch() == "leave"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("error", [OSError("no space left"), Busy("no lock left")])
@pytest.mark.parametrize("slots", [1, 8])
def test_an_error_that_is_not_of_one_trial_ends_the_search(
    tmp_path: Path, slots: int, error: Exception
) -> None:
    """With several threads, Optuna drops what the last ones raise; it must not be lost."""
    base = replace(composed(), outputs=str(tmp_path))
    space = (Parameter("lr", low=0.1, high=1.0),)
    search = Search("s", sweeper(n_trials=4), (), space, base, ())

    class Broken(GrowingPlan):
        def run(self, values: dict[str, str]) -> Run:
            raise error

    launcher = Parallel(1, 1, Prestart())
    launcher.slots = slots
    trials = Trials(search, launcher, lambda run: None)
    trials.runs = Broken(search, trials.queue.workers, lambda run: None)
    with pytest.raises(type(error), match=r"no .* left"):
        trials.run()
    states = Counter(trial.state.name for trial in trials.queue.study.trials)
    assert states["WAITING"] >= 1, "an interrupted trial is tried first next time"


@pytest.mark.filterwarnings("ignore")
def test_a_lost_record_of_trials_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The search starts again; without a word, nobody would know why it takes so long."""
    search = Search("s", sweeper(), (), (), replace(composed(), outputs=str(tmp_path)), ())
    run = new_run(tmp_path)
    Plan("s", (), (SweepJob(run.id, "n", {}, "key"),)).save(tmp_path)
    launcher = Parallel(1, 1, Prestart())
    Trials(search, launcher, lambda run: None).queue.study.enqueue_trial({})
    assert "optuna.db has no trials of it anymore, only its 1 runs" in capsys.readouterr().err
    Trials(search, launcher, lambda run: None)
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("ignore")
def test_code_that_is_edited_during_a_search_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "own_edited.py"
    module.write_text("value = 1\n")
    monkeypatch.chdir(tmp_path)
    base = replace(composed(), outputs=str(tmp_path))
    space = (Parameter("lr", low=0.1, high=1.0),)
    search = Search("s", sweeper(), (), space, base, (), frozenset({"own_edited:value"}))
    trials = Trials(search, Parallel(1, 1, Prestart()), lambda run: None)
    module.write_text("value = 2\n")
    with pytest.raises(OwnCodeError, match="own code was changed while it runs"):
        trials.run()
    assert not list(tmp_path.glob("runs/*"))


def test_the_rungs_are_those_of_the_longest_trial(tmp_path: Path) -> None:
    """A shorter one ends by itself between two rungs."""
    base = replace(composed(), outputs=str(tmp_path), epochs=2)
    space = (Parameter("epochs", choices=("2", "9")), Parameter("lr", low=0.1, high=1.0))
    search = Search("s", sweeper(pruner="asha"), (), space, base, ())
    assert search.epochs == 9
    assert TrialQueue(search).rungs == (1, 3, 9)
    several = replace(search, costs=("parameters",))
    assert TrialQueue(replace(several, id="t")).rungs == (), "no trial pauses of several objectives"


@pytest.mark.filterwarnings("ignore")
def test_settings_that_start_at_the_same_time_differ(tmp_path: Path) -> None:
    base = replace(composed(), outputs=str(tmp_path), epochs=9)
    space = (Parameter("lr", low=0.1, high=1.0),)
    queue = TrialQueue(Search("s", sweeper(pruner="asha"), (), space, base, ()))
    trials = [queue.ask(several=True)[0] for _ in range(4)]
    assert len({str(trial.params) for trial in trials if trial}) == 4
    assert queue.ask(several=True) == (None, 4, 0), "four of four are running"
