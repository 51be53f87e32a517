"""The end of a command: the table, the links, what is missing, and the exit status."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from harness.run.summary import summarize
from harness.runfolder.plan import SweepJob
from harness.runfolder.run import Run
from harness.runfolder.status import ExitStatus
from harness.runfolder.target import Target
from harness.tracking.delivery import Report
from tests.conftest import new_run, plan_of, record_training

Output = pytest.CaptureFixture[str]


def summarized(
    *runs: Run, report: Report | None = None, target: Target | None = None,
    interrupted: bool = False,
) -> ExitStatus:  # fmt: skip
    return summarize(runs, plan_of(*runs), report or Report(), target, interrupted=interrupted)


@pytest.fixture
def finished(tmp_path: Path) -> Run:
    return record_training(new_run(tmp_path / "outputs"), 0.5, 0.25)


def test_a_run_of_other_source_is_marked(finished: Run, capsys: Output) -> None:
    plan = plan_of(finished)
    assert summarize([finished], plan, Report(), None, interrupted=False) is ExitStatus.DONE
    assert "other source" not in capsys.readouterr().out
    marked = replace(plan, jobs=(replace(plan.jobs[0], other_source="commit abcdef0"),))
    summarize([finished], marked, Report(), None, interrupted=False)
    assert "FINISHED with other source" in capsys.readouterr().out


DELIVERED = Report(experiments={"mnist": "7"})


def test_with_a_server_the_links_are_the_servers(finished: Run, capsys: Output) -> None:
    target = Target.of("server", "http://HOST:5000", finished.outputs)
    assert summarized(finished, report=DELIVERED, target=target) is ExitStatus.DONE
    out = capsys.readouterr().out
    assert "http://HOST:5000/#/experiments/7/runs?" in out
    assert "0123456789" in out
    assert "127.0.0.1" not in out
    assert "python -m harness ui" not in out


def test_a_slash_behind_the_address_is_not_doubled(finished: Run, capsys: Output) -> None:
    summarized(finished, report=DELIVERED, target=Target("http://HOST:5000/"))
    assert "http://HOST:5000/#/experiments" in capsys.readouterr().out


def test_with_a_local_store_the_links_are_those_of_the_ui_command(
    finished: Run, capsys: Output
) -> None:
    summarized(finished, report=DELIVERED, target=finished.target())
    out = capsys.readouterr().out
    ui = f"python -m harness ui --outputs {finished.outputs}"
    assert f"{ui}   then open http://127.0.0.1:5000\n" in out
    assert "http://127.0.0.1:5000/#/experiments/7/runs?" in out
    assert "tags.sweep%20LIKE%20%27%250123456789%25%27" in out


def test_the_link_is_that_of_the_view_where_it_was_stored(finished: Run, capsys: Output) -> None:
    report = Report(experiments={"digits": "7", "letters": "8"}, views=["8"])
    summarized(finished, report=report, target=finished.target())
    links = [line for line in capsys.readouterr().out.splitlines() if "charts:" in line]
    assert "/7/runs?" in links[0]
    assert "searchFilter=" in links[0]
    assert links[1].endswith("&viewStateShareKey=sweep-0123456789   in letters")
    assert "/8/runs?" in links[1]
    assert "searchFilter=" not in links[1], "with which MLflow would not apply the view"


def test_a_single_run_ends_with_its_picture_its_folder_and_the_next_command(
    finished: Run, capsys: Output
) -> None:
    summarize([finished], None, Report(), None, interrupted=False)
    out = capsys.readouterr().out
    assert "learning curves:" not in out, "nothing was drawn"
    picture = finished.folder / "plots/learning_curves.png"
    picture.parent.mkdir()
    picture.write_bytes(b"PNG")
    finished.add_artifacts(["plots/learning_curves.png"])
    summarize([finished], None, Report(), None, interrupted=False)
    elsewhere = shlex.join(["--outputs", str(finished.outputs)])
    assert capsys.readouterr().out.splitlines()[-3:] == [
        f"learning curves:           {picture}",
        f"folder:                    {finished.folder}",
        f"next:                      python -m harness evaluate {finished.id} {elsewhere}",
    ]


def test_a_single_run_that_failed_has_no_next_command(tmp_path: Path, capsys: Output) -> None:
    bad = record_training(new_run(tmp_path / "outputs"), 0.5, status="FAILED", error="why")
    summarize([bad], None, Report(), None, interrupted=False)
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"folder:                    {bad.folder}"


def test_what_earlier_commands_made_is_found_in_their_experiments_by_their_names(
    finished: Run, capsys: Output
) -> None:
    report = Report(experiments={"digits": "7", "letters": "8"})
    summarized(finished, report=report, target=finished.target())
    out = capsys.readouterr().out
    links = [line for line in out.splitlines() if line.startswith("this sweep's charts:")]
    assert [line.rpartition("   ")[2] for line in links] == ["in digits", "in letters"]
    name = finished.create["name"]
    assert f"names there:               batch=1 is {name} ({finished.id})\n" in out
    same = replace(plan_of(finished), jobs=(SweepJob(finished.id, name, {}, "key"),))
    summarize([finished], same, DELIVERED, finished.target(), interrupted=False)
    out = capsys.readouterr().out
    assert "names there" not in out
    assert "   in mnist" not in out


def test_a_single_run_has_no_link_to_a_sweep(finished: Run, capsys: Output) -> None:
    summarize([finished], None, DELIVERED, finished.target(), interrupted=False)
    out = capsys.readouterr().out
    assert "python -m harness ui" in out
    assert "searchFilter" not in out


def test_without_tracking_there_is_no_link(finished: Run, capsys: Output) -> None:
    assert summarized(finished, report=DELIVERED, target=None) is ExitStatus.DONE
    assert "http" not in capsys.readouterr().out


def test_every_run_finished_and_delivered_is_0(finished: Run, capsys: Output) -> None:
    assert summarized(finished, finished, target=finished.target()) == 0
    assert capsys.readouterr().err == ""


def test_a_pruned_trial_is_no_failure(finished: Run, capsys: Output) -> None:
    pruned = record_training(new_run(finished.outputs), 0.5, status=None)
    pruned.mark_pruned(1)
    assert summarized(finished, pruned) == 0
    captured = capsys.readouterr()
    assert "PRUNED" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize("status", ["FAILED", "KILLED", None])
def test_a_failed_or_killed_run_is_1_and_named(
    finished: Run, capsys: Output, status: str | None
) -> None:
    bad = record_training(new_run(finished.outputs, name="lr=9"), 0.5, status=status, error="why")
    report = Report(undelivered={bad.id: "the store is down"})
    assert summarized(finished, bad, report=report, target=finished.target()) == 1
    word = "running" if status is None else status.lower()
    why = "its end record could not be written" if status is None else "why"
    err = capsys.readouterr().err
    assert f"{word}: batch=2 ({bad.id}): {why}\n" in err, "the name of this sweep's job"
    assert f"more in {bad.folder}\n" in err


def test_a_run_that_never_started_is_1(finished: Run) -> None:
    assert summarized(finished, new_run(finished.outputs)) == 1


def test_a_damaged_journal_is_1_and_named(finished: Run, capsys: Output) -> None:
    content = bytearray(finished.journal.read_bytes())
    content[-3] ^= 1
    finished.journal.write_bytes(content)
    assert summarized(finished) == 1
    assert f"{finished.journal}: the record at byte" in capsys.readouterr().err


def test_an_undelivered_run_is_3(finished: Run, capsys: Output) -> None:
    report = Report(undelivered={finished.id: "the store is down"})
    assert summarized(finished, report=report, target=finished.target()) == 3
    err = capsys.readouterr().err
    assert f"not delivered yet: {finished.id}: the store is down\n" in err
    assert f"harness sync --outputs {finished.outputs}` delivers the rest" in err


def test_a_refused_record_is_3(finished: Run, capsys: Output) -> None:
    report = Report(refused={finished.id: 2})
    assert summarized(finished, report=report, target=finished.target()) == 3
    assert f"{finished.id}: the store refused 2 record(s)" in capsys.readouterr().err


def test_an_interrupted_sweep_is_130_and_says_how_to_continue(
    finished: Run, capsys: Output
) -> None:
    killed = record_training(new_run(finished.outputs), 0.5, status="KILLED", error="interrupted")
    waiting = new_run(finished.outputs, name="batch=3")
    assert summarized(finished, killed, waiting, interrupted=True) == 130
    err = capsys.readouterr().err
    assert "not started: batch=3\n" in err
    assert "killed:" not in err, "the user knows"
    assert "interrupted; `python -m harness.run -m batch=1,2` continues from here\n" in err


def test_the_printed_commands_work_as_they_are(tmp_path: Path, capsys: Output) -> None:
    """With outputs in a folder whose name the shell and Hydra read as something else."""
    outputs = tmp_path / "my outputs=a, b"
    run = record_training(new_run(outputs), 0.5)
    report = Report(undelivered={run.id: "the store is down"})
    status = summarize([run], None, report, run.target(), interrupted=True)
    assert status is ExitStatus.INTERRUPTED
    err = capsys.readouterr().err
    commands = [shlex.split(line.split("`")[1]) for line in err.splitlines() if "`" in line]
    assert commands == [
        ["python", "-m", "harness", "sync", "--outputs", str(outputs)],
        ["python", "-m", "harness.run", f"resume={run.id}", f'outputs="{outputs}"'],
    ]
