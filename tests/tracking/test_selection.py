"""Which runs the arguments of `compare` mean, and from which source they are read."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.runfolder.plan import Plan, SweepJob
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking import selection
from harness.tracking.recorded import Journals, Recorded, from_journal
from harness.tracking.selection import Selection, select
from tests.conftest import new_run, record_training

sweeps: dict[str, list[Run]] = {}


class Reader:
    """Stands for the reader of a store."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def newest_sweep(self) -> str:
        return "newest"

    lacking = 0  # how many of a sweep's runs the store does not have

    def sweep(self, sweep: str) -> tuple[str, list[Recorded]]:
        return f"sweep {sweep}", [from_journal(run) for run in sweeps[sweep][self.lacking :]]

    def select(self, words: Sequence[str]) -> tuple[str, list[Recorded]]:
        return f"runs {' '.join(words)}", []


@pytest.fixture(autouse=True)
def reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "Reader", Reader)


def sweep_of(outputs: Path, plan_id: str, *overrides: str) -> list[Run]:
    """A sweep of two finished runs."""
    runs = [record_training(new_run(outputs, *overrides), error) for error in (0.5, 0.25)]
    jobs = tuple(SweepJob(run.id, "n", {}, "k") for run in runs)
    Plan(plan_id, ("-m",), jobs).save(outputs)
    sweeps[plan_id] = runs
    return runs


def target_of(chosen: Selection) -> Target:
    assert isinstance(chosen.source, Reader)
    return chosen.source.target


def test_a_sweep_without_tracking_is_read_from_its_journals(tmp_path: Path) -> None:
    runs = sweep_of(tmp_path, "0123456789", "tracking=none")
    for words in ([], ["0123"], ["0123456789"]):
        chosen = select(tmp_path, words, None)
        assert isinstance(chosen.source, Journals)
        assert chosen.title == "sweep 0123456789"
        assert [recorded.run for recorded in chosen.recorded] == [run.id for run in runs]


def test_a_removed_run_is_left_out(tmp_path: Path) -> None:
    first, second = sweep_of(tmp_path, "0123456789", "tracking=none")
    first.folder.rename(tmp_path / "away")
    assert [recorded.run for recorded in select(tmp_path, [], None).recorded] == [second.id]


def test_a_sweep_is_read_from_the_store_of_its_runs(tmp_path: Path) -> None:
    """Also when that is a server: its address is not needed on the command line."""
    sweep_of(tmp_path, "aaaaaaaaaa", "tracking=server", "tracking.uri=http://host:5000")
    chosen = select(tmp_path, [], None)
    assert target_of(chosen) == Target("http://host:5000")
    assert chosen.title == "sweep aaaaaaaaaa"
    sweep_of(tmp_path, "bbbbbbbbbb")
    assert target_of(select(tmp_path, [], None)) == Target.local(tmp_path), "the newest sweep"


def test_a_sweep_that_no_store_has_whole_is_read_from_its_journals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of its runs were not delivered, or were reused and are in another store."""
    runs = sweep_of(tmp_path, "aaaaaaaaaa")
    monkeypatch.setattr(Reader, "lacking", 1)
    chosen = select(tmp_path, [], None)
    assert isinstance(chosen.source, Journals)
    assert [recorded.run for recorded in chosen.recorded] == [run.id for run in runs]
    assert f"{Target.local(tmp_path)} lacks 1 of its 2 runs" in chosen.notes[0]
    runs[0].bind(Target("http://host:5000"))
    chosen = select(tmp_path, [], None)
    assert len(chosen.recorded) == 2
    assert "some of its runs are in other stores" in chosen.notes[0]


def test_another_store_knows_nothing_of_the_plans_here(tmp_path: Path) -> None:
    sweep_of(tmp_path, "0123456789", "tracking=none")
    chosen = select(tmp_path, [], "http://host:5000")
    assert target_of(chosen) == Target("http://host:5000")
    assert chosen.title == "runs newest"


@pytest.mark.parametrize("words", [["mnist"], ["abc", "def"], ["params.batch = '16'"]])
def test_other_words_are_for_the_store(tmp_path: Path, words: list[str]) -> None:
    sweep_of(tmp_path, "0123456789", "tracking=none")
    chosen = select(tmp_path, words, None)
    assert target_of(chosen) == Target.local(tmp_path)
    assert chosen.title == f"runs {' '.join(words)}"


def test_an_ambiguous_prefix_is_for_the_store(tmp_path: Path) -> None:
    for plan_id in ("0123456789", "01abcdefab"):
        sweep_of(tmp_path, plan_id, "tracking=none")
    assert isinstance(select(tmp_path, ["012"], None).source, Journals)
    assert target_of(select(tmp_path, ["01"], None)) == Target.local(tmp_path)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("sweep 0123456789", "0123456789"),
        ("experiment mnist", "experiment-mnist"),
        ("experiment a/b c", "experiment-"),
        ("runs abc def", "runs-"),
        ("filter params.batch = '16'", "filter-"),
    ],
)
def test_the_name_is_one_of_a_folder(title: str, name: str) -> None:
    full = Selection(title, [], Journals()).name
    assert full.startswith(name)
    assert not name.endswith("-") or len(full) == len(name) + 8, "a digest"
    assert "/" not in full
