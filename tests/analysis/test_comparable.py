"""Which runs are compared; what is left out, and what is less certain, becomes a note."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.runfolder.run import ACCEPTED, SOURCE, Run
from harness.tracking.recorded import from_journal
from tests.analysis.conftest import build, make_run


def test_unfinished_runs_are_left_out_with_a_note(tmp_path: Path) -> None:
    good = [make_run(tmp_path, 5, 1), make_run(tmp_path, 6, 1)]
    bad = [
        make_run(tmp_path, 7, 1, status="FAILED"),
        make_run(tmp_path, 8, 1, status="KILLED"),
        make_run(tmp_path, 9, 1, status=None),
    ]
    comparison = build(tmp_path, *good, *bad)
    assert len(comparison.settings) == 2
    (note,) = [note for note in comparison.notes if "left out" in note]
    assert note.startswith("left out because not finished: 1 FAILED, 1 KILLED, 1 RUNNING (batch=7")


def test_pruned_trials_are_counted_as_such(tmp_path: Path) -> None:
    """By the same rule as in `status`, also after a pause that is over."""
    pruned, killed, paused, later_pruned, later_killed = (
        Run(Path(make_run(tmp_path, batch, 1, status=None).location)) for batch in range(7, 12)
    )
    pruned.mark_pruned(1)
    for run in (paused, later_pruned, later_killed):
        run.mark_pruned(1, is_paused=True)
    for run in (later_pruned, later_killed):
        with run.writing() as journal:
            journal.append("start", host="h", pid=1, threads=1, backend="numpy")
    later_pruned.mark_pruned(2)
    for run in (killed, later_killed):
        with run.writing() as journal:
            journal.append("end", status="KILLED", error="interrupted")
    every = [from_journal(run) for run in (pruned, killed, paused, later_pruned, later_killed)]
    assert [run.how_pruned for run in every] == ["pruned", "", "paused", "pruned", ""]
    comparison = build(tmp_path, make_run(tmp_path, 5, 1), *every)
    (note,) = [note for note in comparison.notes if "left out" in note]
    assert note.startswith("left out because not finished: 2 PRUNED, 2 KILLED, 1 PAUSED (batch=7")


def test_nothing_finished_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing to compare: left out because .* 1 FAILED"):
        build(tmp_path, make_run(tmp_path, 7, 1, status="FAILED"))


def test_an_empty_sweep_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sweep abc: there are no runs to compare"):
        build(tmp_path)


def test_runs_without_metrics_are_left_out_with_a_note(tmp_path: Path) -> None:
    foreign = replace(make_run(tmp_path, 6, 1), final={"accuracy": 0.9}, curves={})
    comparison = build(tmp_path, make_run(tmp_path, 5, 1), foreign)
    assert len(comparison.settings) == 1
    assert any(
        "1 finished run(s) have neither val/error nor test/error" in n for n in comparison.notes
    )


def test_runs_of_other_source_that_a_sweep_accepted_get_a_note(tmp_path: Path) -> None:
    other = make_run(tmp_path, 6, 1)
    runs = [make_run(tmp_path, 5, 1), replace(other, tags=other.tags | {ACCEPTED: "xyz,abc"})]
    (note,) = [note for note in build(tmp_path, *runs).notes if "source" in note]
    assert note.startswith("1 run(s) were trained with other source than the rest and accepted")
    assert note.endswith(f": {other.name}")
    unasked = replace(other, tags=other.tags | {ACCEPTED: "xyz"})
    assert not [n for n in build(tmp_path, runs[0], unasked).notes if "source" in n]


def test_other_source_of_own_modules_separates_settings_unless_accepted(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, 5, seed) for seed in (1, 2)]
    runs = [replace(run, params=run.params | {"trainer.name": "mine:fit"}) for run in runs]
    codes = zip(runs, ("aa" * 32, "bb" * 32), strict=True)
    runs = [replace(run, tags=run.tags | {"code.sha256": code}) for run, code in codes]
    labels = [setting.label for setting in build(tmp_path, *runs).settings]
    assert labels == ["code=aaaaaaaa", "code=bbbbbbbb"]
    accepted = replace(runs[0], tags=runs[0].tags | {ACCEPTED: "abc"})
    (setting,) = build(tmp_path, accepted, runs[1]).settings
    assert len(setting.runs) == 2


def test_runs_of_other_source_of_the_package_get_a_note(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, 5, seed) for seed in (1, 2, 3)]
    sources = zip(runs, ("aa", "bb", "bb"), strict=True)
    runs = [replace(run, tags=run.tags | {SOURCE: digest}) for run, digest in sources]
    (note,) = [note for note in build(tmp_path, *runs).notes if "source" in note]
    assert note.startswith("1 of 3 runs were trained with other source of this package")
    assert not [note for note in build(tmp_path, *runs[1:]).notes if "source" in note]
