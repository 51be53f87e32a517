"""Searches: what they refuse, continuing them, and ending hopeless trials early."""

import json
import shlex
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.nn import metrics
from harness.run import compose, overrides
from harness.run.search.search import check
from harness.runfolder.config import ConfigError
from harness.runfolder.plan import all_plans
from tests.conftest import RUN, Command, command_in, histories, small, start, wait_for
from tests.run.search.conftest import settings_of, sweeper

if TYPE_CHECKING:
    from optuna import Study

OPTUNA = ("-m", "hydra/sweeper=optuna", "tracking=none")


def settings(folder: Path, *more: str) -> tuple[str, ...]:
    return (*OPTUNA, *small(folder), "lr=tag(log, interval(0.001, 1))", *more)


@contextmanager
def opened_study(cwd: Path) -> Iterator["Study"]:
    """The one study in `cwd`/outputs."""
    import optuna

    storage = optuna.storages.RDBStorage(f"sqlite:///{cwd}/outputs/optuna.db")
    (summary,) = optuna.study.get_all_study_summaries(storage)
    yield optuna.load_study(study_name=summary.study_name, storage=storage)
    storage.engine.dispose()


def states(cwd: Path) -> Counter[str]:
    """Optuna's states of the trials of the one study in `cwd`/outputs."""
    with opened_study(cwd) as study:
        return Counter(trial.state.name for trial in study.trials)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["lr=0.1"], "there is nothing to search"),
        (["lr=interval(0.01, 1)", "width=interval(8,64)"], "int(interval(...)) gives whole"),
        (["lr=tag(log,interval(0, 1))"], "expected two finite numbers above 0, the lower first"),
        (["dropout=interval(0,1)"], "dropout=1.0: expected a number from 0 to below 1"),
        (["lr=0.1,0.2", "lr=0.3,0.4"], "give a swept key once"),
        (["lr=0.1,0.2", "dataset.num_val=0"], "a search needs validation examples"),
        (["seed=range(2)"], "there is nothing to search"),
        (["lr=0.1,0.2", "seed=1,-2"], "seed=-2: expected a whole number of at least 0"),
        (["lr=0.1,0.2", "seed=interval(1,9)"], "expected a list of seeds"),
        (["lr=interval(-1,1)"], "lr=-1.0: expected a finite number above 0"),
        (["dataset.split_seed=1,2"], "dataset.split_seed: cannot be searched"),
        (["dataset.num_val=range(100,500,100)"], "dataset.num_val: cannot be searched: values of"),
        (["dataset.num_val=interval(0.1,0.2)"], "values of different validation examples are not"),
        (["dataset=choice(mnist,fashion_mnist)"], "dataset: cannot be searched: it changes dat"),
        (
            ["experiment=best,fashion", "dataset.num_val=9", "weights=last"],
            "it changes dataset.name, and values of different",
        ),
        (["++threads=1,2"], "threads: cannot be searched"),
        (["threads=1,2"], "threads: cannot be searched"),
        (["objective=val/error,val/loss"], "objective: cannot be searched: values of different"),
        (["weights=best,last"], "weights: cannot be searched: values of the best epoch, which is "),
        (["dataset.label=a,b"], "dataset.label: cannot be searched"),
        (["lr=0.1,0.2", "dataset.num_val=0", "objective=val/loss"], "there are no validation ex"),
        (["checkpoint.every=1,2"], "checkpoint.every: cannot be searched: it changes no result"),
        (["batch=choice(16,99999)"], "batch=99999: expected 1 to 55000"),
        (["optimizer=sgd,adm"], "optimizer=adm: expected adam, adamw, momentum, sgd"),
    ],
)
def test_what_a_search_refuses(texts: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(sweeper(), overrides.parse(texts), ["-m", *texts])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
    assert ("int(interval" in str(error.value)) == ("int(interval" in expected)


def test_the_name_of_a_search_means_nothing_else_where_runs_are_selected() -> None:
    texts = ["lr=0.1,0.2"]
    with pytest.raises(ConfigError, match=r"study=last: has a special meaning when runs are"):
        check(sweeper(study="last"), overrides.parse(texts), ["-m", *texts])


@pytest.mark.parametrize(
    ("texts", "pruner", "least"),
    [
        (["lr=0.1,0.2", "epochs=7"], "median", 7),
        (["lr=0.1,0.2", "epochs=7", "seed=1,2,3"], "median", 21),
        (["lr=0.1,0.2", "epochs=7,5", "seed=1,2"], "halving", 10),
        (["lr=0.1,0.2", "epochs=7", "patience=2"], "halving", 3),
        (["lr=0.1,0.2", "epochs=27", "seed=1,2"], "asha", 3),
        (["lr=0.1,0.2", "epochs=3", "seed=1,2"], "asha", 6),
        (["lr=0.1,0.2", "epochs=27", "seed=1,2", "objective=[val/error,parameters]"], "asha", 54),
    ],
)
def test_a_limit_that_the_first_trial_would_exceed_is_refused(
    texts: list[str], pruner: str, least: int
) -> None:
    settings = sweeper(pruner=pruner, warmup_epochs=3)
    enough = [*texts, f"max_epochs={least}"]
    assert check(settings, overrides.parse(enough), ["-m", *enough]).limits.max_epochs == least
    few = [*texts, f"max_epochs={least - 1}"]
    with pytest.raises(ConfigError, match=f"={least - 1}: expected at least {least}, for the fir"):
        check(settings, overrides.parse(few), ["-m", *few])


def test_a_budget_that_ends_before_the_first_trial_is_named(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    done = command(RUN, *settings(idx_folder, "budget=0.0001s"))
    assert "budget=0.0001s ended the search after 0 runs, before its 20 trials" in done.stdout
    assert not histories(tmp_path)


@pytest.mark.parametrize(
    "text", ["dataset.num_train=100,200", "optimizer=sgd,adam", "model=mlp,conv"]
)
def test_what_changes_no_validation_example_can_be_searched(text: str) -> None:
    assert check(sweeper(), overrides.parse([text]), ["-m", text]).space[0].choices


def test_an_interval_needs_a_search() -> None:
    with pytest.raises(ConfigError, match="an interval is for a search; add hydra/sweeper=optuna"):
        compose.expand(settings_of("lr=interval(0.1, 1)"), sweep=True)


@pytest.mark.service
@pytest.mark.parametrize("launcher", [(), ("hydra/launcher=joblib",)])
def test_a_search_continues_to_its_total_and_prunes(
    command: Command, tmp_path: Path, idx_folder: Path, launcher: tuple[str, ...]
) -> None:
    epochs = 400  # seconds: time enough to be seen and ended
    arguments = settings(idx_folder, f"epochs={epochs}", *launcher)
    done = command(RUN, *arguments, "hydra.sweeper.n_trials=6", timeout=900)
    assert done.returncode == 0, done.stderr
    assert len(histories(tmp_path)) == 6
    done = command(RUN, *arguments, "hydra.sweeper.n_trials=12", timeout=900)
    assert done.returncode == 0, done.stderr
    runs = histories(tmp_path)
    assert len(runs) == 12
    pruned = [run for run in runs if run.is_pruned]
    assert pruned
    assert len({run.tags["sweep"] for run in runs}) == 1
    for run in pruned:
        assert (run.status, run.final, run.tags["pruned"]) == ("KILLED", {}, "true")
        assert len(run.epochs) < epochs
        assert (run.error or "").startswith("pruned by the search after epoch ")
    assert states(tmp_path) == {"COMPLETE": 12 - len(pruned), "PRUNED": len(pruned)}
    best = min(
        (run for run in runs if run.status == "FINISHED"),
        key=lambda run: run.final[metrics.BEST_VAL_ERROR],
    )
    again = command(RUN, *arguments, "hydra.sweeper.n_trials=12", timeout=900)
    assert again.returncode == 0
    assert len(histories(tmp_path)) == 12
    assert f"{best.final[metrics.BEST_VAL_ERROR]:.2%}" in again.stdout
    report = report_of(tmp_path)
    ranked = {run.run for run in runs} - {run.run for run in pruned}
    assert {row["run"] for row in report["runs"]} == ranked
    assert any(f"not finished: {len(pruned)} PRUNED (" in note for note in report["notes"])


@pytest.mark.service
@pytest.mark.parametrize(("objective", "sign"), [("val/loss", 1), ("val/loss:max", -1)])
def test_a_search_goes_by_its_objective(
    command: Command, tmp_path: Path, idx_folder: Path, objective: str, sign: int
) -> None:
    arguments = settings(idx_folder, "epochs=3", f"objective={objective}")
    done = command(RUN, *arguments, "hydra.sweeper.n_trials=5", timeout=600)
    assert done.returncode == 0, done.stderr
    runs = [run for run in histories(tmp_path) if run.status == "FINISHED"]
    for run in runs:
        best_of_run = sign * min(sign * value for value in run.curve("val/loss"))
        assert run.final["best/val_loss"] == best_of_run
    best = min(runs, key=lambda run: sign * run.final["best/val_loss"])
    with opened_study(tmp_path) as study:
        assert study.direction.name == ("MINIMIZE" if sign == 1 else "MAXIMIZE")
        assert study.best_trial.user_attrs["run"] == best.run
        assert study.best_value == best.final["best/val_loss"]
        trials = study.trials
    for trial in trials:
        run = next(run for run in histories(tmp_path) if run.run == trial.user_attrs["run"])
        reported = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
        assert reported == run.curve("val/loss")[: len(reported)]
    (marked,) = [line for line in done.stdout.splitlines() if line.strip().startswith("*")]
    assert best.run in marked
    assert "best by validation loss is marked *" in done.stdout
    report = report_of(tmp_path)
    word = "lowest" if sign == 1 else "highest"
    assert f"has the {word} validation loss" in report["answer"]


def report_of(cwd: Path) -> dict[str, Any]:
    (path,) = (cwd / "outputs/reports").glob("*/report.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.mark.service
def test_a_search_ends_with_its_report(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    words = [*small(idx_folder, "epochs=2"), "lr=tag(log, interval(0.01, 1))", "seed=3"]
    done = command(RUN, "-m", OPTUNA[1], *words, "hydra.sweeper.n_trials=3", timeout=600)
    assert done.returncode == 0, done.stderr
    (page,) = (tmp_path / "outputs/reports").glob("*/index.html")
    assert f"report:                    {page.relative_to(tmp_path)}\n" in done.stdout
    best = min(histories(tmp_path), key=lambda run: run.final[metrics.BEST_VAL_ERROR])
    assert f"report/{page.parent.name}/index.html" in best.artifacts
    stored = (tmp_path / "outputs/artifacts").glob("*/*/artifacts/report/*/index.html")
    assert [path.read_text() for path in stored] == [page.read_text()]
    note = "the search trained each of the 3 settings that it finished with one seed, and the "
    assert any(each.startswith(note) for each in report_of(tmp_path)["notes"])
    compared = command("harness", "compare")
    assert note in compared.stderr, "also when it is compared again"
    uri = f"sqlite:///{tmp_path}/outputs/mlflow.db"
    stored = command("harness", "compare", page.parent.name, "--uri", uri, "--no-attach")
    assert note in stored.stderr, "also from the store"
    assert "The course of the search" in page.read_text()
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("to rule out luck")]
    words = [*shlex.split(line.partition(":")[2])[2:], "--top", "2", "--seeds", "3"]
    again = command(*words, timeout=600)
    assert again.returncode == 0, again.stderr
    assert " 4 to 6 " in again.stdout, "seeds that the search did not have"
    known = {run.params["lr"]: run.final.get(metrics.BEST_VAL_ERROR) for run in histories(tmp_path)}
    confirmed = [run for run in histories(tmp_path) if run.params["seed"] > 3]
    assert len(confirmed) == 6
    ranked = sorted(histories(tmp_path)[:3], key=lambda run: run.final[metrics.BEST_VAL_ERROR])
    assert {run.params["lr"] for run in confirmed} == {run.params["lr"] for run in ranked[:2]}
    assert {run.params["epochs"] for run in confirmed} == {2}
    assert len(known) == 3, "to the last digit"
    repeated = command(*words, timeout=600)
    assert repeated.returncode == 0
    assert len(histories(tmp_path)) == 9, "it was finished"


@pytest.mark.service
def test_a_report_that_fails_does_not_fail_its_search(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    reports = tmp_path / "outputs/reports"
    reports.mkdir(parents=True)
    (reports / "first").touch()
    arguments = settings(idx_folder, "epochs=1", "hydra.sweeper.study=first")
    done = command(RUN, *arguments, "hydra.sweeper.n_trials=2", timeout=600)
    assert done.returncode == 0, done.stderr
    assert "no report: FileExistsError" in done.stdout


@pytest.mark.service
def test_a_search_goes_by_the_weights_that_count(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    arguments = settings(idx_folder, "epochs=4", "objective=val/loss:max", "weights=last")
    done = command(RUN, *arguments, "hydra.sweeper.n_trials=3", timeout=600)
    assert done.returncode == 0, done.stderr
    runs = {run.run: run for run in histories(tmp_path)}
    with opened_study(tmp_path) as study:
        values = {trial.user_attrs["run"]: trial.value for trial in study.trials if trial.value}
    assert values
    for run, value in values.items():
        curve = runs[run].curve("val/loss")
        assert value == curve[-1] == runs[run].final["best/val_loss"]
        assert runs[run].final["best/epoch"] == len(curve)
    assert any(max(each.curve("val/loss")) != each.curve("val/loss")[-1] for each in runs.values())


@pytest.mark.service
def test_a_search_of_an_earlier_version_continues(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """Its start state has no objective."""
    arguments = settings(idx_folder, "epochs=2", "hydra.sweeper.study=old")
    assert command(RUN, *arguments, "hydra.sweeper.n_trials=1", timeout=600).returncode == 0
    folder = tmp_path / "outputs/sweeps/old"
    frozen = json.loads((folder / "search.json").read_text())
    assert frozen.pop("objective") == "val/error"
    (folder / "search.json").write_text(json.dumps(frozen))
    config = folder / "conf/config.yaml"
    config.write_text(config.read_text().replace("objective: val/error\n", ""))
    done = command(RUN, *arguments, "hydra.sweeper.n_trials=2", timeout=600)
    assert done.returncode == 0, done.stderr
    assert states(tmp_path) == {"COMPLETE": 2}
    with opened_study(tmp_path) as study:
        assert study.direction.name == "MINIMIZE"


@pytest.mark.service
def test_a_changed_search_is_refused(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    arguments = settings(idx_folder, "epochs=3", "hydra.sweeper.n_trials=2")
    named = (*arguments, "hydra.sweeper.study=mine")
    assert command(RUN, *named, timeout=900).returncode == 0
    for change, expected in (
        ("epochs=4", "epochs was 3 when it started and is 4 now"),
        ("hydra.sweeper.sampler=random", "hydra.sweeper.sampler was tpe when it started"),
        ("activation=choice(relu,tanh)", "activation"),
        ("objective=val/loss", "objective was val/error when it started and is val/loss now"),
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
@pytest.mark.parametrize("seeds", ["seed=1", "seed=1,2"])
def test_an_impossible_combination_is_tried_once(
    command: Command, tmp_path: Path, idx_folder: Path, seeds: str
) -> None:
    """Each value is valid alone; depth=3 with a list of widths is not."""
    arguments = [a for a in settings(idx_folder, "epochs=3") if not a.startswith(("lr=", "width="))]
    arguments += ["depth=choice(1,3)", "width=choice(8,[9,8])", "hydra.sweeper.sampler=random"]
    why = "depth=3: width=[9,8] already gives 2 hidden layers; leave depth out\n"
    for total in (8, 8, 12):
        before = states(tmp_path) if total > 8 or histories(tmp_path) else Counter()
        done = command(RUN, *arguments, seeds, f"hydra.sweeper.n_trials={total}", timeout=600)
        assert done.returncode == 0
        now = states(tmp_path)
        assert now["COMPLETE"] + now["PRUNED"] == total - 1, "it counts once"
        assert now["FAIL"] > 0
        assert done.stderr.count(why) == done.stderr.count("\n") == 1, "and is named once"
        if total == 8:
            assert ("is impossible: " in done.stderr) == (not before)
            assert not before or now == before, "nothing is tried again"
    assert "1 trial(s) are impossible and will not be tried again: " in done.stderr


@pytest.mark.service
def test_a_removed_trial_does_not_end_a_search(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """It is trained again, as in a repeated sweep; one that was pruned is not."""
    arguments = settings(idx_folder, "epochs=3")
    assert command(RUN, *arguments, "hydra.sweeper.n_trials=2", timeout=600).returncode == 0
    values = values_of(tmp_path)
    best, _ = sorted(histories(tmp_path), key=lambda run: run.final[metrics.BEST_VAL_ERROR])
    shutil.rmtree(tmp_path / "outputs/runs" / best.run)
    for total in (2, 3):
        done = command(RUN, *arguments, f"hydra.sweeper.n_trials={total}", timeout=600)
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "outputs/runs" / best.run).exists()
        assert len(histories(tmp_path)) == total
        assert values.items() <= values_of(tmp_path).items()
    assert states(tmp_path) == {"COMPLETE": 4}, "the one that was removed has two"


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
    counts = states(tmp_path)
    assert counts["FAIL"] >= 1
    assert counts["COMPLETE"] >= 1
    assert counts.total() == 6


def values_of(cwd: Path) -> dict[str, float]:
    """The value of each finished run by its settings."""
    return {run.name: run.final[metrics.BEST_VAL_ERROR] for run in histories(cwd) if run.final}


@pytest.mark.service
def test_a_search_of_several_objectives(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    """Each trial has a value of each, over all its seeds, and none is pruned."""
    arguments = settings(
        idx_folder, "objective=[val/loss,parameters,time/epoch_s]", "width=choice(4,8,16)",
        "seed=1,2", "epochs=3", "tracking=none", "hydra.sweeper.n_trials=6",
        "hydra.sweeper.pruner=median", "hydra.sweeper.startup_trials=1",
    )  # fmt: skip
    done = command(RUN, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert " parameters " in done.stdout
    assert " front " in done.stdout
    with opened_study(tmp_path) as study:
        trials = study.get_trials()
    assert states(tmp_path) == Counter(COMPLETE=6)
    runs = {run.run: run for run in histories(tmp_path)}
    for trial in trials:
        loss, parameters, seconds = trial.values
        its = [run for run in runs.values() if run.params["width"] == int(trial.params["width"])
               and run.params["lr"] == trial.params["lr"]]  # fmt: skip
        assert len(its) == 2
        assert loss == pytest.approx(np.mean([run.final["best/val_loss"] for run in its]))
        assert parameters == its[0].final["model/parameters"]
        assert seconds == pytest.approx(np.mean([run.curve("time/epoch_s") for run in its]))
    again = command(RUN, *arguments)
    assert again.returncode == 0
    assert len(histories(tmp_path)) == len(runs), "the same search"
    report = next((tmp_path / "outputs/reports").glob("*/report.json"))
    rows = json.loads(report.read_text())["settings"]
    assert any(row["on_front"] for row in rows)
    assert all(row["parameters_mean"] for row in rows)
    done = command(RUN, *arguments, "objective=val/loss")
    assert done.returncode == 0, "another search, of one objective"


@pytest.mark.fault
def test_seeds_inside_a_search(tmp_path: Path, idx_folder: Path) -> None:
    """A setting gets seeds while it can win; killed and repeated, all is as if it were not."""
    arguments = (
        *OPTUNA, *small(idx_folder), "lr=tag(log, interval(0.00001, 1))", "seed=range(1,5)",
        "epochs=9", "hydra.sweeper.n_trials=6", "hydra.sweeper.pruner=none",
        "hydra.sweeper.sampler=qmc",
    )  # fmt: skip
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = command_in(tmp_path / "whole")(RUN, *arguments, timeout=900)
    assert whole.returncode == 0, whole.stderr
    process = start(tmp_path / "killed", *arguments)
    wait_for(lambda: len(values_of(tmp_path / "killed")) >= 6, 600)
    process.kill()
    process.communicate(timeout=120)
    assert len(values_of(tmp_path / "killed")) < len(values_of(tmp_path / "whole"))
    again = command_in(tmp_path / "killed")(RUN, *arguments, timeout=900)
    assert again.returncode == 0, again.stderr
    values = values_of(tmp_path / "killed")
    assert values == values_of(tmp_path / "whole")

    seeds = Counter(name.rpartition(",")[0] for name in values)
    assert len(seeds) == 6
    assert min(seeds.values()) < 4 == max(seeds.values())
    assert whole.stdout.count("can no longer win, after ") == sum(n < 4 for n in seeds.values())
    means = {
        setting: np.mean([values[f"{setting},seed={seed}"] for seed in range(1, 5)])
        for setting, n in seeds.items()
        if n == 4
    }
    with opened_study(tmp_path / "whole") as study:
        assert study.best_value == pytest.approx(min(means.values()))
    *_, progress = (line for line in whole.stdout.splitlines() if " done, 0 running" in line)
    assert f", best {min(means.values()):.2%} over 4 seeds (lr=" in progress
    report = report_of(tmp_path / "whole")
    ranked = [row["n"] for row in report["settings"]]
    assert ranked == sorted(ranked, reverse=True), "those with all seeds are first"
    verdict = f"{len(means)} of 6 settings have all 4 seeds; the others were pruned, failed, or"
    assert report["notes"][0].startswith(verdict)
    assert verdict in whole.stdout
    assert "to rule out luck" not in whole.stdout
    once_more = command_in(tmp_path / "whole")(RUN, *arguments, timeout=900)
    assert verdict in once_more.stdout


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_search_continues_the_same_trials(
    tmp_path: Path, idx_folder: Path, number: int
) -> None:
    arguments = settings(
        idx_folder, "epochs=900", "hydra.sweeper.n_trials=4", "hydra.sweeper.pruner=none",
        "hydra/launcher=joblib",
    )  # fmt: skip
    process = start(tmp_path, *arguments)
    wait_for(lambda: any(run.epochs for run in histories(tmp_path)), 600)
    process.send_signal(number)
    process.communicate(timeout=120)
    if number == signal.SIGINT:
        assert process.returncode == 130
    time.sleep(2)
    before = {run.run for run in histories(tmp_path)}
    again = start(tmp_path, *arguments)
    _, stderr = again.communicate(timeout=900)
    assert again.returncode == 0, stderr
    runs = histories(tmp_path)
    assert before <= {run.run for run in runs}
    assert len(runs) == 4, "the interrupted trials were continued, none was started in their place"
    for run in runs:
        assert run.status == "FINISHED"
        assert [record["epoch"] for record in run.epochs] == list(range(1, 901))
    assert states(tmp_path)["COMPLETE"] == 4


@pytest.mark.service
def test_an_edit_of_the_configuration_cannot_reach_a_search(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """The trials are composed from the frozen copy; the edited original is refused."""
    from harness.run.conf import PACKAGE

    copy = tmp_path / "source"
    copy.mkdir()
    shutil.copytree(PACKAGE, copy / "harness")
    shutil.copytree(PACKAGE.parent / "conf", copy / "conf")
    arguments = settings(idx_folder, "epochs=3", "hydra.sweeper.n_trials=2")
    assert command(RUN, *arguments, timeout=900, PYTHONPATH=str(copy)).returncode == 0
    path = copy / "conf/config.yaml"
    path.write_text(path.read_text().replace("activation: sigmoid", "activation: relu"))
    done = command(RUN, *arguments, "hydra.sweeper.n_trials=3", timeout=900, PYTHONPATH=str(copy))
    assert done.returncode == 2
    assert "activation was sigmoid when it started and is relu now" in done.stderr


OWN = """
import numpy as np
def bands(*, noise: float = 0.1):
    generator = np.random.default_rng(1)
    y = np.arange(60) % 2
    x = (y[:, None] + noise * generator.standard_normal((60, 3))).astype(np.float32)
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
"""


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_an_edit_of_an_own_folder_cannot_reach_a_search(
    command: Command, tmp_path: Path, idx_folder: Path, launcher: str
) -> None:
    """Not while it runs, and not between two commands."""
    own = tmp_path / "own/experiment"
    own.mkdir(parents=True)
    for name, width in (("narrow", 3), ("wide", 9)):
        (own / f"{name}.yaml").write_text(f"width: {width}\n")
    # Training the first trial edits the file that the others read.
    (tmp_path / "edits.py").write_text(
        "from pathlib import Path\n"
        "def edits(probabilities, labels):\n"
        "    Path('own/experiment/wide.yaml').write_text('width: 5\\nbatch: 30\\n')\n"
        "    return 0.5\n"
    )
    arguments = (
        "-cd", "own", *settings(idx_folder, "epochs=1"), "metrics=[edits:edits]",
        "experiment=choice(narrow,wide)", "hydra.sweeper.sampler=random",
        f"hydra/launcher={launcher}",
    )  # fmt: skip
    arguments = tuple(each for each in arguments if not each.startswith(("width=", "lr=")))
    for trials in (6, 14):  # so that chance, which differs between threads, takes both values
        done = command(RUN, *arguments, f"hydra.sweeper.n_trials={trials}", timeout=300)
        assert done.returncode == 0, done.stderr
        assert "edited" not in done.stderr
    assert "batch" in (own / "wide.yaml").read_text()
    found = {(run.params["width"], run.params["batch"]) for run in histories(tmp_path)}
    assert found == {(3, 20), (9, 20)}


def test_data_that_change_during_a_search_end_it(command: Command, tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
    given = {"x_train": x, "y_train": np.arange(60) % 2, "x_test": x, "y_test": np.arange(60) % 2}
    np.savez(tmp_path / "data.npz", **given)
    (tmp_path / "edits.py").write_text(
        "import numpy as np\n"
        "def edits(probabilities, labels):\n"
        "    given = dict(np.load('data.npz'))\n"
        "    np.savez('data.npz', **given | {'x_train': given['x_train'] + 1})\n"
        "    return 0.5\n"
    )
    arguments = (
        *OPTUNA, "dataset=arrays", "dataset.file=data.npz", "batch=8", "width=4", "epochs=1",
        "metrics=[edits:edits]", "lr=interval(0.01, 1)", "hydra.sweeper.n_trials=3",
    )  # fmt: skip
    done = command(RUN, *arguments, timeout=300)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "the data set changed while it was running; restore it and repeat" in done.stderr
    assert len(histories(tmp_path)) == 1


def test_a_search_with_own_folders_and_own_code(command: Command, tmp_path: Path) -> None:
    """Trials run in other threads; edited code is refused like any other changed source."""
    (tmp_path / "mine/dataset").mkdir(parents=True)
    module = tmp_path / "mine/own_search.py"
    module.write_text(OWN)
    (tmp_path / "mine/dataset/noisy.yaml").write_text(
        "name: own_search:bands\ndir: null\nnum_val: 0.2\nnum_train: null\nsplit_seed: 0\n"
        "noise: 0.5\n"
    )
    arguments = (
        "--config-dir", "mine", *OPTUNA, "dataset=noisy", "epochs=1", "batch=8", "width=4",
        "normalization=standard", "lr=interval(0.01, 1)", "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
    )  # fmt: skip
    done = command(RUN, *arguments, "hydra.sweeper.n_trials=3", timeout=300)
    assert done.returncode == 0, done.stderr
    assert states(tmp_path) == {"COMPLETE": 3}
    (search,) = all_plans(tmp_path / "outputs")
    confirm = ("harness", "confirm", search.id, "--top", "2", "--seeds", "2")
    done = command(*confirm, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f" --config-dir={tmp_path.resolve()}/mine -m " in done.stdout
    assert {run.params["seed"] for run in histories(tmp_path)[3:]} == {2, 3}
    (tmp_path / "mine").rename(tmp_path / "yours")
    done = command(*confirm)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"with --config-dir {tmp_path.resolve()}/mine, which is not there any" in done.stderr
    done = command(*confirm, "--config-dir", "yours")
    assert f" --config-dir={tmp_path.resolve()}/yours -m " in done.stdout
    assert len(histories(tmp_path)) == 3 + 2 * 2, "the same sweep"
    (tmp_path / "yours").rename(tmp_path / "mine")
    module.write_text(OWN.replace("(1)", "(1 + 0)"))  # which returns the same
    done = command(RUN, *arguments, "hydra.sweeper.n_trials=4", timeout=300)
    notice, error = done.stderr.splitlines()
    assert notice.endswith("60 of 60 test examples are also training examples")
    assert (done.returncode, error.startswith("error: ")) == (2, True)
    assert ": it started before own_search.py changed; a search cannot change" in error
    assert states(tmp_path) == {"COMPLETE": 3}


def test_a_run_of_an_earlier_command_has_its_name_in_this_search(
    command: Command, idx_folder: Path
) -> None:
    fixed = ("tracking=none", *small(idx_folder))
    assert command(RUN, "-m", *fixed, "lr=0.1", "batch=25,50").returncode == 0
    done = command(RUN, *OPTUNA, *fixed, "batch=25", "lr=choice(0.1)", timeout=300)
    assert done.returncode == 0, done.stderr
    assert "lr=0.1  finished" in done.stdout
    assert "batch=25  finished" not in done.stdout
