"""From configurations to run folders: keys, tags, and which existing runs a sweep builds on.

Covers: harness/run/prepared.py
"""

import multiprocessing
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.data import dataset
from harness.run import freeze, notices
from harness.run.compose import Job
from harness.run.freeze import Membership
from harness.run.prepared import Prepared
from harness.runfolder import environment, folder, keys
from harness.runfolder.config import ConfigError
from harness.runfolder.environment import Commit
from harness.runfolder.own_code import OwnCodeError
from harness.runfolder.plan import load_plan
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from tests.conftest import RUN, Command, composed, record_training, small

TYPED = ["-m", "batch=20,30"]


def job(outputs: Path, folder: Path, batch: int, *overrides: str) -> Job:
    config = composed(*small(folder, "backend=numpy", *overrides))
    changed = replace(config, outputs=str(outputs), batch=batch)
    return Job(f"batch={batch}", {"batch": str(batch)}, changed)


@pytest.fixture
def prepared(tmp_path: Path, idx_folder: Path) -> list[Prepared]:
    """Two jobs whose data is in the cache."""
    return freeze.prepare([job(tmp_path, idx_folder, batch) for batch in (20, 30)])


def test_preparing_extracts_the_data_and_computes_the_keys(
    tmp_path: Path, prepared: list[Prepared], idx_folder: Path
) -> None:
    first, second = prepared
    digest = first.dataset["sha256"]
    assert first.key == keys.run_key(first.job.config, str(digest)) != second.key
    assert first.dataset == {
        "name": "idx", "sha256": digest, "source": str(idx_folder),
        "train": 260, "val": 40, "test": 100, "image_shape": [6, 5], "classes": 4,
        "class_names": ["0", "1", "2", "3"], "dtype": "uint8",
    }  # fmt: skip
    assert (tmp_path / "cache").is_dir()
    assert not (tmp_path / "runs").exists()


def test_the_backend_is_decided_before_a_run_is_frozen(
    tmp_path: Path, idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    automatic = job(tmp_path, idx_folder, 20, "backend=auto", "optimizer=adam")
    assert freeze.with_backend(automatic).config.backend == "numba"
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert freeze.with_backend(automatic).config.backend == "numpy"
    impossible = job(tmp_path, idx_folder, 20, "backend=numba", "optimizer=adam")
    with pytest.raises(ConfigError, match="backend=numba: "):
        freeze.with_backend(impossible)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of 4 numbers an example: labels, targets, and one value everywhere."""
    folder = tmp_path_factory.mktemp("numbers")
    x = np.random.default_rng(1).normal(size=(40, 4)).astype(np.float32)
    for name, inputs, labels in (
        ("labels", x, np.arange(40) % 3),
        ("targets", x, x.sum(axis=1)),
        ("constant", np.full_like(x, 7), np.arange(40) % 3),
    ):
        given = {"x_train": inputs, "y_train": labels, "x_test": inputs, "y_test": labels}
        np.savez(folder / f"{name}.npz", **given)
    return folder


@pytest.mark.parametrize(
    ("file", "overrides", "expected"),
    [
        ("labels", ["model=conv"],
         "model=conv: expected images .*, found examples of shape (4,); use model=mlp"),
        ("", ["model=conv", "model.kernel=7"],
         "model=conv: Conv2D: expected images of at least 7x7 for kernel=7, found 6x5; change "
         "model.channels, model.kernel, model.pool"),
        ("", ["model=conv", "model.channels=[4]", "model.pool=5"],
         "model=conv: MaxPool2D: .* of at least 5x5, found (4, 3, 4); change"),
        ("", ["model=conv", "model.channels=[4,4,4]"], "model=conv: Conv2D: .*, found 2x1"),
        ("", ["metrics=[mean_absolute_error]"],
         "metrics=[mean_absolute_error]: it needs targets, but the data set has labels; use "
         "top2_error, or your own MODULE:FUNCTION"),
        ("targets", ["loss=squared_error", "objective=val/loss", "metrics=[top2_error]"],
         "metrics=[top2_error]: it needs labels, but the data set has targets; use mean_absolute"),
        ("constant", ["normalization=standard"],
         "normalization 'standard': every training value is 7, .* use normalization=none"),
        ("constant", ["normalization=minmax"], "normalization 'minmax': every training value"),
    ],
)  # fmt: skip
def test_built_in_parts_that_do_not_fit_the_data_are_refused(
    tmp_path: Path, numbers: Path, idx_folder: Path, file: str, overrides: list[str], expected: str
) -> None:
    data = ["dataset=arrays", f"dataset.file={numbers / file}.npz", "batch=8"]
    config = composed(*(data if file else small(idx_folder)), *overrides)
    named = Job("seed=1", {"seed": "1"}, replace(config, outputs=str(tmp_path)))
    pattern = re.escape(expected).replace(r"\.\*", ".*")
    with pytest.raises(ConfigError, match=f"^{pattern}"):
        freeze.prepare([freeze.with_backend(named)])
    assert not (tmp_path / "runs").exists()


def test_a_part_that_does_not_fit_names_its_job(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    done = command(
        RUN,
        "-m",
        *small(idx_folder),
        "model=conv",
        "model.channels=[4]",
        "model.kernel=3,60",
        "seed=1,2",
    )
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert "at least 60x60 for kernel=60, found 6x5; change model.channels" in done.stderr
    assert done.stderr.endswith("(in the job model.kernel=60,seed=1)\n")
    assert list(tmp_path.iterdir()) == []


def test_a_single_run_has_its_tags_and_no_sweep(
    prepared: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freeze, "source", lambda: Commit("abc", dirty=True))
    run = freeze.freeze_run(prepared[0], ["batch=20"])
    tags = run.history().tags
    assert (tags["run_key"], tags["data.sha256"]) == (
        prepared[0].key,
        prepared[0].dataset["sha256"],
    )
    assert len(run.dataset().test) == 100
    assert (tags["mlflow.source.git.commit"], tags["git.dirty"]) == ("abc", "true")
    assert tags["mlflow.source.name"] == "python -m harness.run batch=20"
    assert "command" not in tags
    assert "sweep" not in tags
    assert run.config == prepared[0].job.config
    monkeypatch.setattr(freeze, "source", lambda: None)
    tags = freeze.freeze_run(prepared[0], []).history().tags
    assert tags["git.dirty"] == "unknown"
    assert "mlflow.source.git.commit" not in tags


def test_mlflow_shows_the_whole_command(prepared: list[Prepared]) -> None:
    """Its page of a run shows what follows the last "/" of the source's name."""
    tags = freeze.freeze_run(prepared[0], ["objective=val/loss", "a=b"]).history().tags
    assert tags["command"] == "python -m harness.run objective=val/loss a=b"
    assert tags["mlflow.source.name"] == tags["command"].replace("/", "\u2215")


def test_the_commit_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(environment, "commit", lambda: asked.append(1))
    freeze.source.cache_clear()
    assert freeze.source() is freeze.source() is None
    assert len(asked) == 1
    freeze.source.cache_clear()


def test_a_sweep_is_frozen_with_its_plan(tmp_path: Path, prepared: list[Prepared]) -> None:
    plan = freeze.freeze_sweep(prepared, TYPED, fresh=False)
    assert plan == load_plan(tmp_path, plan.id)
    assert plan.id == keys.sweep_id([each.key for each in prepared])
    assert plan.overrides == tuple(TYPED)
    assert [each.swept for each in plan.jobs] == [{"batch": "20"}, {"batch": "30"}]
    runs = plan.runs(tmp_path)
    assert [run.status for run in runs] == [RunStatus.CREATED] * 2
    assert [run.history().tags["sweep.job"] for run in runs] == ["1/2", "2/2"]
    assert {run.history().tags["sweep"] for run in runs} == {plan.id}


def test_what_a_sweep_is_compared_by_stays_when_it_is_repeated(
    tmp_path: Path, prepared: list[Prepared]
) -> None:
    plan = freeze.freeze_sweep(prepared, TYPED, fresh=False, costs=("parameters", "val/f1:max"))
    assert load_plan(tmp_path, plan.id).costs == ("parameters", "val/f1:max")
    again = freeze.freeze_sweep(prepared, TYPED, fresh=False)
    assert again == load_plan(tmp_path, plan.id)
    assert (again.id, again.costs) == (plan.id, plan.costs), "they are no part of its id"
    other = freeze.freeze_sweep(prepared, TYPED, fresh=False, costs=("time/epoch_s",))
    assert other.costs == ("time/epoch_s",)


def test_a_repeated_sweep_has_the_same_runs(tmp_path: Path, prepared: list[Prepared]) -> None:
    plan = freeze.freeze_sweep(prepared, TYPED, fresh=False)
    again = freeze.freeze_sweep(prepared[::-1], ["-m", "batch=30,20"], fresh=False)
    assert again.id == plan.id
    assert [each.run for each in again.jobs] == [each.run for each in plan.jobs[::-1]]
    fresh = freeze.freeze_sweep(prepared, TYPED, fresh=True)
    assert fresh.id == plan.id
    assert not {each.run for each in fresh.jobs} & {each.run for each in plan.jobs}
    assert set(fresh.replaced) == {each.run for each in plan.jobs}
    for run in plan.runs(tmp_path):
        assert run.history().tags["sweep"] == "", "the views of the sweep show its runs only"
    assert load_plan(tmp_path, plan.id) == fresh
    (other,) = freeze.freeze_sweep(prepared[:1], ["-m", "batch=20"], fresh=False).jobs
    assert Run(tmp_path / "runs" / other.run).history().tags["sweep"].startswith(f"{plan.id},")
    again = freeze.freeze_sweep(prepared, TYPED, fresh=True)
    assert len(again.replaced) == 4
    assert plan.id not in Run(tmp_path / "runs" / other.run).history().tags["sweep"]
    assert Run(tmp_path / "runs" / other.run).history().tags["sweep"], "of the other sweep"


def test_a_later_run_takes_no_row_of_a_sweep(tmp_path: Path, prepared: list[Prepared]) -> None:
    """`harness.train` of the same settings is a run of its own."""
    first = freeze.freeze_run(prepared[0], [])
    record_training(first, 0.5)
    plan = freeze.freeze_sweep(prepared, TYPED, fresh=False)
    assert plan.jobs[0].run == first.id, "a sweep takes what is there"
    record_training(plan.runs(tmp_path)[1], 0.5)
    for each in prepared:
        record_training(freeze.freeze_run(each, []), 0.5)
    assert freeze.freeze_sweep(prepared, TYPED, fresh=False) == plan
    fresh = freeze.freeze_sweep(prepared, TYPED, fresh=True)
    for run in fresh.runs(tmp_path):
        record_training(run, 0.5)
    assert freeze.freeze_sweep(prepared, TYPED, fresh=False) == fresh


def test_a_sweep_that_trains_again_for_its_source_says_so(
    tmp_path: Path,
    prepared: list[Prepared],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    notices.say.cache_clear()
    monkeypatch.setattr(freeze, "source", lambda: Commit("abcdef01", dirty=True))
    first, second = freeze.freeze_sweep(prepared, TYPED, fresh=False).runs(tmp_path)
    record_training(first, 0.5)
    record_training(second, 0.5, status="FAILED", error="why")
    assert freeze.freeze_sweep(prepared, TYPED, fresh=False).runs(tmp_path) == [first, second]
    monkeypatch.setattr(keys, "source_digest", lambda: "edited")
    later = freeze.prepare([each.job for each in prepared])
    assert capsys.readouterr().err == ""
    freeze.freeze_sweep(later, TYPED, fresh=True)
    assert capsys.readouterr().err == "", "asked for"
    others = [replace(each, key=each.key[::-1]) for each in later]
    assert first not in freeze.freeze_sweep(others, TYPED, fresh=False).runs(tmp_path)
    told = capsys.readouterr().err
    assert told.startswith(
        "1 of 2 new jobs were trained before with other source (commit abcdef0 with uncommitted "
        "changes, 20"
    )
    assert told.endswith("): batch=20; training again; accept=source keeps those runs\n")


def test_a_sweep_can_accept_what_other_source_trained(
    tmp_path: Path, prepared: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freeze, "source", lambda: Commit("abcdef01", dirty=False))
    first, second = freeze.freeze_sweep(prepared, TYPED, fresh=False).runs(tmp_path)
    record_training(first, 0.5)
    monkeypatch.setattr(keys, "source_digest", lambda: "edited")
    later = freeze.prepare([each.job for each in prepared])
    again = freeze.freeze_sweep(later, TYPED, fresh=False)  # told, and interrupted
    typed = [*TYPED, "accept=source"]
    plan = freeze.freeze_sweep(later, typed, fresh=False, accept=True)
    assert plan.id == again.id == keys.sweep_id([each.key for each in later])
    assert plan.jobs[0].run == first.id, "finished, unlike the one that was begun"
    assert plan.jobs[1].run == again.jobs[1].run != second.id, "the second was not finished"
    assert plan.jobs[0].other_source.startswith("commit abcdef0, 20")
    assert plan.jobs[1].other_source == ""
    assert load_plan(tmp_path, plan.id) == plan
    tags = first.history().tags
    assert tags["sweep.other_source"] == plan.id
    assert plan.id in tags["sweep"].split(",")
    assert freeze.freeze_sweep(later, typed, fresh=False, accept=True) == plan
    assert first.history().tags == tags, "noted once"
    (own,) = (run for run in again.runs(tmp_path) if run.id == again.jobs[0].run)
    record_training(own, 0.4)
    plan = freeze.freeze_sweep(later, typed, fresh=False, accept=True)
    assert plan.jobs[0].run == own.id, "this source comes first"


def test_accepting_distinguishes_what_changes_no_result(
    tmp_path: Path, idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [
        replace(job(tmp_path, idx_folder, 20, f"threads={n}"), swept={"threads": str(n)})
        for n in (1, 2)
    ]
    runs = freeze.freeze_sweep(freeze.prepare(jobs), TYPED, fresh=False).runs(tmp_path)
    for run in runs:
        record_training(run, 0.5)
    monkeypatch.setattr(keys, "source_digest", lambda: "edited")
    plan = freeze.freeze_sweep(freeze.prepare(jobs), TYPED, fresh=False, accept=True)
    assert plan.runs(tmp_path) == runs


def test_a_larger_sweep_takes_the_runs_of_a_smaller_one(
    tmp_path: Path, prepared: list[Prepared]
) -> None:
    small_plan = freeze.freeze_sweep(prepared[:1], TYPED, fresh=False)
    plan = freeze.freeze_sweep(prepared, TYPED, fresh=False)
    assert plan.jobs[0].run == small_plan.jobs[0].run
    tags = plan.runs(tmp_path)[0].history().tags
    assert (tags["sweep"], tags["sweep.job"]) == (f"{small_plan.id},{plan.id}", "1/2")


def test_a_run_that_is_being_trained_is_taken_and_not_tagged(
    tmp_path: Path, prepared: list[Prepared]
) -> None:
    """Only the process that trains a run may write its journal."""
    run = freeze.freeze_run(prepared[0], [])
    with run.lock():
        made = freeze.freeze_trial(prepared[0], [], Membership("s", "1"))
    assert made.run == run.id
    assert "sweep" not in run.history().tags


def test_a_trial_takes_a_run_that_another_command_has_made_meanwhile(
    tmp_path: Path, prepared: list[Prepared]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with folder.alone(tmp_path):
            trial = pool.submit(freeze.freeze_trial, prepared[0], [], Membership("s", "1"))
            with pytest.raises(TimeoutError):
                trial.result(0.3)  # it waits for its turn
            run = freeze._create(prepared[0], [], None)
        assert trial.result(60).run == run.id
    assert run.history().tags["sweep"] == "s"


def test_a_data_set_is_examined_once_for_all_jobs_that_use_it(
    tmp_path: Path, idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, load = [], dataset.open_dataset
    monkeypatch.setattr(
        dataset, "open_dataset", lambda *a, **n: (opened.append(a[2]), load(*a, **n))[1]
    )
    splits = ("dataset.split_seed=1", "dataset.split_seed=2")
    freeze.prepare([job(tmp_path, idx_folder, b, split) for split in splits for b in (20, 30)])
    assert [each.seed for each in opened] == [1, 2]


def test_a_sweep_over_what_changes_no_result_has_a_run_for_each_value(
    tmp_path: Path, idx_folder: Path
) -> None:
    jobs = []
    for threads in (1, 2):
        one = job(tmp_path, idx_folder, 20, f"threads={threads}")
        jobs.append(replace(one, swept={"threads": str(threads)}))
    prepared = freeze.prepare(jobs)
    assert prepared[0].key == prepared[1].key
    plan = freeze.freeze_sweep(prepared, TYPED, fresh=False)
    assert [run.config.threads for run in plan.runs(tmp_path)] == [1, 2]
    assert freeze.freeze_sweep(prepared, TYPED, fresh=False).jobs == plan.jobs


def test_which_run_can_be_resumed(tmp_path: Path, prepared: list[Prepared]) -> None:
    run = freeze.freeze_run(prepared[0], [])
    record_training(run, 0.5, status="KILLED", error="interrupted")
    assert freeze.interrupted_run(tmp_path, run.id[:6]).id == run.id
    assert freeze.interrupted_run(tmp_path, "last").id == run.id
    with run.lock(), pytest.raises(ConfigError, match="is being trained now"):
        freeze.interrupted_run(tmp_path, "last")
    record_training(run, 0.5)
    with pytest.raises(ConfigError, match="is finished; there is nothing to continue"):
        freeze.interrupted_run(tmp_path, "last")
    with pytest.raises(ValueError, match="is not among the 1 runs"):
        freeze.interrupted_run(tmp_path, "zzz")


def test_last_is_the_job_that_was_trained_when_its_sweep_was_interrupted(
    tmp_path: Path, prepared: list[Prepared]
) -> None:
    runs = freeze.freeze_sweep(prepared, TYPED, fresh=False).runs(tmp_path)
    assert freeze.interrupted_run(tmp_path, "last") == runs[-1], "none has started"
    record_training(runs[0], 0.5, status="KILLED", error="interrupted")
    assert freeze.interrupted_run(tmp_path, "last") == runs[0]
    with runs[0].lock():
        assert freeze.interrupted_run(tmp_path, "last") == runs[-1], "another command trains it"
    runs[0].mark_pruned(1)
    assert freeze.interrupted_run(tmp_path, "last") == runs[-1], "it is over"
    record_training(runs[0], 0.5)
    assert freeze.interrupted_run(tmp_path, "last") == runs[-1]


def test_a_run_whose_own_code_has_changed_is_not_resumed(
    tmp_path: Path, idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "own_resumed.py"
    module.write_text("from harness.nn.activations import ReLU as Own\n")
    monkeypatch.chdir(tmp_path)
    (prepared,) = freeze.prepare([job(tmp_path, idx_folder, 20, "activation=own_resumed:Own")])
    run = freeze.freeze_run(prepared, [])
    record_training(run, 0.5, status="KILLED", error="interrupted")
    assert freeze.interrupted_run(tmp_path, "last").id == run.id
    module.write_text("from harness.nn.activations import Tanh as Own\n")
    with pytest.raises(
        OwnCodeError, match=r"own_resumed\.py: was changed after the run was frozen"
    ):
        freeze.interrupted_run(tmp_path, "last")


def test_resuming_extracts_a_lost_data_set_again(tmp_path: Path, prepared: list[Prepared]) -> None:
    run = freeze.freeze_run(prepared[0], [])
    shutil.rmtree(tmp_path / "cache")
    assert freeze.interrupted_run(tmp_path, "last") == run
    assert len(run.dataset().test) == 100
    shutil.rmtree(tmp_path / "cache")
    config = run.folder / "config.yaml"
    config.write_text(config.read_text().replace("lr: ", "lr: 1"))
    with pytest.raises(ConfigError, match=r"config\.yaml: was changed after the run was frozen"):
        freeze.interrupted_run(tmp_path, "last")
    assert not (tmp_path / "cache").exists()


def test_a_sweep_does_not_continue_a_run_whose_config_was_changed(
    tmp_path: Path, prepared: list[Prepared]
) -> None:
    plan = freeze.freeze_sweep(prepared[1:], TYPED, fresh=False)
    config = plan.runs(tmp_path)[0].folder / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("lr: ", "lr: 1"))
    with pytest.raises(ConfigError, match=r"config\.yaml: was changed after the run was frozen"):
        freeze.freeze_sweep(prepared, TYPED, fresh=False)
    assert [run.folder for run in plan.runs(tmp_path)] == list((tmp_path / "runs").glob("[!.]*"))
    assert freeze.freeze_sweep(prepared, TYPED, fresh=True).id != plan.id
    record_training(Run(plan.runs(tmp_path)[0].folder), 0.5)
    again = freeze.freeze_sweep(prepared[1:], TYPED, fresh=False)
    assert again.jobs == plan.jobs, "a finished run does not need its config"


def freeze_all(prepared: list[Prepared], barrier: "multiprocessing.synchronize.Barrier") -> None:
    barrier.wait(60)
    freeze.freeze_sweep(prepared, TYPED, fresh=False)


def test_equal_sweeps_started_at_the_same_time_share_their_runs(
    tmp_path: Path, prepared: list[Prepared]
) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    processes = [context.Process(target=freeze_all, args=(prepared, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(list((tmp_path / "runs").glob("[!.]*"))) == 2


def test_a_lock_that_another_command_holds_for_long_is_one_line(
    tmp_path: Path, prepared: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "ALONE_S", 0.1)
    with (
        folder.alone(tmp_path),
        pytest.raises(ConfigError, match=r"\.lock: another command has held it for"),
    ):
        freeze.freeze_run(prepared[0], [])
    assert not list((tmp_path / "runs").glob("[!.]*"))
