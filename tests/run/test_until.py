"""Sweeps with `until=decided`, as a user types them."""

import json
import re
import signal
from pathlib import Path

import pytest

from harness.analysis.ranking import BY_RESULTS
from harness.runfolder.plan import AFTERWARDS, all_plans
from tests.conftest import RUN, Command, histories, small, start, wait_for

LR = ("lr=0.001,0.5,0.6", "seed=range(1,9)", "until=decided", "batch=10", "epochs=2")


def seeds_by_lr(cwd: Path) -> dict[float, list[int]]:
    found: dict[float, list[int]] = {}
    for each in histories(cwd):
        assert each.status == "FINISHED"
        found.setdefault(each.params["lr"], []).append(each.params["seed"])
    return {lr: sorted(seeds) for lr, seeds in found.items()}


def test_only_settings_that_can_be_the_best_get_more_seeds(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    done = command(RUN, "-m", *small(idx_folder, *LR))
    assert done.returncode == 0, done.stderr
    seeds = seeds_by_lr(tmp_path)
    assert 3 <= len(seeds[0.001]) < 8
    assert len(seeds[0.6]) >= len(seeds[0.001])
    for each in seeds.values():
        assert each == list(range(1, 1 + len(each)))
    ended = re.search(r"(\d) seeds: lr=0.001 can no longer be the best; lr=0.\d is", done.stdout)
    assert ended is not None
    assert int(ended[1]) == len(seeds[0.001])
    (verdict,) = re.findall(r"^(?:not )?decided after .*", done.stdout, re.MULTILINE)
    assert f"decided after {sum(map(len, seeds.values()))} of 24 runs" in verdict
    (plan,) = all_plans(tmp_path / "outputs")
    assert plan.verdict == verdict
    report = tmp_path / "outputs/reports" / plan.id
    said = verdict.partition(". ")[0].capitalize()
    saved = json.loads((report / "report.json").read_text())
    assert saved["verdict"] == verdict
    assert saved["answer"].startswith(said)
    assert f'<p class="lead">{said}. ' in (report / "index.html").read_text()
    assert saved["pairs"] == []
    assert {each["p_holm"] for each in saved["settings"]} == {None}
    against = {float(each["lr"]): each["against_best"] for each in saved["settings"]}
    assert against[0.001] == "ended"
    left = "ended" if verdict.startswith("decided") else "not compared"
    assert {against[0.5], against[0.6]} == {"best", left}
    assert said in command("harness", "compare", plan.id).stdout
    (first, *others) = command("harness", "export", "sentence").stdout.splitlines()
    assert first == f"{said}."
    assert [each for each in others[1:] if BY_RESULTS not in each] == []
    table = " ".join(done.stdout.split())
    assert "(* best mean" in table
    assert "x ended, as it cannot be the best" in table
    local, stored = (
        json.loads(command("harness", "compare", plan.id, "--no-attach", "--json", *where).stdout)
        for where in ((), ("--uri", f"sqlite:///{tmp_path}/outputs/mlflow.db"))
    )
    assert stored["settings"] == local["settings"], "those with the most seeds are first"
    assert stored["notes"] == local["notes"]
    assert AFTERWARDS in local["notes"]
    assert stored["answer"].startswith("No verdict of until=decided is recorded here. ")
    assert not plan.is_limited
    shown = command("harness", "status").stdout
    assert f"\nsweep {plan.id}: {verdict.partition('. ')[0]}\n" in shown
    (listed,) = json.loads(command("harness", "status", "--json").stdout)["sweeps"]
    assert listed["verdict"] == verdict

    again = command(RUN, "-m", *small(idx_folder, *LR))
    assert again.returncode == 0
    assert seeds_by_lr(tmp_path) == seeds
    assert "epoch 1" not in again.stdout
    assert verdict in again.stdout


def test_a_store_knows_it_where_other_sweeps_made_all_runs(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    plain = small(idx_folder, "lr=0.001,0.5", "seed=range(1,5)", "batch=10", "epochs=1")
    for words in ([], ["until=decided"]):
        done = command(RUN, "-m", *plain, *words)
        assert done.returncode == 0, done.stderr
    made, raced = [plan.id for plan in all_plans(tmp_path / "outputs")]
    store = ("--no-attach", "--json", "--uri", f"sqlite:///{tmp_path}/outputs/mlflow.db")
    notes = {
        sweep: json.loads(command("harness", "compare", sweep, *store).stdout)["notes"]
        for sweep in (made, raced)
    }
    assert AFTERWARDS in notes[raced]
    assert AFTERWARDS not in notes[made]


def test_a_killed_sweep_goes_on_where_it_was(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    arguments = ("-m", *small(idx_folder, *LR, "tracking=none"))
    process = start(tmp_path, *arguments)
    wait_for(lambda: (tmp_path / "outputs").is_dir() and len(histories(tmp_path)) > 9)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.communicate()
    killed = command("harness", "compare", "--no-attach", "--json")
    assert AFTERWARDS in json.loads(killed.stdout)["notes"], "also before there is a verdict"
    done = command(RUN, *arguments)
    assert done.returncode == 0, done.stderr
    (tmp_path / "whole").mkdir()
    whole = command(RUN, *arguments, "outputs=whole")
    assert whole.returncode == 0
    verdicts = [re.findall(r"(?:not )?decided after.*", each.stdout) for each in (done, whole)]
    assert verdicts[0] == verdicts[1] != []


def test_a_dry_run_lists_the_first_round_only(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    own = ("-m", "--dry-run", *small(idx_folder, *LR))
    for limit, more in (((), 15), (("max_jobs=10",), 1), (("max_jobs=9",), 0)):
        done = command(RUN, *own, *limit)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("9 job(s): ")
        named = re.findall(r"^  lr=([\d.]+),seed=(\d)  ", done.stdout, re.MULTILINE)
        assert named == [(lr, seed) for lr in ("0.001", "0.5", "0.6") for seed in "123"]
        assert f"each setting; at most {more} more job(s) follow" in done.stdout
    assert not (tmp_path / "outputs").exists()
    done = command(RUN, "-m", "--dry-run", *small(idx_folder, "until=decided", "lr=0.1,0.2"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "every setting needs the same seeds, 3 or more" in done.stderr


def test_a_setting_that_was_ended_before_the_limit_is_marked_though_it_has_all_seeds(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    own = ("lr=0.001,0.5,0.51", "seed=range(1,9)", "until=decided", "batch=10", "tracking=none")
    done = command(RUN, "-m", *small(idx_folder, *own, "epochs=2"), "max_jobs=9")
    assert "3 seeds: lr=0.001 can no longer be the best" in done.stdout
    assert "max_jobs=9 allows no further seed; left: lr=0.5, lr=0.51." in done.stdout
    shown = command("harness", "compare", "last", "--no-attach", "--json")
    against = {float(e["lr"]): e["against_best"] for e in json.loads(shown.stdout)["settings"]}
    assert against[0.001] == "ended"
    assert sorted(against[each] for each in (0.5, 0.51)) == ["best", "not compared"]


def test_limits(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    own = ("-m", *small(idx_folder, "lr=0.5,0.51", "seed=range(1,9)", "epochs=2", "batch=10",
                        "tracking=none", "until=decided"))  # fmt: skip
    for limit, runs in (("max_epochs=17", 8), ("max_jobs=8", 8), ("budget=0.01s", 8)):
        done = command(RUN, *own, limit)
        assert done.returncode == 0, done.stderr
        assert f"not decided after {runs} of 16 runs: {limit} allows" in done.stdout
        assert "left: lr=0.5, lr=0.51." in done.stdout
    assert len(histories(tmp_path)) == 8
    more = command(RUN, *own, "max_jobs=10")
    assert "not decided after 10 of 16 runs" in more.stdout
    fresh = command(RUN, *own, "max_jobs=6", "fresh=true")
    assert "not decided after 6 of 16 runs" in fresh.stdout
    assert len(histories(tmp_path)) == 16


def test_jobs_with_patience_count_as_the_longest_so_far(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """Each job ends after two epochs, as this metric never changes."""
    (tmp_path / "same.py").write_text("def same(probabilities, labels):\n    return 0.5\n")
    own = ("lr=0.5,0.51", "seed=range(1,9)", "metrics=[same:same]", "objective=val/same")
    ends = ("epochs=100", "patience=1", "max_epochs=17", "tracking=none", "until=decided")
    done = command(RUN, "-m", *small(idx_folder, *own, *ends))
    assert done.returncode == 0, done.stderr
    assert "not decided after 8 of 16 runs: max_epochs=17 allows" in done.stdout
    assert sum(len(each.epochs) for each in histories(tmp_path)) == 16


def test_a_setting_whose_runs_fail_is_named(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    own = ("lr=1e30,0.1,0.5", "seed=1,2,3,4", "epochs=1", "tracking=none", "until=decided")
    done = command(RUN, "-m", *small(idx_folder, "activation=relu", *own))
    assert done.returncode == 1
    assert "; without lr=1e+30, of which runs failed" in done.stdout
    assert len(histories(tmp_path)) <= 11


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("-m", "seed=1,2,3"), "there is one setting"),
        (("-m", "lr=0.1,0.2"), "every setting needs the same seeds, 3 or more"),
        (("-m", "lr=0.1,0.2", "seed=1,2"), "every setting needs the same seeds, 3 or more"),
        (("-m", "lr=0.1,0.2", "seed=range(1,300)"), "299 seeds; expected at most 200"),
        (("-m", "threads=1,2", "seed=1,2,3"), "differ in nothing that changes a result"),
        (("-m", "lr=0.1,0.2", "seed=1,2,3", "dataset.num_val=0"), "it needs validation examples"),
        (
            ("-m", "lr=0.1,0.2", "seed=1,2,3", "max_jobs=5"),
            "max_jobs=5: expected at least 6, for the first 3 seeds of 2 settings",
        ),
        (
            ("-m", "lr=0.1,0.2", "seed=1,2,3,4", "epochs=2", "max_epochs=11"),
            "max_epochs=11: expected at least 12",
        ),
        (
            ("-m", "lr=0.1,0.2", "seed=1,2,3,4", "epochs=9", "patience=1", "max_epochs=11"),
            "max_epochs=11: expected at least 12",
        ),
        (("-m", "dataset=idx,mnist", "seed=1,2,3"), "until=decided: dataset: values of"),
        (("-m", "dataset.num_val=40,50", "seed=1,2,3"), "until=decided: dataset.num_val: values"),
        (("-m", "dataset.split_seed=1,2", "seed=1,2,3"), "until=decided: dataset.split_seed: "),
        (("-m", "lr=1,2", "dataset.label=a,b", "seed=1,2,3"), "until=decided: dataset.label: "),
        (("-m", "objective=val/loss,train/loss", "seed=1,2,3"), "until=decided: objective: "),
        (("-m", "weights=best,last", "seed=1,2,3"), "until=decided: weights: values of the best "),
        (("lr=0.1",), "add -m"),
        (("-m", "hydra/sweeper=optuna", "lr=0.1,0.2"), "a search chooses its own jobs"),
        (("-m", "lr=0.1,0.2", "seed=1,2,3", "max_jobs=many"), "expected a whole number above 0"),
    ],
)
def test_what_cannot_be_decided_is_one_line(
    command: Command, tmp_path: Path, idx_folder: Path, typed: tuple[str, ...], words: str
) -> None:
    flags = [each for each in typed if each == "-m"]
    words_given = {each.partition("=")[0] for each in typed}
    own = small(idx_folder, "until=decided")
    own = tuple(each for each in own if each.partition("=")[0] not in words_given)
    done = command(RUN, *flags, *own, *(each for each in typed if each != "-m"))
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "outputs/runs").exists()


def test_fewer_training_examples_are_a_setting_and_other_data_are_none(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/data.py").write_text(
        "import numpy as np\n"
        "def blobs(*, n: int = 100):\n"
        "    x, y = np.arange(4 * n, dtype=np.float32).reshape(n, 4) / n, np.arange(n) % 2\n"
        "    return {'x_train': x, 'y_train': y, 'x_test': x, 'y_test': y}\n"
    )
    own = ("-m", "--dry-run", "dataset=mine.data:blobs", "dataset.num_val=0.2", "epochs=1",
           "seed=1,2,3", "until=decided")  # fmt: skip
    fair = command(RUN, *own, "dataset.num_train=40,60")
    assert (fair.returncode, fair.stderr) == (0, "")
    other = command(RUN, *own, "dataset.n=100,120")
    assert (other.returncode, other.stdout) == (2, "")
    assert other.stderr.startswith("error: until=decided: dataset.n: values of different")


def test_settings_that_differ_with_every_seed_are_not_called_tied(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/train.py").write_text(
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Settings:\n"
        "    a: float = 0.1\n"
        "def fit(settings: Settings, run):\n"
        "    for epoch in run.epochs():\n"
        "        run.log(epoch, {'val/error': settings.a}, lambda f: None)\n"
        "    run.final({'test/error': settings.a})\n"
    )
    done = command(
        RUN, "-m", "trainer=mine.train:fit", "trainer.a=0.1,0.2", "epochs=1", "tracking=none",
        "seed=range(1,6)", "until=decided",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "not decided after 10 of 10 runs: all 5 seeds are used up; left: " in done.stdout
    assert "tied" not in done.stdout
