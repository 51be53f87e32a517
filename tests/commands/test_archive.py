"""Archived runs and sweeps: not listed, not meant by names, and unchanged otherwise."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import harness
from harness.commands.archive import archive
from harness.commands.note import add_tags
from harness.commands.register import best_of
from harness.runfolder.about import About
from harness.runfolder.folder import alone
from harness.runfolder.history import ARCHIVED
from harness.runfolder.plan import Plan, SweepJob, change, load_plan
from harness.runfolder.run import Run
from harness.runfolder.selection import one_run, select
from harness.runfolder.sweep import Sweep
from harness.runfolder.target import Target
from harness.tracking.selection import newest_sweep
from harness.tracking.store import Store
from tests.conftest import Command, new_run, record_training
from tests.tracking.conftest import fresh_store

OLD, NEW = "xaaaaaaaaa", "xbbbbbbbbb"


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Two sweeps of two runs each, and a run by itself; without MLflow."""
    outputs = tmp_path / "outputs"
    made = [record_training(new_run(outputs, "tracking=none", name=f"n{i}"), 0.5) for i in range(5)]
    for name, its in ((OLD, made[:2]), (NEW, made[2:4])):
        jobs = tuple(SweepJob(run.id, "n", {}, "k") for run in its)
        Plan(name, ("-m",), jobs).save(outputs)
    return made


def listed(command: Command, *words: str) -> tuple[list[str], set[str]]:
    content = json.loads(command("harness", "status", "--json", *words).stdout)
    return [each["sweep"] for each in content["sweeps"]], {each["run"] for each in content["runs"]}


def test_a_sweep_is_put_aside_and_listed_again(
    command: Command, runs: list[Run], tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    done = command("harness", "archive", "xbbb")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"sweep {NEW}: archived 2 run(s); `python -m harness archive --undo {NEW}` lists them "
        "again\n"
    )
    assert listed(command) == ([OLD], {runs[0].id, runs[1].id, runs[4].id})
    assert listed(command, "--archived") == ([NEW], {runs[2].id, runs[3].id})
    assert listed(command, "--archived", "--since", "1h") == ([NEW], {runs[2].id, runs[3].id})
    assert listed(command, NEW) == ([NEW], {runs[2].id, runs[3].id})
    assert newest_sweep(outputs) == OLD
    assert select(outputs, ["last"]).title == f"sweep {OLD}"
    assert Sweep.open(outputs, "last").id == OLD
    assert best_of(outputs, None) == runs[0]
    assert len(select(outputs, ["mnist"]).runs) == 3
    assert len(harness.runs(outputs=outputs)) == 3
    with pytest.raises(ValueError, match="was archived"):
        select(outputs, ["n2"])
    again = command("harness", "archive", "--undo", NEW)
    assert again.stdout == f"sweep {NEW}: 2 run(s) are listed again\n"
    assert listed(command) == ([NEW, OLD], {run.id for run in runs})
    assert command("harness", "status", "--archived").stdout == "nothing was archived\n"


def test_a_killed_archive_is_finished_by_the_same_command(
    command: Command, runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a sweep means it until all of its runs are archived."""
    outputs = tmp_path / "outputs"
    change(outputs, NEW, lambda plan: replace(plan, about=About(name="pilot")))

    def add_tags(*_: object) -> list[Run]:
        runs[2].add_tags({ARCHIVED: "true"})
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("harness.commands.archive.add_tags", add_tags)
        result = CliRunner().invoke(archive, ["pilot", "--outputs", str(outputs)])
        assert result.exit_code == 1
    done = command("harness", "archive", "pilot")
    assert (done.returncode, done.stderr) == (0, "")
    assert listed(command, "--archived") == ([NEW], {runs[2].id, runs[3].id})


def test_what_another_command_says_of_a_sweep_meanwhile_stays(
    command: Command, runs: list[Run], tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    with ThreadPoolExecutor(3) as pool:
        note = pool.submit(command, "harness", "note", OLD, "odd")
        with alone(outputs):
            archived = pool.submit(command, "harness", "archive", OLD)
            time.sleep(2)  # both have read the plan, and wait
    assert (note.result().returncode, archived.result().returncode) == (0, 0)
    plan = load_plan(outputs, OLD)
    assert (plan.is_archived, plan.about.note) == (True, "odd")


def test_what_another_sweep_has_too_stays_listed(
    command: Command, runs: list[Run], tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    both = "xccccccccc"
    Plan(both, ("-m",), tuple(SweepJob(run.id, "n", {}, "k") for run in runs[1:4])).save(outputs)
    done = command("harness", "archive", both)
    assert done.stdout == (
        f"sweep {both}: archived 0 run(s); 3 stay listed, which are of sweep {OLD}, {NEW} too; "
        f"`python -m harness archive --undo {both}` lists them again\n"
    )
    assert listed(command) == ([NEW, OLD], {run.id for run in runs})
    assert listed(command, "--archived") == ([both], set())
    assert select(outputs, ["last"]).title == f"sweep {NEW}"
    assert command("harness", "archive", NEW).stdout.startswith(f"sweep {NEW}: archived 2 run(s);")
    assert listed(command) == ([OLD], {runs[0].id, runs[1].id, runs[4].id})
    assert command("harness", "archive", "--undo", both, NEW).returncode == 0
    assert listed(command) == ([both, NEW, OLD], {run.id for run in runs})
    done = command("harness", "archive", both, NEW)
    assert "archived 2 run(s); 1 stay listed, which are of sweep xaaaaaaaaa too;" in done.stdout
    assert listed(command) == ([OLD], {runs[0].id, runs[1].id, runs[4].id})


def test_what_is_archived_is_found_among_what_was_removed(
    command: Command, runs: list[Run]
) -> None:
    assert command("harness", "archive", NEW).returncode == 0
    assert command("harness", "rm", NEW, "--yes").returncode == 0
    assert listed(command, "--removed") == ([NEW], {runs[2].id, runs[3].id})
    assert command("harness", "restore", NEW).returncode == 0
    assert command("harness", "archive", OLD, runs[4].id).returncode == 0
    assert command("harness", "status").stdout.startswith("all runs in outputs are archived;")


def test_a_run_that_another_process_holds_is_named_and_not_counted(
    command: Command, runs: list[Run]
) -> None:
    for words in (("archive", OLD), ("note", OLD, "text")):
        with runs[0].writing():
            done = command("harness", *words)
        assert done.returncode != 0
        assert runs[0].id in done.stderr
        assert "2 run(s)" not in done.stdout


def test_a_run_whose_tag_is_not_written_is_not_said_to_be_listed_again(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = str(runs[0].outputs)
    assert CliRunner().invoke(archive, [OLD, "--outputs", outputs]).exit_code == 0
    monkeypatch.setattr(  # as when another process takes hold of the first meanwhile
        "harness.commands.archive.add_tags", lambda its, tags: add_tags(its[1:], tags)
    )
    done = CliRunner().invoke(archive, ["--undo", OLD, "--outputs", outputs])
    assert done.stdout == f"sweep {OLD}: 1 run(s) are listed again\n"
    assert done.exit_code != 0


def test_what_was_not_archived_is_not_said_to_be_listed_again(
    command: Command, runs: list[Run]
) -> None:
    assert command("harness", "archive", "--undo", NEW).stdout == (
        f"sweep {NEW}: 0 run(s) are listed again\n"
    )


def test_a_command_that_writes_takes_one_folder(command: Command, runs: list[Run]) -> None:
    for words in (("archive", OLD), ("sync",), ("rm", OLD, "--yes")):
        done = command("harness", *words, "--outputs", "outputs", "--outputs", "other")
        assert done.returncode == 2
        assert "--outputs outputs --outputs other: this command takes one folder" in done.stderr


def test_a_sweep_with_one_run_left_is_listed(command: Command, runs: list[Run]) -> None:
    assert command("harness", "archive", runs[0].id, runs[4].id).returncode == 0
    assert listed(command) == ([NEW, OLD], {run.id for run in runs[1:4]})


def test_it_is_taken_along_by_merge(command: Command, runs: list[Run], tmp_path: Path) -> None:
    assert command("harness", "archive", OLD).returncode == 0
    merged = command("harness", "merge", "outputs", "--outputs", "joined")
    assert merged.returncode == 0, merged.stderr
    assert listed(command, "--outputs", "joined") == ([NEW], {run.id for run in runs[2:]})


def test_the_last_run_and_the_best_one_are_not_archived(
    command: Command, runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "outputs"
    assert command("harness", "archive", runs[4].id, runs[2].id).returncode == 0
    assert one_run(outputs, "last") == runs[3]
    assert best_of(outputs, None) == runs[3]
    assert f"left out {runs[2].id}, removed, damaged or archived" in capsys.readouterr().err
    assert [run.is_archived for run in runs] == [False, False, True, False, True]


def test_a_repeated_sweep_is_listed_again(
    command: Command, runs: list[Run], tmp_path: Path
) -> None:
    assert command("harness", "archive", NEW).returncode == 0
    for number, run in enumerate(runs[2:4], 1):
        run.join_sweep(NEW, f"{number}/2")
    jobs = tuple(SweepJob(run.id, "n", {}, "k") for run in runs[2:4])
    Plan(NEW, ("-m",), jobs).save(tmp_path / "outputs")
    assert listed(command) == ([NEW, OLD], {run.id for run in runs})


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow_has_the_tag_until_it_is_undone(command: Command, tmp_path: Path) -> None:
    """Its search finds both kinds; NULL is what has no tag."""
    outputs = tmp_path / "outputs"
    kept, put = (record_training(new_run(outputs), 0.5) for _ in range(2))
    fresh_store(outputs)
    client = Store(Target.local(outputs)).client

    def found(condition: str) -> list[str]:
        (experiment,) = client.search_experiments(filter_string="name = 'mnist'")
        return sorted(
            run.data.tags["run.id"]
            for run in client.search_runs([experiment.experiment_id], condition)
        )

    assert command("harness", "archive", put.id).returncode == 0
    assert command("harness", "sync").returncode == 0
    assert found("tags.archived = 'true'") == [put.id]
    assert found("tags.archived IS NULL") == [kept.id]
    assert command("harness", "archive", "--undo", put.id).returncode == 0
    assert found("tags.archived IS NULL") == sorted([kept.id, put.id])
    assert command("harness", "sync").returncode == 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [(["nonsense"], "'nonsense' is no run"), (["since=2999-01-01"], "there are no runs")],
)
def test_bad_input_is_one_line(
    command: Command, runs: list[Run], words: list[str], problem: str
) -> None:
    done = command("harness", "archive", *words)
    assert done.returncode == 2
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1
