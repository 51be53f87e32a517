"""Removing, restoring, and removing for good: folders, MLflow's runs, sweeps, searches.

Covers: commands/restore.py, commands/gc.py, runfolder/removed.py, tracking/removal.py
"""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.commands import gc
from harness.runfolder import removed, selection
from harness.runfolder.folder import all_runs, alone, open_run
from harness.runfolder.plan import Plan, SweepJob, all_plans, load_plan, sweeps_folder
from harness.runfolder.run import Run
from harness.runfolder.status import ExitStatus
from harness.runfolder.target import Target
from harness.tracking.store import Store
from tests.conftest import Command, new_run, record_training
from tests.tracking.conftest import deliver

SWEEP, OTHER = "xaaaaaaaaa", "xbbbbbbbbb"


def save(outputs: Path, sweep: str, runs: list[Run]) -> None:
    jobs = tuple(SweepJob(run.id, "n", {}, "k") for run in runs)
    Plan(sweep, ("-m",), jobs).save(outputs)


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Three runs without MLflow; a sweep has the first two of them, another the last two."""
    outputs = tmp_path / "outputs"
    made = [record_training(new_run(outputs, "tracking=none"), 0.5) for _ in range(3)]
    save(outputs, SWEEP, made[:2])
    save(outputs, OTHER, made[1:])
    return made


def ids(folder: Path) -> list[str]:
    return [run.id for run in all_runs(folder)]


def test_a_run_goes_and_comes_back_whole(command: Command, runs: list[Run], tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    before = {path.name: path.read_bytes() for path in runs[0].folder.glob("*.*")}
    done = command("harness", "rm", runs[0].id, "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"removed 1 run; `python -m harness restore {runs[0].id}` brings them back\n"
    )
    assert ids(outputs) == [run.id for run in runs[1:]]
    assert len(all_plans(outputs)) == 2, "the sweep stays, without the run"
    assert runs[0].id in command("harness", "status", "--removed").stdout
    assert runs[0].id not in command("harness", "status").stdout
    for words in (("compare",), ("reproduce",), ("predict", "digit.png", "--run")):
        done = command("harness", *words, runs[0].id[:8])
        assert (done.returncode, done.stdout) == (2, "")
        assert f"run {runs[0].id} was removed from outputs; `python -m har" in done.stderr
    done = command("harness", "restore", runs[0].id[:8])
    assert (done.returncode, done.stderr) == (0, "")
    assert ids(outputs) == [run.id for run in runs]
    after = {path.name: path.read_bytes() for path in runs[0].folder.glob("*.*")}
    assert after == before


def test_a_sweep_goes_without_the_runs_of_other_sweeps(
    command: Command, runs: list[Run], tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    (outputs / "reports" / SWEEP).mkdir(parents=True)
    (outputs / "reports" / SWEEP / "index.html").write_text("report")
    done = command("harness", "rm", SWEEP[:4], "--yes")
    assert done.returncode == 0, done.stderr
    assert "1 run(s) of it stay: they belong to other sweeps as well" in done.stdout
    assert ids(outputs) == [run.id for run in runs[1:]]
    assert [plan.id for plan in all_plans(outputs)] == [OTHER]
    assert not (outputs / "reports" / SWEEP).exists()
    assert command("harness", "restore", SWEEP).returncode == 0
    assert ids(outputs) == [run.id for run in runs]
    assert {plan.id for plan in all_plans(outputs)} == {SWEEP, OTHER}
    assert (outputs / "reports" / SWEEP / "index.html").read_text() == "report"


def test_several_sweeps_go_and_come_back_as_wholes(
    command: Command, runs: list[Run], tmp_path: Path
) -> None:
    """Not as loose runs, of which some are of a third sweep."""
    outputs = tmp_path / "outputs"
    more = [record_training(new_run(outputs, "tracking=none"), 0.25) for _ in range(2)]
    save(outputs, "xddddddddd", more)
    before, plans = ids(outputs), {plan.id for plan in all_plans(outputs)}
    done = command("harness", "rm", SWEEP, "xddddddddd", "--yes")
    assert done.returncode == 0, done.stderr
    assert "1 run(s) of it stay: they belong to other sweeps as well" in done.stdout
    assert f"removed sweeps {SWEEP}, xddddddddd with 3 runs;" in done.stdout
    assert ids(outputs) == [run.id for run in runs[1:]]
    assert [plan.id for plan in all_plans(outputs)] == [OTHER]
    assert command("harness", "restore", SWEEP, "xddddddddd").returncode == 0
    assert ids(outputs) == before
    assert {plan.id for plan in all_plans(outputs)} == plans


def test_a_sweep_that_was_made_again_takes_no_place_and_loses_none(
    command: Command, runs: list[Run], tmp_path: Path
) -> None:
    """Repeating its command makes a sweep of the same id."""
    outputs = tmp_path / "outputs"
    assert command("harness", "rm", SWEEP, "--yes").returncode == 0
    again = record_training(new_run(outputs, "tracking=none"), 0.25)
    save(outputs, SWEEP, [again])
    (outputs / "reports" / SWEEP).mkdir(parents=True)
    (outputs / "reports" / SWEEP / "index.html").write_text("new")
    for words in (["restore", SWEEP], ["rm", SWEEP, "--yes"]):
        done = command("harness", *words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), words
        assert "it was removed, and made again since" in done.stderr
        assert [job.run for job in load_plan(outputs, SWEEP).jobs] == [again.id]
        assert (outputs / "reports" / SWEEP / "index.html").read_text() == "new"
    assert command("harness", "restore", runs[0].id).returncode == 0
    assert {*ids(outputs)} == {again.id, *(run.id for run in runs)}
    assert command("harness", "gc", "--yes").returncode == 0
    assert command("harness", "rm", SWEEP, "--yes").returncode == 0


def test_the_printed_command_brings_back_just_what_was_removed(
    command: Command, runs: list[Run], tmp_path: Path
) -> None:
    """Not what `last` or a filter means among everything that was removed before."""
    outputs, elsewhere = tmp_path / "outputs", ("--outputs", str(tmp_path / "other runs"))
    record_training(new_run(outputs, "seed=7", "tracking=none"), 0.5)

    def brings_back(*words: str) -> str:
        before = {*ids(outputs)}, {plan.id for plan in all_plans(outputs)}
        done = command("harness", "rm", *words, "--yes")
        assert (done.returncode, done.stderr) == (0, "")
        found = re.search(r"`python -m (.*)` brings", done.stdout)
        assert found is not None
        again = command(*shlex.split(found[1]))
        assert (again.returncode, again.stderr) == (0, "")
        assert ({*ids(outputs)}, {plan.id for plan in all_plans(outputs)}) == before
        return found[1]

    assert command("harness", "rm", "last", "--yes").returncode == 0
    assert brings_back("last") == f"harness restore {OTHER}"
    assert brings_back("last~1") == f"harness restore {SWEEP}"
    assert brings_back(SWEEP[:3]) == f"harness restore {SWEEP[:3]}"
    assert brings_back(runs[0].id[:5], runs[1].id[:7]).endswith(runs[1].id[:7])
    assert {*brings_back("params.seed < 7").split()[2:]} == {run.id for run in runs}
    outputs.rename(elsewhere[1])
    outputs = Path(elsewhere[1])
    assert brings_back(SWEEP, *elsewhere) == shlex.join(["harness", "restore", SWEEP, *elsewhere])


def test_gc_removes_for_good_and_remembers(
    command: Command, runs: list[Run], tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    assert command("harness", "gc", "--yes").stdout == "there is nothing to delete permanently\n"
    assert command("harness", "rm", runs[0].id, "--yes").returncode == 0
    done = command("harness", "gc", "--yes")
    assert (done.returncode, done.stdout, done.stderr) == (0, "permanently deleted 1 run(s)\n", "")
    assert removed.gone(outputs) == {runs[0].id}
    assert list(removed.place(outputs).glob("runs/*-*")) == []
    done = command("harness", "restore", runs[0].id)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is nothing that was removed" in done.stderr


@pytest.mark.parametrize("moves", range(4))
def test_what_a_kill_left_half_done_is_finished_by_the_same_command(
    command: Command,
    runs: list[Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moves: int,
) -> None:
    """After each number of renames: of two runs, the report, and the plan."""
    outputs, its = tmp_path / "outputs", runs[:2]
    (sweeps_folder(outputs) / f"{OTHER}.json").unlink()
    (outputs / "reports" / SWEEP).mkdir(parents=True)
    plan = load_plan(outputs, SWEEP)
    for act, name, left in ((removed.remove, "rm", {runs[2].id}), (removed.restore, "restore", {})):
        count = iter(range(moves))
        with monkeypatch.context() as patch:

            def move(path: Path, folder: Path, count: Iterator[int] = count) -> None:
                next(count)
                path.rename(folder / path.name)

            for folder in (outputs, removed.place(outputs)):
                for part in ("runs", "sweeps", "reports"):
                    (folder / part).mkdir(parents=True, exist_ok=True)
            patch.setattr(removed, "_move", move)
            place = outputs if name == "rm" else removed.place(outputs)
            with pytest.raises(StopIteration):
                act(outputs, [open_run(place, run.id) for run in its], [plan])
        done = command("harness", name, SWEEP, *(["--yes"] if name == "rm" else []))
        assert (done.returncode, done.stderr) == (0, "")
        assert {*ids(outputs)} == {*(left or (run.id for run in runs))}
        assert [each.id for each in all_plans(place)] == []
        assert not (place / "reports" / SWEEP).exists()


def test_a_torn_line_of_what_is_gone_takes_no_other_with_it(
    runs: list[Run], tmp_path: Path
) -> None:
    """As a full disk leaves it."""
    outputs = tmp_path / "outputs"
    removed.remove(outputs, runs, ())
    gone = removed.place(outputs) / removed.GONE
    gone.write_text('{"run": "torn", "na')
    for run in runs[:2]:
        removed.erase(outputs, removed.removed_run(outputs, run.id))
    assert removed.gone(outputs) == {run.id for run in runs[:2]}
    assert len(gone.read_text().splitlines()) == 3


def test_what_gc_removes_meanwhile_is_not_restored(
    command: Command, runs: list[Run], tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    removed.remove(outputs, [runs[0]], [load_plan(outputs, SWEEP)])
    with ThreadPoolExecutor(1) as pool, alone(outputs):
        restore = pool.submit(command, "harness", "restore", SWEEP)
        time.sleep(2)  # it has seen what was removed, and waits
        removed.erase(outputs, removed.removed_run(outputs, runs[0].id))
        removed.erase_rest(outputs)
    done = restore.result()
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "is nothing that was removed" in done.stderr
    assert [plan.id for plan in all_plans(outputs)] == [OTHER]


def test_what_is_removed_meanwhile_is_not_removed_for_good(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gc` saw nothing to remove, and asked nobody."""
    outputs = tmp_path / "outputs"
    removed.remove(outputs, runs[:1], ())
    removed.restore(outputs, [removed.removed_run(outputs, runs[0].id)], ())
    looks = []

    class Outputs(selection.Outputs):
        def __init__(self, folders: Sequence[Path]) -> None:
            super().__init__(folders)
            looks.append(self)
            if len(looks) == 1:
                removed.remove(outputs, runs[:1], [load_plan(outputs, SWEEP)])

    monkeypatch.setattr(gc, "Outputs", Outputs)
    done = CliRunner().invoke(gc.gc, ["--yes", "--outputs", str(outputs)])
    assert (done.exit_code, done.stdout) == (0, "there is nothing to delete permanently\n")
    assert [plan.id for plan in all_plans(removed.place(outputs))] == [SWEEP]


def test_gc_removes_for_good_only_what_it_asked_for(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others were removed, and one was restored, until the answer came."""
    outputs = tmp_path / "outputs"
    removed.remove(outputs, runs[:2], ())

    def confirmed(question: str, *, yes: bool) -> bool:
        assert question.startswith("permanently delete 2 run(s)")
        removed.restore(outputs, [removed.removed_run(outputs, runs[0].id)], ())
        removed.remove(outputs, runs[2:], [load_plan(outputs, OTHER)])
        return True

    monkeypatch.setattr(gc, "confirmed", confirmed)
    done = CliRunner().invoke(gc.gc, ["--outputs", str(outputs)])
    assert (done.exit_code, done.stdout) == (0, "permanently deleted 1 run(s)\n")
    assert ids(outputs) == [runs[0].id]
    assert ids(removed.place(outputs)) == [runs[2].id]
    assert [plan.id for plan in all_plans(removed.place(outputs))] == [OTHER]
    assert removed.gone(outputs) == {runs[1].id}


def test_a_killed_gc_is_finished_by_the_next(runs: list[Run], tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    removed.remove(outputs, [runs[0]], ())
    folder = removed.removed_run(outputs, runs[0].id).folder
    folder.rename(folder.with_name(f"{removed.HALF_GONE}{runs[0].id}"))
    assert all_runs(removed.place(outputs)) == [], "it is no run anymore"
    removed.erase_rest(outputs)
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize(("answer", "left"), [("n\n", 3), ("y\n", 2)])
def test_a_person_is_asked_once(runs: list[Run], tmp_path: Path, answer: str, left: int) -> None:
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "rm", runs[0].id],
        stdin=inner, stdout=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    os.write(outer, answer.encode())
    shown, _ = process.communicate(timeout=60)
    assert f"  {runs[0].id}  batch=16\nremove 1 run? [y/N]:" in shown
    assert process.returncode == (ExitStatus.FAILED if left == 3 else ExitStatus.DONE)
    assert len(all_runs(tmp_path / "outputs")) == left


def test_nothing_is_removed_without_an_answer(command: Command, runs: list[Run]) -> None:
    done = command("harness", "rm", runs[0].id)
    assert (done.returncode, done.stderr) == (
        2, "error: cannot ask for confirmation without a terminal; use --yes\n",
    )  # fmt: skip
    assert runs[0].is_readable()


def test_what_is_being_trained_stays(command: Command, runs: list[Run]) -> None:
    with runs[0].lock():
        done = command("harness", "rm", OTHER, runs[0].id, "--yes")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{runs[0].id} is still training; stop it first" in done.stderr
    assert all(run.is_readable() for run in runs)
    done = command("harness", "rm", "since=2999-01-01", "--yes")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow_follows(command: Command, tmp_path: Path) -> None:
    """Deleted there, restored there, and erased with its artifacts; `sync` brings nothing back."""
    outputs = tmp_path / "outputs"
    made = [record_training(new_run(outputs), 0.5) for _ in range(2)]
    (made[0].folder / "environment.txt").write_text("numpy")
    made[0].add_artifacts(["environment.txt"])
    deliver(outputs, *(run.folder for run in made))
    mlflow_id = made[0].delivered()["mlflow_id"]
    client = Store(Target.local(outputs)).client
    removed.remove(outputs, [made[0]], ())  # as a killed command leaves it
    assert command("harness", "rm", made[1].id, "--yes").returncode == 0
    assert client.get_run(mlflow_id).info.lifecycle_stage == "deleted"
    assert command("harness", "restore", made[1].id).returncode == 0
    done = command("harness", "sync")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 of 1 runs delivered in full" in done.stdout
    assert client.get_run(mlflow_id).info.lifecycle_stage == "deleted"
    assert command("harness", "restore", made[0].id).returncode == 0
    assert client.get_run(mlflow_id).info.lifecycle_stage == "active"
    done = command("harness", "sync")
    assert (done.returncode, "2 of 2 runs delivered in full" in done.stdout) == (0, True)
    artifacts = list((outputs / "artifacts").glob(f"*/{mlflow_id}"))
    assert len(artifacts) == 1
    assert command("harness", "rm", made[0].id, "--yes").returncode == 0
    assert command("harness", "gc", "--yes").returncode == 0
    assert not artifacts[0].exists()
    found = client.search_runs(["1"], run_view_type=3)
    assert [run.info.run_id for run in found] == [made[1].delivered()["mlflow_id"]]
    assert command("harness", "sync").returncode == 0


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_store_that_does_not_answer_is_told_later(command: Command, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    run = record_training(new_run(outputs), 0.5)
    deliver(outputs, run.folder)
    mlflow_id = run.delivered()["mlflow_id"]
    database = outputs / "mlflow.db"
    content = database.read_bytes()
    database.write_bytes(b"no database" * 1000)
    done = command("harness", "rm", run.id, "--yes")
    assert done.returncode == ExitStatus.UNDELIVERED
    assert f"still in the store: {run.id}: " in done.stderr
    assert all_runs(outputs) == [], "removed here, whatever the store does"
    done = command("harness", "restore", run.id)
    assert done.returncode == 0, "it was never deleted there"
    assert command("harness", "rm", run.id, "--yes").returncode == ExitStatus.UNDELIVERED
    database.write_bytes(content)
    assert command("harness", "sync").returncode == 0
    client = Store(Target.local(outputs)).client
    assert client.get_run(mlflow_id).info.lifecycle_stage == "deleted"
    database.write_bytes(b"no database" * 1000)
    done = command("harness", "restore", run.id)
    assert done.returncode == ExitStatus.UNDELIVERED
    assert "nothing was restored in outputs" in done.stderr
    assert all_runs(outputs) == []


@pytest.mark.service
def test_the_trials_of_a_search_go_with_it(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """Repeating its command after `rm` starts anew; after `restore` it has its trials."""
    search = (
        "harness.run", "-m", "dataset=idx", f"dataset.dir={idx_folder}", "dataset.num_val=40",
        "epochs=1", "width=8", "tracking=none", "hydra/sweeper=optuna", "lr=interval(0.1, 1)",
        "hydra.sweeper.n_trials=3", "hydra.sweeper.study=s",
    )  # fmt: skip
    assert command(*search).returncode == 0
    first = ids(tmp_path / "outputs")
    assert len(first) == 3
    assert command("harness", "rm", "s", "--yes").returncode == 0
    assert ids(tmp_path / "outputs") == []
    assert command("harness", "restore", "s").returncode == 0
    assert command(*search).returncode == 0
    assert ids(tmp_path / "outputs") == first, "it has its total"
    assert command("harness", "rm", "s", "--yes").returncode == 0
    assert command(*search).returncode == 0
    again = ids(tmp_path / "outputs")
    assert len(again) == 3
    assert not {*first} & {*again}
    assert command("harness", "gc", "--yes").returncode == 0
    assert json.loads(command("harness", "status", "--json").stdout)["sweeps"][0]["finished"] == 3
