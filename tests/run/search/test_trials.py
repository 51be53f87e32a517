"""The trials of a search: following a journal, pruning, and errors that end the search.

Covers: harness/run/search/growing.py harness/run/search/queue.py harness/run/search/watch.py
"""

import json
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from harness.nn import metrics
from harness.run.launchers.local import Parallel
from harness.run.launchers.prestart import Prestart
from harness.run.launchers.scoreboard import Scoreboard
from harness.run.search.growing import GrowingPlan
from harness.run.search.queue import TrialQueue
from harness.run.search.search import Search
from harness.run.search.space import Parameter
from harness.run.search.study import ended
from harness.run.search.trials import Trials
from harness.run.search.watch import Watch
from harness.runfolder import liveness
from harness.runfolder.config import ConfigError
from harness.runfolder.folder import Busy
from harness.runfolder.own_code import OwnCodeError
from harness.runfolder.plan import AFTERWARDS, Plan, SweepJob, all_plans
from harness.runfolder.run import Run
from tests.conftest import RUN, Command, composed, histories, new_run
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
    with pytest.raises(OwnCodeError, match="own code changed while it was running"):
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


@pytest.mark.filterwarnings("ignore")
def test_a_trial_that_failed_is_tried_again_by_a_later_command(tmp_path: Path) -> None:
    base = replace(composed(), outputs=str(tmp_path))
    search = Search("s", sweeper(n_trials=2), (), (Parameter("lr", low=0.1, high=1.0),), base, ())
    first = TrialQueue(search)
    failed, pruned = (first.ask(several=False)[0] for _ in range(2))
    assert failed
    assert pruned
    first.fail(failed, "boom")
    first.tell(pruned, None, TrialState.PRUNED)
    assert first.left() == 0
    assert first.ask(several=False)[0] is None, "not by the command in which it failed"
    for _ in range(2):  # it fails again
        later, other = TrialQueue(search), TrialQueue(search)
        assert (later.left(), other.left()) == (1, 1)
        again, _, _ = later.ask(several=False)
        assert again
        assert again.params == failed.params
        assert other.ask(several=False)[0] is None, "none is taken twice"
        later.fail(again, "boom")
    assert [trial.number for trial in ended(first.study)] == [pruned.number, again.number]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("begun", "expected"), [((2, 1), 2), ((3,), 3), ((), 1)])
def test_a_trial_that_is_taken_again_gets_the_seeds_that_it_had(
    tmp_path: Path, begun: tuple[int, ...], expected: int
) -> None:
    """Although it can no longer win: an interrupted run would stay so for ever."""
    base = replace(composed(), outputs=str(tmp_path))
    space = (Parameter("lr", low=0.1, high=1.0),)
    search = Search("s", sweeper(n_trials=9), (), space, base, (), seeds=("1", "2", "3"))
    trained = []

    class Judging(Trials):
        def _freeze_trial(self, trial: optuna.Trial, values: dict[str, str]) -> Run:
            return new_run(tmp_path, name=f"{len(trained)}")

        def _train(self, trial: optuna.Trial, run: Run, *, may_prune: bool) -> float:
            trained.append(run.id)
            return 9.0

    trials = Judging(search, Parallel(1, 1, Prestart()), lambda run: None)
    trials._board = Scoreboard([], 9)
    for count in begun:  # by commands that were killed
        killed, _, _ = trials.queue.ask(several=False)
        assert killed
        killed.set_user_attr("runs", [f"{number}" for number in range(count)])
        trials.queue.put_back(killed)
    trial, _, _ = trials.queue.ask(several=False)
    assert trial
    for number, row in enumerate(([1.0, 1.1, 1.3], [1.2, 1.1, 1.2], [1.1, 1.3, 1.2])):
        done = optuna.trial.create_trial(
            params={"lr": 0.2 + number / 10}, distributions=trial.distributions, value=1.2,
            user_attrs={"values": row},
        )  # fmt: skip
        trials.queue.study.add_trial(done)
    trials._judge(trial)
    assert len(trained) == expected


@pytest.mark.filterwarnings("ignore")
def test_values_that_cannot_be_combined_are_not_proposed_without_end(tmp_path: Path) -> None:
    """With asha, what is proposed follows from the record: it must not stay the same."""
    base = replace(composed(), outputs=str(tmp_path), epochs=3)
    space = (Parameter("width", choices=("4", "8")),)
    queue = TrialQueue(Search("s", sweeper(pruner="asha", n_trials=2), (), space, base, ()))
    news = []
    for _ in range(99):
        trial, _, _ = queue.ask(several=False)
        assert trial
        if trial.params["width"] == "8":
            break
        news.append(queue.refuse(trial, "4 is too narrow"))
    assert trial.params["width"] == "8"
    assert news == [True, *[False] * (len(news) - 1)]
    assert queue.impossible() == {"4 is too narrow": 1}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("is_base_possible", [True, False])
def test_only_values_that_cannot_be_combined_are_never_tried_again(
    tmp_path: Path, is_base_possible: bool
) -> None:
    """Where the base configuration is refused as well, its data may be back tomorrow."""
    base = replace(composed(), outputs=str(tmp_path))
    space = (Parameter("lr", low=0.1, high=1.0),)
    search = Search("s", sweeper(n_trials=1), (), space, base, ())

    class Refusing(GrowingPlan):
        def run(self, values: dict[str, str]) -> Run:
            raise ConfigError("no")

        def is_possible(self) -> bool:
            return is_base_possible

    trials = Trials(search, Parallel(1, 1, Prestart()), lambda run: None)
    trials.runs = Refusing(search, trials.queue.workers, lambda run: None)
    trials.run()
    assert TrialQueue(search).left() == (0 if is_base_possible else 1)


@pytest.mark.filterwarnings("ignore")
def test_a_trial_that_failed_as_it_went_on_is_tried_again(tmp_path: Path) -> None:
    """All settings have started, so that nothing else is left."""
    base = replace(composed(), outputs=str(tmp_path), epochs=3)
    space = (Parameter("lr", low=0.1, high=1.0),)
    search = Search("s", sweeper(pruner="asha", n_trials=1), (), space, base, ())
    queue = TrialQueue(search)
    trial, _, _ = queue.ask(several=False)
    assert trial
    trial.report(0.5, 1)
    queue.tell(trial, None, TrialState.PRUNED)
    going_on, _, _ = queue.ask(several=False)
    assert going_on
    queue.fail(going_on, "boom")
    assert queue.left() == 0
    later = TrialQueue(search)
    assert later.left() == 1
    again, _, _ = later.ask(several=False)
    assert again
    assert (again.params, again.user_attrs["pause"]) == (trial.params, 3)
    later.tell(again, [0.25], TrialState.COMPLETE)
    assert TrialQueue(search).left() == 0


# A training function: while the file `fault` is there, its third epoch fails, or its job is killed.
FRAGILE = """
import os
from dataclasses import dataclass
from pathlib import Path

@dataclass
class Settings:
    a: float = 0.5

def fit(settings: Settings, run):
    if run.restored:
        assert (run.restored / "state").is_file()
    for epoch in run.epochs():
        if epoch == 3 and Path("fault").exists():
            if Path("fault").read_text() == "kill":
                os.kill(os.getpid(), 9)
            raise RuntimeError("boom")
        error = settings.a + 0.1 / epoch + run.seed / 100
        run.log(epoch, {"val/error": error}, lambda folder: (folder / "state").touch())
    run.final({"test/error": error})

def rows():
    import numpy as np
    x, y = np.arange(80, dtype=np.float32).reshape(40, 2), np.arange(40) % 2
    return {"x_train": x, "y_train": y, "x_test": x - 1, "y_test": y}
"""


def fragile(cwd: Path, *more: str) -> tuple[str, ...]:
    """The command line of a search with that training function."""
    (cwd / "fragile.py").write_text(FRAGILE)
    return (
        "-m", "hydra/sweeper=optuna", "tracking=none", "trainer=fragile:fit", "epochs=4",
        "dataset=fragile:rows", "dataset.num_val=0.2", "hydra.sweeper.n_trials=2",
        "trainer.a=interval(0,0.5)", "hydra.sweeper.pruner=none", *more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "more", "total"),
    [("raise", "seed=3", 2), ("kill", "seed=1,2", 4), ("kill", "hydra/launcher=joblib", 2)],
)
def test_a_repeated_search_trains_what_failed_again(
    command: Command, tmp_path: Path, fault: str, more: str, total: int
) -> None:
    """In the same run folders, from their checkpoints, as a repeated sweep does."""
    arguments = fragile(tmp_path, more)
    (tmp_path / "fault").write_text(fault)
    done = command(RUN, *arguments)
    assert done.returncode == 1, done.stderr
    assert ("to continue:" in done.stdout) == (fault == "kill")
    before = {run.run for run in histories(tmp_path)}
    assert [len(run.epochs) for run in histories(tmp_path)] == [2, 2]
    (tmp_path / "fault").unlink()
    done = command(RUN, *arguments)
    assert done.returncode == 0, done.stderr
    assert f" {total}/{total} done, 0 running" in done.stdout
    runs = histories(tmp_path)
    assert before <= {run.run for run in runs}
    assert len(runs) == total
    for run in runs:
        assert run.status == "FINISHED"
        assert [record["epoch"] for record in run.epochs] == [1, 2, 3, 4], "each once"
    done = command(RUN, *arguments)
    assert (done.returncode, " done, " in done.stdout) == (0, False), "nothing is left"


def test_a_finished_trial_whose_run_was_removed_is_trained_again(
    command: Command, tmp_path: Path
) -> None:
    """And is not confirmed before, nor called one that cannot be the best."""
    arguments = fragile(tmp_path, "seed=1,2")
    assert command(RUN, *arguments).returncode == 0
    (plan,) = all_plans(tmp_path / "outputs")
    before = {run.name: run.final["best/val_error"] for run in histories(tmp_path)}
    removed = min(histories(tmp_path), key=lambda run: run.final["best/val_error"])
    assert removed.params["seed"] == 1, "not the last seed of its trial"
    assert command("harness", "rm", "--yes", removed.run).returncode == 0
    compared = json.loads(command("harness", "compare", plan.id, "--json").stdout)
    assert [each["n"] for each in compared["settings"]] == [2, 1]
    assert compared["settings"][1]["against_best"] != "ended"
    done = command("harness", "confirm", plan.id)
    assert (done.returncode, done.stdout) == (2, "")
    assert "has 1 finished setting(s); expected at least two" in done.stderr
    done = command(RUN, *arguments)
    assert done.returncode == 0, done.stderr
    assert {run.name: run.final["best/val_error"] for run in histories(tmp_path)} == before
    assert "2 of 2 settings have all 2 seeds" in done.stdout
    done = command(RUN, *arguments)
    assert (done.returncode, " done, " in done.stdout) == (0, False), "nothing is left"


@pytest.mark.parametrize("seed", ["seed=1,2", "seed=3"])
def test_an_objective_that_no_run_records_is_a_failure(
    command: Command, tmp_path: Path, seed: str
) -> None:
    """Each time that the command is repeated, although all runs are finished."""
    arguments = fragile(tmp_path, "objective=[val/error,val/nope]", seed)
    for _ in range(2):
        done = command(RUN, *arguments)
        assert done.returncode == 1
        why = "failed: 2 of 2 trials: its val/nope is not a number, or was not recorded"
        assert why in done.stderr.splitlines()
        assert "settings have all" not in done.stdout
        assert "to rule out luck" not in done.stdout
        assert {run.status for run in histories(tmp_path)} == {"FINISHED"}


def test_of_several_objectives_no_seed_is_added_by_results(
    command: Command, tmp_path: Path
) -> None:
    done = command(RUN, *fragile(tmp_path, "objective=[val/error,time/epoch_s]", "seed=1,2"))
    assert done.returncode == 0, done.stderr
    assert "2 of 2 settings have all 2 seeds" in done.stdout.splitlines()
    (plan,) = all_plans(tmp_path / "outputs")
    compared = json.loads(command("harness", "compare", plan.id, "--json").stdout)
    assert AFTERWARDS not in " ".join(compared["notes"])


def test_one_distinct_seed_may_be_luck(command: Command, tmp_path: Path) -> None:
    done = command(RUN, *fragile(tmp_path, "seed=1,1,1"))
    assert done.returncode == 0, done.stderr
    assert "to rule out luck: " in done.stdout
    assert "to rule out luck: " not in command(RUN, *fragile(tmp_path, "seed=1,2")).stdout
