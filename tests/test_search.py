"""Searches: what they refuse, that they go on, that hopeless trials end early."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from optuna import Trial

from harness.nn import metrics
from harness.run import compose as launch
from harness.run.compose import CommandKeys
from harness.run.launcher_schema import OptunaSweeper
from harness.run.launchers.local import Joblib
from harness.run.launchers.prestart import Spares
from harness.run.search import space
from harness.run.search.search import Search, check
from harness.run.search.space import Parameter
from harness.run.search.study import draw, open_study
from harness.run.search.trials import Trials
from harness.runfolder import journal
from harness.runfolder.config import ConfigError
from tests.conftest import Command

ROOT = Path(__file__).resolve().parents[1]
RUN = "harness.run"
OPTUNA = ("-m", "hydra/sweeper=optuna", "tracking=none")


def settings(folder: Path, *more: str) -> tuple[str, ...]:
    own = ("dataset=idx", f"dataset.dir={folder}", "dataset.num_val=40", "batch=20", "width=8")
    return (*OPTUNA, *own, "lr=tag(log, interval(0.001, 1))", *more)


def histories(place: Path) -> list[journal.History]:
    return [journal.history(folder) for folder in journal.folders(place / "outputs/runs")]


def sweeper(**changes: object) -> OptunaSweeper:
    defaults = {
        "name": "optuna", "study": "s", "n_trials": 4, "sampler": "tpe", "pruner": "median",
        "seed": 1, "startup_trials": 2, "warmup_epochs": 1,
    }  # fmt: skip
    return OptunaSweeper(**(defaults | changes))  # type: ignore[arg-type]


def states(place: Path) -> Counter[str]:
    """Optuna's states of the trials in the one study of `place`."""
    import optuna

    storage = optuna.storages.RDBStorage(f"sqlite:///{place}/outputs/optuna.db")
    (summary,) = optuna.study.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    found = Counter(trial.state.name for trial in study.trials)
    storage.engine.dispose()
    return found


def test_the_space() -> None:
    fixed, parameters = space.part(
        ["batch=16", "lr=tag(log, interval(0.01, 1))", "width=choice(128,256,512)",
         "depth=range(1,4)", "dropout=range(0,0.5,step=0.1)", "seed=int(interval(1,9))",
         "normalization=glob(*,exclude=none)", "input_dropout=interval(0,0.3)"]
    )  # fmt: skip
    assert fixed == ["batch=16"]
    assert parameters == [
        Parameter("lr", low=0.01, high=1.0, log=True),
        Parameter("width", choices=("128", "256", "512")),
        Parameter("depth", low=1, high=3, step=1, whole=True),
        Parameter("dropout", low=0, high=0.4, step=0.1),
        Parameter("seed", low=1, high=9, whole=True),
        Parameter("normalization", choices=("minmax", "standard", "unit")),
        Parameter("input_dropout", low=0, high=0.3),
    ]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["lr=0.1"], "there is nothing to search"),
        (["lr=interval(0.01, 1)", "width=interval(8,64)"], "int(interval(...)) gives whole"),
        (["lr=tag(log,interval(0, 1))"], "expected two numbers above 0, the lower first"),
        (["dropout=interval(0,1)"], "dropout=1.0: expected a number from 0 to below 1"),
        (["lr=0.1,0.2", "lr=0.3,0.4"], "lr: is swept twice"),
        (["lr=0.1,0.2", "dataset.num_val=0"], "a search needs validation images"),
        (["threads=1,2"], "threads: cannot be searched"),
        (["checkpoint.every=1,2"], "checkpoint.every: cannot be searched, it changes no result"),
        (["batch=choice(16,99999)"], "batch=99999: expected 1 to 55000"),
        (["optimizer=sgd,adm"], "optimizer=adm: expected adam, adamw, momentum, sgd"),
    ],
)
def test_what_a_search_refuses(overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(sweeper(), overrides, ["-m", *overrides], CommandKeys())
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_an_interval_needs_a_search() -> None:
    with pytest.raises(ConfigError, match="an interval is for a search; add hydra/sweeper=optuna"):
        launch.expand(["lr=interval(0.1, 1)"], sweep=True)


@pytest.mark.filterwarnings("ignore")
def test_every_sampler_and_pruner_is_optunas_own(tmp_path: Path) -> None:
    base = launch.composed([f"outputs={tmp_path}"])
    for sampler, pruner, expected in (
        ("tpe", "median", "TPESampler MedianPruner"),
        ("random", "halving", "RandomSampler SuccessiveHalvingPruner"),
        ("qmc", "hyperband", "QMCSampler HyperbandPruner"),
        ("tpe", "none", "TPESampler NopPruner"),
    ):
        search = Search("s", sweeper(sampler=sampler, pruner=pruner), (), (), base, ())
        study = open_study(search)
        assert f"{type(study.sampler).__name__} {type(study.pruner).__name__}" == expected


@pytest.mark.filterwarnings("ignore")
def test_a_waiting_trial_is_taken_once(tmp_path: Path) -> None:
    base = launch.composed([f"outputs={tmp_path}"])
    study = open_study(Search("s", sweeper(sampler="random"), (), (), base, ()))
    waiting = 30
    for number in range(waiting):
        study.enqueue_trial({"x": number})
    tried = Counter[int]()

    def objective(trial: Trial) -> float:
        tried[trial.number] += 1
        return trial.suggest_float("x", 0, waiting)

    study.optimize(objective, waiting, n_jobs=4)
    assert tried == dict.fromkeys(range(waiting), 1)


@pytest.mark.service
@pytest.mark.parametrize("launcher", [(), ("hydra/launcher=joblib",)])
def test_a_search_goes_on_to_its_total_and_prunes(
    command: Command, tmp_path: Path, idx_folder: Path, launcher: tuple[str, ...]
) -> None:
    epochs = 400  # seconds: time enough to be seen and ended
    arguments = settings(idx_folder, f"epochs={epochs}", *launcher)
    done = command(RUN, *arguments, "hydra.sweeper.n_trials=6", timeout=900)
    assert done.returncode == 0, done.stderr
    assert len(histories(tmp_path)) == 6
    done = command(RUN, *arguments, "hydra.sweeper.n_trials=12", timeout=900)
    assert done.returncode == 0, done.stderr
    told = histories(tmp_path)
    assert len(told) == 12
    pruned = [each for each in told if each.tags.get("pruned") == "true"]
    assert pruned
    assert len({each.tags["sweep"] for each in told}) == 1
    for each in pruned:
        assert (each.status, each.final) == ("KILLED", {})
        assert len(each.epochs) < epochs
        assert (each.error or "").startswith("pruned by the search after epoch ")
    assert states(tmp_path) == {"COMPLETE": 12 - len(pruned), "PRUNED": len(pruned)}
    best = min(
        (each for each in told if each.status == "FINISHED"),
        key=lambda each: each.final[metrics.BEST_VAL_ERROR],
    )
    again = command(RUN, *arguments, "hydra.sweeper.n_trials=12", timeout=900)
    assert again.returncode == 0
    assert len(histories(tmp_path)) == 12
    assert f"{best.final[metrics.BEST_VAL_ERROR]:.2%}" in again.stdout


@pytest.mark.service
def test_a_changed_search_is_refused(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    arguments = settings(idx_folder, "epochs=3", "hydra.sweeper.n_trials=2")
    named = (*arguments, "hydra.sweeper.study=mine")
    assert command(RUN, *named, timeout=900).returncode == 0
    for change, expected in (
        ("epochs=4", "epochs was 3 when it began and is 4 now"),
        ("hydra.sweeper.sampler=random", "hydra.sweeper.sampler was tpe when it began"),
        ("activation=choice(relu,tanh)", "activation"),
    ):
        done = command(RUN, *named, change, timeout=900)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "search mine: " in done.stderr
        assert expected in done.stderr
    assert len(histories(tmp_path)) == 2
    frozen = json.loads((tmp_path / "outputs/sweeps/mine/search.json").read_text())
    assert frozen["epochs"] == 3
    assert (tmp_path / "outputs/sweeps/mine/conf/config.yaml").is_file()


@pytest.mark.service
def test_an_impossible_combination_is_a_failed_trial(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """Each value can be, depth=3 with a list of widths cannot."""
    arguments = [a for a in settings(idx_folder, "epochs=3") if not a.startswith(("lr=", "width="))]
    done = command(
        RUN, *arguments, "depth=choice(1,3)", "width=choice(8,[9,8])", "hydra.sweeper.n_trials=8",
        "hydra.sweeper.sampler=random", timeout=600,
    )  # fmt: skip
    assert "cannot be: depth=3: width=[9,8] already gives 2 hidden layers" in done.stderr
    assert "Traceback" not in done.stderr
    found = states(tmp_path)
    assert (found.total(), found["FAIL"] > 0, found["COMPLETE"] > 0) == (8, True, True)
    assert done.returncode == 0


@pytest.mark.service
def test_a_removed_trial_does_not_end_a_search(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    arguments = settings(idx_folder, "epochs=3")
    assert command(RUN, *arguments, "hydra.sweeper.n_trials=2", timeout=600).returncode == 0
    best, _ = sorted(histories(tmp_path), key=lambda told: told.final[metrics.BEST_VAL_ERROR])
    shutil.rmtree(tmp_path / "outputs/runs" / best.run)
    for total in (2, 3):
        done = command(RUN, *arguments, f"hydra.sweeper.n_trials={total}", timeout=600)
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "outputs/runs" / best.run).exists()
    assert len(histories(tmp_path)) == 2
    assert states(tmp_path) == {"COMPLETE": 3}


@pytest.mark.filterwarnings("ignore")
def test_nothing_is_drawn_into_a_removed_run(tmp_path: Path) -> None:
    """A folder with pictures and no run in it would trouble every other command."""
    search = Search("s", sweeper(), (), (), launch.composed([f"outputs={tmp_path}"]), ())
    study = open_study(search)
    trial = study.ask()
    trial.set_user_attr("run", "gone")
    study.tell(trial, 0.1)
    draw(search, study)
    assert not (tmp_path / "runs").exists()


def test_searches_that_begin_at_once_share_one_new_database(tmp_path: Path) -> None:
    script = (
        "import sys; import optuna.samplers, optuna.pruners; optuna.storages.RDBStorage; "
        "from harness import launch; from harness.search import Search; "
        "from harness.study import draw, open_study; from tests.test_search import sweeper; "
        f"base = launch.composed(['outputs={tmp_path}']); "
        "sys.stdin.read(); open_study(Search(sys.argv[1], sweeper(), (), (), base, ()))"
    )
    begun = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", script, f"s{number}"],
            cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    time.sleep(3)  # all have imported what they need, and begin when their input closes
    for process in begun:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    for process in begun:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("slots", [1, 8])
def test_an_error_that_is_no_trials_own_ends_a_search(tmp_path: Path, slots: int) -> None:
    """Optuna asks its last threads for nothing: their errors must not be lost."""
    base = launch.composed([f"outputs={tmp_path}"])
    found = Search("s", sweeper(n_trials=4), (), (Parameter("lr", low=0.1, high=1.0),), base, ())

    class Broken(Trials):
        def _freeze(self, values: dict[str, str]) -> Path:
            raise OSError(f"no space left for {values.keys()}")

    launcher = Joblib(1, 1, Spares())
    launcher.slots = slots
    trials = Broken(found, launcher, lambda folder: None)
    with pytest.raises(OSError, match="no space left"):
        trials.run()
    found_states = Counter(trial.state.name for trial in trials.study.trials)
    assert found_states["WAITING"] >= 1, "what was interrupted is tried first next time"


@pytest.mark.service
def test_failed_trials_do_not_end_a_search(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    arguments = [a for a in settings(idx_folder, "epochs=3") if not a.startswith("lr=")]
    done = command(
        RUN, *arguments, "lr=choice(0.5,3e38)", "hydra.sweeper.n_trials=6",
        "hydra.sweeper.sampler=random", timeout=600,
    )  # fmt: skip
    assert done.returncode == 1
    assert "failed: lr=3e+38" in done.stderr or "failed: lr=3e38" in done.stderr
    found = states(tmp_path)
    assert found["FAIL"] >= 1
    assert found["COMPLETE"] >= 1
    assert found.total() == 6


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_search_goes_on_with_the_same_trials(
    tmp_path: Path, idx_folder: Path, number: int
) -> None:
    arguments = settings(
        idx_folder, "epochs=900", "hydra.sweeper.n_trials=4", "hydra.sweeper.pruner=none",
        "hydra/launcher=joblib",
    )  # fmt: skip

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", RUN, *arguments],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    process = begin()
    deadline = time.monotonic() + 600
    while not any(told.epochs for told in histories(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    twice = subprocess.run(
        [sys.executable, "-m", RUN, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert twice.returncode == 2
    assert "another command runs it at this moment" in twice.stderr
    assert twice.stderr.count("\n") == 1
    process.send_signal(number)
    process.communicate(timeout=120)
    if number == signal.SIGINT:
        assert process.returncode == 130
    time.sleep(2)
    before = {told.run for told in histories(tmp_path)}
    again = begin()
    _, stderr = again.communicate(timeout=900)
    assert again.returncode == 0, stderr
    told = histories(tmp_path)
    assert before <= {each.run for each in told}
    assert len(told) == 4, "the interrupted trials went on, none was begun in their place"
    for each in told:
        assert each.status == "FINISHED"
        assert [record["epoch"] for record in each.epochs] == list(range(1, 901))
    assert states(tmp_path)["COMPLETE"] == 4


@pytest.mark.service
def test_an_edit_of_the_configuration_cannot_reach_a_search(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """The trials are composed from the frozen copy; the edited original is refused."""
    from harness.run.compose import PACKAGE

    copy = tmp_path / "source"
    copy.mkdir()
    shutil.copytree(PACKAGE, copy / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PACKAGE.parent / "conf", copy / "conf")
    arguments = settings(idx_folder, "epochs=3", "hydra.sweeper.n_trials=2")
    assert command(RUN, *arguments, timeout=900, PYTHONPATH=str(copy)).returncode == 0
    path = copy / "conf/config.yaml"
    path.write_text(path.read_text().replace("activation: sigmoid", "activation: relu"))
    done = command(RUN, *arguments, "hydra.sweeper.n_trials=3", timeout=900, PYTHONPATH=str(copy))
    assert done.returncode == 2
    assert "activation was sigmoid when it began and is relu now" in done.stderr
