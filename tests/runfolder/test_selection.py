"""What the words of a selection mean, with run folders on disk."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.runfolder import merging, removed, selection
from harness.runfolder.about import About
from harness.runfolder.folder import Ambiguous
from harness.runfolder.history import ARCHIVED
from harness.runfolder.plan import Plan, SweepJob
from harness.runfolder.run import REPRODUCES, Run
from harness.runfolder.selection import Outputs, Unknown, one_run, select, since_ms
from tests.conftest import new_run, record_training


@dataclass
class Made:
    """Two sweeps that share a run, and runs by themselves."""

    outputs: Path
    old: list[Run]
    new: list[Run]
    single: Run
    other: Run


def save(outputs: Path, plan: str, runs: list[Run]) -> None:
    jobs = tuple(SweepJob(run.id, f"seed={i}", {}, "k") for i, run in enumerate(runs))
    Plan(plan, ("-m",), jobs).save(outputs)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    outputs = tmp_path_factory.mktemp("outputs")
    old = [record_training(new_run(outputs), 0.5), record_training(new_run(outputs), 0.25)]
    save(outputs, "xaaaaaaaaa", old)
    time.sleep(0.002)  # the plan is saved in ns, the runs are made in ms
    single = record_training(new_run(outputs, name="lr=0.1,seed=3"), 0.25)
    other = record_training(new_run(outputs, "tracking.experiment=study"), 0.125)
    time.sleep(0.002)
    new = [record_training(new_run(outputs), 0.5), old[0]]
    save(outputs, "xbbbbbbbbb", new)
    new_run(outputs, **{REPRODUCES: single.id})
    return Made(outputs, old, new, single, other)


def ids(runs: "list[Run] | tuple[Run, ...]") -> list[str]:
    return [run.id for run in runs]


def test_a_sweep_is_its_runs_in_its_order(made: Made) -> None:
    for word in ("xbb", "xbbbbbbbbb"):
        chosen = select(made.outputs, [word])
        assert (chosen.title, ids(chosen.runs)) == ("sweep xbbbbbbbbb", ids(made.new))
        assert [run.name for run in chosen.runs] == ["seed=0", "seed=1"], "by its own names"
        assert chosen.plan is not None
        assert chosen.plan.id == "xbbbbbbbbb"


def test_several_words_are_their_union_oldest_first(made: Made) -> None:
    chosen = select(made.outputs, ["xbb", made.single.id[:8], "xaa"])
    assert ids(chosen.runs) == ids([*made.old, made.single, made.new[0]])
    assert chosen.title == f"sweep xbbbbbbbbb and run {made.single.id} and sweep xaaaaaaaaa"
    assert select(made.outputs, ["xaa", "xbb"]).title == "sweeps xaaaaaaaaa xbbbbbbbbb"


def test_names_and_experiments(made: Made) -> None:
    assert ids(select(made.outputs, ["lr=0.1,seed=3"]).runs) == [made.single.id]
    assert ids(select(made.outputs, ["study"]).runs) == [made.other.id]
    assert len(select(made.outputs, ["batch=16"]).runs) == 4
    assert select(made.outputs, ["study"]).title == "experiment study"


def test_last_is_what_the_newest_command_made(made: Made) -> None:
    """A reproduction is no command of its own."""
    expected = [ids(made.new), [made.other.id], [made.single.id], ids(made.old)]
    for back, runs in enumerate(expected):
        assert ids(select(made.outputs, [f"last~{back}"]).runs) == runs
    assert ids(select(made.outputs, ["last"]).runs) == ids(made.new)
    with pytest.raises(Unknown, match=r"last~4: there are 4 sweeps and single runs in "):
        select(made.outputs, ["last~4"])


def test_conditions_restrict_what_the_other_words_mean(made: Made) -> None:
    best = "metrics.val/error < 0.3"
    assert ids(select(made.outputs, [best]).runs) == ids([made.old[1], made.single, made.other])
    assert ids(select(made.outputs, ["xaa", best]).runs) == [made.old[1].id]
    chosen = select(made.outputs, [best, "xaa", "study", "since=1h", "params.seed = '1'"])
    assert ids(chosen.runs) == ids([made.old[1], made.other])
    assert chosen.title == (
        f"sweep xaaaaaaaaa and experiment study {best} since=1h params.seed = '1'"
    )
    assert select(made.outputs, ["since=2999-01-01"]).runs == ()
    assert select(made.outputs, ["since=7d"]).title == "filter since=7d"


def test_a_reproduction_is_meant_by_its_id_only(made: Made) -> None:
    reproduction = Outputs([made.outputs]).runs[-1]
    assert select(made.outputs, [reproduction.id]).runs == (reproduction,)
    for words in ([], ["since=1h"], ["mnist"], ["batch=16"], ["last"]):
        assert reproduction not in select(made.outputs, words).runs


def test_without_words_all_runs(made: Made) -> None:
    assert len(select(made.outputs).runs) == 5, "without the reproduction"
    assert select(made.outputs).title == "all runs"
    assert select(made.outputs / "nowhere").runs == ()


def test_what_names_nothing_or_several_things_is_one_line(made: Made) -> None:
    with pytest.raises(Unknown, match="'xyz' is no run, sweep, name or experiment in ") as unknown:
        select(made.outputs, ["xaa", "xyz"])
    assert unknown.value.word == "xyz"
    with pytest.raises(Ambiguous, match="'x' could be xaaaaaaaaa, xbbbbbbbbb"):
        select(made.outputs, ["x"])
    with pytest.raises(ValueError, match="is not a filter"):
        select(made.outputs, ["params.batch >"])
    with pytest.raises(Unknown, match="'' is no run"):
        select(made.outputs, [""])


def test_several_outputs_are_read_as_one(made: Made, tmp_path: Path) -> None:
    more = record_training(new_run(tmp_path), 0.5)
    save(tmp_path, "xbbbbbbbbb", [more])
    both = [made.outputs, tmp_path]
    assert len(select(both).runs) == 6
    assert ids(select(both, ["xbb"]).runs) == ids([*made.new[::-1], more])
    assert ids(select(both, ["last"]).runs) == [more.id]


def test_a_folder_without_a_journal_is_named(made: Made, tmp_path: Path) -> None:
    kept, lost = (record_training(new_run(tmp_path), 0.5) for _ in range(2))
    save(tmp_path, "xaaaaaaaaa", [kept, lost])
    lost.journal.unlink()
    for words in (["xaa"], [], ["since=1d"], ["mnist"]):
        chosen = select(tmp_path, words)
        assert ids(chosen.runs) == [kept.id]
        assert [str(lost.folder) in each for each in chosen.unreadable] == [True]
    assert select(tmp_path, [kept.id]).unreadable == ()
    with pytest.raises(ValueError, match=r"journal\.jsonl"):
        select(tmp_path, [lost.id])


def test_a_run_of_a_sweep_whose_folder_is_gone_is_named(tmp_path: Path) -> None:
    kept, lost, taken = (record_training(new_run(tmp_path), 0.5) for _ in range(3))
    save(tmp_path, "xaaaaaaaaa", [kept, lost, taken])
    removed.remove(tmp_path, [taken], [])
    assert select(tmp_path, ["xaa"]).unreadable == (), "what `rm` removed is as somebody wanted it"
    shutil.rmtree(lost.folder)
    for words in (["xaa"], [], ["since=1d"], ["last"]):
        chosen = select(tmp_path, words)
        assert ids(chosen.runs) == [kept.id]
        assert chosen.unreadable == (
            f"seed=1 ({lost.id}) of sweep xaaaaaaaaa: its folder is gone; repeating the sweep's "
            "command trains it again",
        )
    other = tmp_path / "other"
    merging.merge(other, tmp_path)
    assert len(select([tmp_path, other], ["xaa"]).unreadable) == 1
    removed.erase(tmp_path, removed.removed_run(tmp_path, taken.id))
    assert len(select(tmp_path, ["xaa"]).unreadable) == 1


def test_the_name_of_what_was_archived_says_so(tmp_path: Path) -> None:
    runs = [record_training(new_run(tmp_path, name="pilot"), 0.5) for _ in range(2)]
    jobs = tuple(SweepJob(run.id, "seed=0", {}, "k") for run in runs[1:])
    Plan("xaaaaaaaaa", ("-m",), jobs, about=About(name="trial"), is_archived=True).save(tmp_path)
    with pytest.raises(ValueError, match=r"'trial' was archived; .* by id: xaaaaaaaaa; "):
        select(tmp_path, ["trial"])
    for run in runs:
        run.add_tags({ARCHIVED: "true"})
    for word in ("pilot", "mnist"):
        back = f"--undo {runs[0].id} --outputs {tmp_path}`"
        with pytest.raises(ValueError, match=f"{runs[0].id}, {runs[1].id}; .*{back}"):
            select(tmp_path, [word])
    assert ids(select(tmp_path, [runs[0].id]).runs) == [runs[0].id]


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("12h", 43200), ("1.5d", 129600)])
def test_an_age(text: str, seconds: float) -> None:
    assert since_ms(text) / 1000 == pytest.approx(time.time() - seconds, abs=5)


def test_a_time_is_local() -> None:
    local = time.mktime((2026, 11, 27, 0, 0, 0, 0, 0, -1))
    assert since_ms("2026-11-27") == local * 1000
    assert since_ms("2026-11-27T09:30") == (local + 9.5 * 3600) * 1000
    for text in ("", "yesterday", "7", "7y", "2026-13-01"):
        with pytest.raises(ValueError, match=f"since={text}: expected an age such as 90m"):
            since_ms(text)


def test_titles() -> None:
    assert selection.title(["run a", "run b"], []) == "runs a b"
    assert selection.title(["run a", "sweep b"], ["since=7d"]) == "run a and sweep b since=7d"


def test_a_run_that_several_outputs_have_counts_once(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for outputs, values in ((first, (0.1,)), (second, (0.2, 0.3))):
        run = record_training(new_run(outputs, "seed=1", name="same"), *values)
        Plan("xeeeeeeeee", ("-m",), (SweepJob(run.id, "same", {}, "k"),)).save(outputs)
    shared = tmp_path / "second/runs" / selection.select(first).runs[0].id
    shutil.copytree(selection.select(first).runs[0].folder, shared)
    both = selection.select([first, second])
    assert len(both.runs) == 2
    of_both = selection.select([first, second], ["xeee"])
    assert (of_both.sweep, of_both.plan, len(of_both.runs)) == ("xeeeeeeeee", None, 2)
    with (shared / "journal.jsonl").open("a") as journal:
        journal.write('{"n": 99, "kind": "tags", "ms": 1, "tags": {}}\n')
    longer = selection.select([first, second]).runs
    assert len(longer) == 2
    assert {run.outputs for run in longer} == {second}  # the longer journal counts


def test_one_run_is_meant_by_any_words_for_it(made: Made) -> None:
    assert one_run(made.outputs, "lr=0.1,seed=3") == made.single
    assert one_run(made.outputs, made.old[0].id) == made.old[0]
    assert one_run(made.outputs, "study") == made.other
    newest = max((run for run in Outputs([made.outputs]).own), key=lambda run: run.create["order"])
    assert one_run(made.outputs, "last") == newest
    with pytest.raises(ValueError, match="sweep xaaaaaaaaa has 2 runs; name one, such as"):
        one_run(made.outputs, "xaaaaaaaaa")
    with pytest.raises(ValueError, match=r"filter since=2999-01-01 has 0 runs$"):
        one_run(made.outputs, "since=2999-01-01")
