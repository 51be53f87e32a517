"""Which runs the arguments of `compare` mean, and from which source they are read."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.runfolder.plan import Plan, SweepJob, load_plan
from harness.runfolder.run import RACES
from harness.runfolder.target import Target
from harness.tracking.errors import StoreError
from harness.tracking.reading import Reader
from harness.tracking.recorded import Journals
from harness.tracking.selection import Selection, newest_sweep, select
from tests.conftest import new_run, record_training
from tests.tracking.conftest import deliver


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A sweep of two runs, of which one is in another experiment."""
    runs = [
        record_training(new_run(tmp_path, "tracking.experiment=mnist"), 0.5),
        record_training(new_run(tmp_path, "tracking.experiment=study1"), 0.25),
    ]
    jobs = tuple(SweepJob(run.id, "n", {}, "k") for run in runs)
    Plan("0123456789", ("-m",), jobs).save(tmp_path)
    return tmp_path


def test_runs_on_disk_are_read_from_their_journals(outputs: Path) -> None:
    """Wherever they were delivered to: the sweep is whole."""
    for words in (["0123"], ["last"], [], ["status = 'FINISHED'"]):
        chosen = select(outputs, words)
        assert isinstance(chosen.source, Journals)
        assert len(chosen.recorded) == 2
        assert chosen.notes == ()
    assert select(outputs, ["0123"]).title == "sweep 0123456789"


def test_an_experiment_that_lacks_runs_of_a_sweep_says_so(outputs: Path) -> None:
    """`tracking.experiment=study1` reuses a run that is in another experiment."""
    chosen = select(outputs, ["study1"])
    assert len(chosen.recorded) == 1
    assert chosen.notes == (
        "1 more runs of sweep 0123456789 are in experiment 'mnist'; "
        "`python -m harness compare 0123456789` compares all of them",
    )


def test_a_part_of_a_sweep_or_an_experiment_is_not_the_whole(outputs: Path) -> None:
    one = record_training(new_run(outputs, "tracking.experiment=mnist", "batch=50"), 0.5)
    plan = load_plan(outputs, "0123456789")
    replace(plan, jobs=(*plan.jobs[:1], SweepJob(one.id, "n", {}, "k"))).save(outputs)
    for run in (plan.runs(outputs)[0], one):
        run.join_sweep("0123456789", "1/2")
        deliver(outputs, run.folder)
    for uri in (None, Target.local(outputs).uri):
        experiment = select(outputs, ["mnist"], uri)
        assert (experiment.sweep, experiment.experiment, experiment.notes) == ("", "mnist", ())
        part = select(outputs, ["mnist", "params.batch = '50'"], uri)
        assert (part.sweep, part.experiment, len(part.recorded)) == ("", "", 1)
        assert part.notes == (), "the other run of the sweep is not in another experiment"
        part = select(outputs, ["0123", "params.batch = '50'"], uri)
        assert (part.title, part.sweep) == ("sweep 0123456789 params.batch = '50'", "")
    assert select(outputs, ["0123"]).sweep == "0123456789"


def test_runs_whose_seeds_were_added_by_results_are_known_in_any_selection(tmp_path: Path) -> None:
    """A sweep that chose its seeds before keeps its runs, though a race has added to them."""
    runs = [record_training(new_run(tmp_path, f"seed={seed}"), 0.5) for seed in range(4)]
    *fixed, shared, added = runs
    for sweep, its, words in (
        ("f" * 10, [*fixed, shared], ()),
        ("d" * 10, [shared, added], ("until=decided",)),
    ):
        jobs = tuple(SweepJob(run.id, "n", {}, "k") for run in its)
        Plan(sweep, ("-m", *words), jobs).save(tmp_path)
        for number, run in enumerate(its):
            run.join_sweep(sweep, str(number), kind=RACES if words else "")
    raced = {shared.id, added.id}
    assert select(tmp_path, ["ffff"]).raced == frozenset()
    assert select(tmp_path, ["dddd"]).raced == raced
    assert select(tmp_path, ["ffff", "dddd"]).raced == raced
    assert select(tmp_path, ["ffff", added.id]).raced == {added.id}
    assert select(tmp_path, []).raced == raced
    assert select(tmp_path, ["dddd", "status = 'FINISHED'"]).raced == raced


def test_a_run_that_cannot_be_read_is_named(outputs: Path) -> None:
    lost = select(outputs, []).recorded[0]
    (Path(lost.location) / "journal.jsonl").unlink()
    chosen = select(outputs, ["0123"])
    assert len(chosen.recorded) == 1
    (note,) = chosen.notes
    assert note.startswith(f"left out: {lost.location}/journal.jsonl")


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_runs_that_are_no_longer_on_disk_are_read_from_the_store(outputs: Path) -> None:
    runs = [Path(run.location) for run in select(outputs, []).recorded]
    deliver(outputs, *runs)
    for folder in runs:
        folder.rename(outputs / folder.name)
    chosen = select(outputs, ["study1"])
    assert isinstance(chosen.source, Reader)
    assert [run.run for run in chosen.recorded] == [runs[1].name]
    assert len(chosen.notes) == 0, "no run of it has a sweep's tag"


def test_a_word_that_means_nothing_is_named(outputs: Path) -> None:
    with pytest.raises(ValueError, match="'nonsense' is no run, sweep, name or experiment in "):
        select(outputs, ["nonsense"])
    with pytest.raises(StoreError, match=r"nowhere\.db: no results yet"):
        select(outputs, [], f"sqlite:///{outputs}/nowhere.db")


def test_the_newest_sweep(outputs: Path, tmp_path: Path) -> None:
    assert newest_sweep(outputs) == "0123456789"
    with pytest.raises(ValueError, match=r"elsewhere: no sweep yet; start one with `python -m"):
        newest_sweep(tmp_path / "elsewhere")


def test_archived_sweeps_are_said_to_be(outputs: Path) -> None:
    plan = load_plan(outputs, "0123456789")
    replace(plan, is_archived=True).save(outputs)
    with pytest.raises(ValueError, match=r"all sweeps are archived; `python -m harness status"):
        newest_sweep(outputs)


def test_several_sweeps_are_compared_by_what_each_is(outputs: Path) -> None:
    plan = load_plan(outputs, "0123456789")
    replace(plan, costs=("parameters",)).save(outputs)
    replace(plan, id="xbbbbbbbbb", costs=("time/epoch_s", "parameters")).save(outputs)
    chosen = select(outputs, ["0123456789", "xbbbbbbbbb"])
    assert chosen.costs == ("parameters", "time/epoch_s")


@pytest.mark.parametrize(
    ("title", "about", "name"),
    [
        ("sweep 0123456789", {"sweep": "0123456789"}, "0123456789"),
        ("sweep 0123456789 since=7d", {}, "sweep-"),
        ("experiment mnist", {"experiment": "mnist"}, "experiment-mnist"),
        ("experiment a/b c", {"experiment": "a/b c"}, "experiment-"),
        ("runs abc def", {}, "runs-"),
        ("filter params.batch = '16'", {}, "filter-"),
    ],
)
def test_the_name_is_one_of_a_folder(title: str, about: dict[str, str], name: str) -> None:
    full = Selection(title, [], Journals(), **about).name
    assert full.startswith(name)
    assert not name.endswith("-") or len(full) == len(name) + 8, "a digest"
    assert "/" not in full
