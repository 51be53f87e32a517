"""Reading many runs from a real SQLite store and a real server: nothing lost, nothing cut off."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.runfolder import versions
from harness.runfolder.history import PAUSED, PRUNED
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from harness.runfolder.target import Target
from harness.tracking import reading
from harness.tracking import store as stores
from harness.tracking.errors import StoreError
from harness.tracking.reading import Found, Reader
from harness.tracking.recorded import Missing, from_journal
from harness.tracking.store import Store
from harness.tracking.ui import serve
from tests.conftest import free_port, record_training
from tests.tracking.conftest import deliver, fresh_store, make_run

pytestmark = [pytest.mark.service, pytest.mark.filterwarnings("ignore")]  # MLflow's own warnings
RUNS, EPOCHS = 7, 11
NAME = """étude "2" it's 100%_"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven runs of eleven epochs; one of them has NaN, a repeated step and steps out of order."""
    folder = tmp_path_factory.mktemp("outputs")
    store = Store(Target.local(folder))
    for number in range(RUNS):
        run = f"{number}{number}cafe-x"
        tags = {"run.id": run, "sweep": "0123456789" if number < 4 else "01ffffffff"}
        if number >= 4:
            tags["sweep.name"] = NAME
        record = {"run": run, "ms": 1000 + number, "tags": tags, "name": f"run {number}"}
        mlflow_id = store.open_run(record | {"experiment": "many"}).info.run_id
        points = [(epoch, number + epoch / 100, 10 + epoch) for epoch in range(EPOCHS, 0, -1)]
        if number == 1:
            points += [(5, math.nan, 99), (5, 7.5, 98)]
        store.log(mlflow_id, {"val/error": points}, {"batch": number}, tags)
        store.set_status(mlflow_id, RunStatus.FINISHED, 2000)
    return folder


@pytest.fixture(scope="module", params=["sqlite", "http"])
def reader(request: pytest.FixtureRequest, outputs: Path) -> Iterator[Reader]:
    if request.param == "sqlite":
        yield Reader(Target.local(outputs))
        return
    with serve(Target.local(outputs), free_port()) as address:
        yield Reader(Target(address))


@pytest.mark.parametrize("rows", [25_000, 40, 12])
def test_curves_are_complete_whatever_the_limit_of_a_call(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """12 rows are fewer than two runs have: the answers are cut off, and asked for again."""
    monkeypatch.setattr(reading, "BULK_ROWS", rows)
    runs = reader.select(["many"]).runs
    reader.add_curves(runs, ["val/error", "no/such"])
    assert [run.name for run in runs] == [f"run {number}" for number in range(RUNS)]
    for number, run in enumerate(runs):
        expected = number + np.arange(1, EPOCHS + 1) / 100
        if number == 1:
            expected[4] = np.nan  # the last word on step 5
        np.testing.assert_array_equal(run.curves["val/error"], expected)
        before = {key: str(value) for key, value in versions.before().items()}
        assert run.params == before | {"batch": str(number)}, "those added since are as before"


def test_sweeps_are_found_by_a_prefix_while_it_is_unique(reader: Reader) -> None:
    found = reader.select(["0123"])
    assert (found.title, found.sweep, len(found.runs)) == ("sweep 0123456789", "0123456789", 4)
    assert reader.newest_sweep() == "01ffffffff"
    with pytest.raises(ValueError, match="sweep '01' could be 0123456789, 01ffffffff"):
        reader.select(["01"])


def test_what_the_user_called_so(reader: Reader) -> None:
    found = reader.select([NAME])
    assert (found.title, found.sweep, len(found.runs)) == ("sweep 01ffffffff", "01ffffffff", 3)
    found = reader.select(["run 2"])
    assert (found.title, found.sweep) == ("name run 2", "")
    assert [run.run for run in found.runs] == ["22cafe-x"]
    found = reader.select([NAME, "since=2000-01-01"])
    assert found.runs == [], "the runs of this store are from 1970"
    assert (found.title, found.sweep) == ("sweep 01ffffffff since=2000-01-01", "")
    with pytest.raises(ValueError, match="is not a sweep, an experiment, a name or a run"):
        reader.select([NAME.replace("'", "x")])


def test_filters_and_runs(reader: Reader) -> None:
    assert [run.name for run in reader.select(["params.batch = '3'"]).runs] == ["run 3"]
    for key in ("metrics.val/error", "metrics.`val/error`", 'metrics."val/error"'):
        found = reader.select([f"{key}<1 and tags.run.id != 'metrics.a/b'"]).runs
        assert [run.name for run in found] == ["run 0"]
    picked = reader.select(["22ca", "44ca"]).runs
    assert [run.run for run in picked] == ["22cafe-x", "44cafe-x"]
    assert reader.run(picked[0].location[:12]).run == "22cafe-x"
    with pytest.raises(ValueError, match="not a filter that MLflow understands"):
        reader.select(["params.batch ="])
    with pytest.raises(ValueError, match="is not a sweep, an experiment, a name or a run"):
        reader.run("it's")


def test_what_was_deleted_in_mlflow_is_said_to_be(tmp_path: Path) -> None:
    """By its ids, with the command that brings it back; a run that was sent anew is not meant."""
    fresh_store(tmp_path)
    target = Target.local(tmp_path)
    store = Store(target)
    mlflow_ids = {}
    for run, experiment in (("aa11-x", "first"), ("bb22-x", "first"), ("cc33-x", "second")):
        record = {"run": run, "ms": 1, "tags": {"run.id": run}, "name": "n"}
        mlflow_ids[run] = store.open_run(record | {"experiment": experiment}).info.run_id
    store.delete(mlflow_ids["aa11-x"])
    store.replace(mlflow_ids["bb22-x"])
    number = store.experiment("second")
    store.client.delete_experiment(number)
    reader = Reader(target)
    restore = f"`MLFLOW_TRACKING_URI={target.uri} mlflow"
    for word in ("aa11", mlflow_ids["aa11-x"]):
        with pytest.raises(
            ValueError, match=r"^run aa11-x was deleted in MLflow \(sqlite"
        ) as found:
            reader.select([word])
        how = f"{restore} runs restore --run-id {mlflow_ids['aa11-x']}` brings it back"
        assert str(found.value).endswith(how)
    with pytest.raises(ValueError, match="'bb22' is not a sweep, an experiment, a name or a run"):
        reader.run("bb22")
    with pytest.raises(ValueError, match=r"^run cc33-x was deleted in MLflow \(") as found:
        reader.run("cc33-x")
    how = f"{restore} experiments restore --experiment-id {number}` brings it back"
    assert str(found.value).endswith(how)
    store.restore(mlflow_ids["aa11-x"])
    assert reader.run("aa11").run == "aa11-x"


def test_how_a_search_ended_a_run(tmp_path: Path) -> None:
    fresh_store(tmp_path)
    store = Store(Target.local(tmp_path))
    errors = {"pruned": "pruned by the search after epoch 1", "paused": f"{PAUSED} after epoch 1"}
    for run, error in errors.items():
        record = {"run": run, "ms": 1, "tags": {"run.id": run}, "name": "n", "experiment": "e"}
        mlflow_id = store.open_run(record).info.run_id
        store.log(mlflow_id, tags={PRUNED: "true", "error": error})
        store.set_status(mlflow_id, RunStatus.KILLED, 2000)
    for run in errors:
        assert Reader(store.target).run(run).how_pruned == run


@pytest.mark.parametrize("is_paused", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_how_a_run_ended_is_one_word_in_the_journal_and_in_the_store(
    tmp_path: Path, *, is_paused: bool, together: bool
) -> None:
    """A search ends a run, starts it again, is interrupted, and may end it once more."""
    run = Run(make_run(tmp_path, "aaa", status="KILLED"))
    word, seen = "paused" if is_paused else "pruned", []
    for end_again in (
        lambda: run.mark_pruned(5, is_paused=is_paused),
        lambda: record_training(run, 0.5, status="KILLED", error="interrupted"),
        lambda: run.mark_pruned(6, is_paused=is_paused),
    ):
        end_again()
        if not together:
            deliver(tmp_path, run.folder)
            stored = Reader(Target.local(tmp_path)).run("aaa")
            assert stored.how_pruned == from_journal(run).how_pruned
            assert stored.tags.get(PRUNED) == run.history().tags.get(PRUNED)
        seen.append(from_journal(run).how_pruned)
    assert seen == [word, "", word]
    record_training(run, 0.5, status="KILLED", error="interrupted")
    deliver(tmp_path, run.folder)
    for ended in (Reader(Target.local(tmp_path)).run("aaa"), from_journal(run)):
        assert (ended.how_pruned, ended.status) == ("", RunStatus.KILLED)
        assert PRUNED not in ended.tags


def test_a_missing_artifact_is_named(reader: Reader, tmp_path: Path) -> None:
    (run,) = reader.select(["params.batch = '3'"]).runs
    with pytest.raises(Missing, match=r"33cafe-x: the artifact predictions/test\.npz is missing"):
        reader.fetch(run, "predictions/test.npz", tmp_path)


def test_attached_files_arrive(reader: Reader, tmp_path: Path) -> None:
    (run,) = reader.select(["params.batch = '3'"]).runs
    (tmp_path / "index.html").write_text("<p>")
    reader.attach(run, [tmp_path / "index.html"], "report/x")
    (tmp_path / "back").mkdir()
    fetched = reader.fetch(run, "report/x/index.html", tmp_path / "back")
    assert fetched.read_text() == "<p>"


def test_reading_creates_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no results yet"):
        Reader(Target.local(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_that_lacks_runs_of_a_sweep_says_so(tmp_path: Path) -> None:
    """`tracking.experiment=study1` reuses a run that is in another experiment."""
    fresh_store(tmp_path)
    store = Store(Target.local(tmp_path))
    for number, experiment in enumerate(("mnist", "study1", "study1")):
        tags = {"run.id": str(number), "sweep": "0123456789" if number < 2 else ""}
        record = {"run": str(number), "ms": 1, "tags": tags, "name": "n", "experiment": experiment}
        store.open_run(record)
    reader = Reader(Target.local(tmp_path))
    assert len(reader.sweep("0123456789").runs) == 2
    found = reader.select(["study1"])
    assert (found.experiment, len(found.runs)) == ("study1", 2)
    assert reader.elsewhere(found.runs) == [
        "1 more runs of sweep 0123456789 are in experiment 'mnist'; "
        "`python -m harness compare 0123456789` compares all of them"
    ]
    assert reader.elsewhere(reader.sweep("0123456789").runs) == []


def test_every_experiment_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those beyond the first page of the store's answer."""
    fresh_store(tmp_path)
    store = Store(Target.local(tmp_path))
    for number in range(5):
        store.experiment(f"e{number}")
    monkeypatch.setattr(stores, "PAGE", 2)
    assert Reader(Target.local(tmp_path)).select(["e0"]) == Found(
        "experiment e0", [], experiment="e0"
    )


def test_the_data_sets_of_another_program_are_one_whatever_their_order() -> None:
    from mlflow.entities import Dataset, DatasetInput, Run, RunData, RunInfo, RunInputs

    info = RunInfo("run", "1", "me", "FINISHED", 1, 2, "active")
    given = [DatasetInput(Dataset(name, digest, "local", "{}", '{"test": 5}'))
             for name, digest in (("wine", "f2"), ("wine", "a1"))]  # fmt: skip
    for inputs in (given, given[::-1]):
        run = Run(info, RunData(), RunInputs(inputs))
        assert reading.dataset_of(run) == {"name": "wine", "sha256": "a1+f2"}
    assert reading.dataset_of(Run(info, RunData(), RunInputs([]))) == {}


def test_a_search_is_found_by_its_name(tmp_path: Path) -> None:
    """`hydra.sweeper.study=wide-net`; a run of this name comes first, as in outputs."""
    fresh_store(tmp_path)
    store = Store(Target.local(tmp_path))
    for number, sweep in enumerate(("wide-net_2", "wide-net", "wide-net")):
        tags = {"run.id": f"{number}0ff", "sweep": sweep}
        name = "wide" if number == 0 else "n"
        record = {"run": f"{number}0ff", "ms": 1 + number, "tags": tags, "name": name}
        store.open_run(record | {"experiment": "many"})
    reader = Reader(Target.local(tmp_path))
    found = reader.select([reader.newest_sweep()])
    assert (found.title, found.sweep, len(found.runs)) == ("sweep wide-net", "wide-net", 2)
    assert reader.select(["last"]).sweep == "wide-net"
    assert reader.select(["wide-net_"]).sweep == "wide-net_2"
    assert [run.run for run in reader.select(["wide"]).runs] == ["00ff"]
    with pytest.raises(ValueError, match="sweep 'wide-' could be wide-net, wide-net_2"):
        reader.select(["wide-"])
