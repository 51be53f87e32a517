"""Runs, curves and settings as data frames, from journals and from a real store."""

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import harness
from harness.analysis import fields, frames
from harness.runfolder.plan import Plan, SweepJob
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from harness.runfolder.sweep import Sweep
from harness.runfolder.target import Target
from harness.tracking.recorded import Journals, Recorded
from harness.tracking.selection import Selection
from tests.analysis.conftest import make_run
from tests.conftest import new_run, record_training
from tests.tracking.conftest import deliver

SWEEP = "aaaaaaaaaa"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two batch sizes and two seeds, and a run that failed; also in a store."""
    folder = tmp_path_factory.mktemp("outputs")
    settings = [(batch, seed) for batch in (16, 128) for seed in (1, 2)]
    runs = [
        record_training(
            new_run(folder, f"batch={batch}", f"seed={seed}", f"width=[{batch},8]", sweep=SWEEP),
            0.5, 1 / batch + seed / 1000,
        )
        for batch, seed in settings
    ]  # fmt: skip
    jobs = tuple(SweepJob(run.id, "n", {"batch": ""}, "k") for run in runs)
    Plan(SWEEP, ("-m",), jobs).save(folder)
    runs.append(record_training(new_run(folder, "lr=0.5"), 0.5, status="FAILED", error="why"))
    deliver(folder, *(run.folder for run in runs))
    return folder


def test_one_row_a_run_with_typed_columns(outputs: Path) -> None:
    frame = harness.runs(outputs=outputs)
    assert list(frame["status"]) == ["FINISHED"] * 4 + ["FAILED"]
    assert list(frame["batch"]) == [16, 16, 128, 128, 32]
    assert frame["batch"].dtype == np.int64
    assert (frame["seed"].dtype, frame["lr"].dtype) == (np.int64, np.float64)
    assert frame["width"].iloc[0] == "[16,8]", "a list stays text, which groups"
    assert "epochs" not in frame, "it does not differ"
    assert list(frame["epochs_done"]) == [2, 2, 2, 2, 1]
    assert list(frame["seconds"]) == [1.0, 1.0, 1.0, 1.0, 0.5]
    assert frame["val/error"].iloc[0] == pytest.approx(1 / 16 + 0.001)
    assert np.isnan(frame["test/error"].iloc[4])
    assert list(frame["sweep"])[:4] == [SWEEP] * 4
    assert pd.isna(frame["sweep"].iloc[4])
    assert isinstance(frame["created"].dtype, pd.DatetimeTZDtype)
    assert (frame["ended"] >= frame["created"]).all()


def test_a_run_of_two_sweeps_is_told_by_the_one_that_is_selected(tmp_path: Path) -> None:
    shared, earlier = (
        record_training(new_run(tmp_path, f"batch={batch}", sweep="0123456789"), 0.5)
        for batch in (16, 32)
    )
    later = record_training(new_run(tmp_path, "batch=64", sweep="fedcba9876"), 0.5)
    shared.join_sweep("fedcba9876", "1")
    first = harness.runs(shared.id, earlier.id, outputs=tmp_path)
    assert list(first["sweep"]) == ["0123456789"] * 2
    second = harness.runs(shared.id, later.id, outputs=tmp_path)
    assert list(second["sweep"]) == ["fedcba9876"] * 2
    every = harness.runs(outputs=tmp_path).set_index("run")["sweep"]
    assert every[shared.id] == "fedcba9876", "none is common to all: the newest"


def test_a_setting_of_another_program_may_have_the_name_of_a_column(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """scikit-learn's and Keras's autologs log the param and the metric `loss`."""
    runs = [
        Recorded(
            f"id{seed}", f"name{seed}", RunStatus.FINISHED,
            {"loss": "hinge", "name": "svc", "seed": str(seed)}, {}, {"loss": 0.5, "seconds": 7},
            {}, f"id{seed}",
        )
        for seed in (1, 2)
    ]  # fmt: skip
    selection = Selection("experiment other", runs, Journals())
    monkeypatch.setattr(frames, "_select", lambda *_: selection)
    row = harness.runs(every_setting=True).iloc[0]
    assert (row["run"], row["name"], row["params.name"]) == ("id1", "name1", "svc")
    assert math.isnan(row["seconds"]), "another program did not say how long it trained"
    assert (row["params.loss"], row["loss"], row["metrics.seconds"]) == ("hinge", 0.5, 7.0)


def test_every_setting_on_request(outputs: Path) -> None:
    frame = harness.runs("last", outputs=outputs, every_setting=True)
    assert frame["epochs"].dtype == np.int64
    assert frame["optimizer.name"].iloc[0] == "sgd"
    assert frame["dataset.split_seed"].notna().all()


@pytest.mark.parametrize("given", ["id", "run", "sweep", "words", "filter"])
def test_a_selection_is_words_or_objects(outputs: Path, given: str) -> None:
    sweep = Sweep.open(outputs, SWEEP)
    words: dict[str, tuple[str | Run | Sweep, ...]] = {
        "id": (SWEEP[:4],),
        "run": tuple(sweep.runs),
        "sweep": (sweep,),
        "words": tuple(run.id for run in sweep.runs),
        "filter": ("params.lr < 0.4", "status = 'FINISHED'"),
    }
    where = {} if given in ("run", "sweep") else {"outputs": outputs}
    assert set(harness.runs(*words[given], **where)["run"]) == {run.id for run in sweep.runs}


def test_curves_are_long(outputs: Path) -> None:
    frame = harness.curves(SWEEP, outputs=outputs)
    assert list(frame.columns) == ["run", "epoch", "metric", "value"]
    assert len(frame) == 4 * 2 * 2
    chosen = harness.curves(SWEEP, outputs=outputs, only=["val/error"])
    assert set(chosen["metric"]) == {"val/error"}
    merged = chosen.merge(harness.runs(SWEEP, outputs=outputs), on="run")
    means = merged[merged["epoch"] == 2].groupby("batch")["value"].mean()
    assert means[16] == pytest.approx(1 / 16 + 0.0015)


@pytest.mark.parametrize("place", ["outputs", "uri"])
def test_a_metric_that_no_run_has_is_named(outputs: Path, place: str) -> None:
    where = {"outputs": outputs} if place == "outputs" else {"uri": str(Target.local(outputs))}
    for only in (["val/eror"], "val/eror", ["val/error", "val/eror"]):
        with pytest.raises(ValueError, match=r"metric 'val/eror': no run of .* such as val/error"):
            harness.curves(SWEEP, only=only, **where)
    with pytest.raises(ValueError, match=r"expected one such as time/epoch_s, val/error$"):
        harness.curves(SWEEP, only=["nonsense"], **where)
    frame = harness.curves(SWEEP, only="val/error", **where)
    assert len(frame) == 8


def test_a_metric_of_whole_runs_has_no_curve(outputs: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"'test/error': has one value a run, which `harness.runs`"
    ):
        harness.curves(SWEEP, outputs=outputs, only=["test/error"])
    run = new_run(tmp_path, "epochs=2")
    assert harness.curves(run, only=["val/error"]).empty, "it has not begun"


def test_a_metric_that_some_epochs_lack_keeps_its_epochs(tmp_path: Path) -> None:
    """A trainer of your own may validate every other epoch."""
    run = new_run(tmp_path)
    with run.writing() as journal:
        for epoch in (1, 2, 3, 4):
            values = {"train/loss": 1.0} | ({"val/error": epoch / 8} if epoch % 2 == 0 else {})
            journal.append("epoch", epoch=epoch, metrics=values)
    frame = harness.curves(run)
    shown = frame[frame["metric"] == "val/error"]
    assert list(shown["epoch"]) == [2, 4]
    assert list(shown["value"]) == [0.25, 0.5]


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_store_gives_the_same_frames(outputs: Path) -> None:
    uri = str(Target.local(outputs))
    for make in (harness.runs, harness.curves):
        local = make(SWEEP, outputs=outputs)
        stored = make(SWEEP, outputs=outputs, uri=uri)
        if make is harness.runs:
            local, stored = (each.drop(columns=["ended", "name"]) for each in (local, stored))
        keys = ["run"] if make is harness.runs else ["run", "metric", "epoch"]
        first, second = (
            each.astype({key: str for key in keys if key != "epoch"})
            .sort_values(keys, ignore_index=True)
            for each in (local, stored)
        )  # fmt: skip
        pd.testing.assert_frame_equal(first, second[first.columns])


def test_the_ranking_as_a_frame(tmp_path: Path) -> None:
    for batch in (5, 30):
        for seed in (1, 2):
            make_run(tmp_path, batch, seed)
    make_run(tmp_path, 7, 1, status="FAILED")
    with pytest.warns(UserWarning, match="left out because not finished: 1 FAILED"):
        frame = harness.settings(outputs=tmp_path)
    assert list(frame["batch"]) == [5, 30]
    assert list(frame["n"]) == [2, 2]
    assert frame["against_best"].iloc[0] == "best"
    assert frame["val_error_best_epoch_mean"].dtype == np.float64


def test_nothing_selected(tmp_path: Path) -> None:
    assert len(harness.runs(outputs=tmp_path)) == 0
    assert list(harness.curves(outputs=tmp_path).columns) == ["run", "epoch", "metric", "value"]
    with pytest.raises(ValueError, match="'xyz' is no run, sweep"):
        harness.runs("xyz", outputs=tmp_path)
    with pytest.raises(ValueError, match="there are no runs to compare"):
        harness.settings(outputs=tmp_path)


@pytest.mark.parametrize("metric", [None, "val/error"])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("batches", [(16,), (16, 64)])
@pytest.mark.filterwarnings("ignore::UserWarning")  # notes on what cannot be tested
def test_every_column_of_settings_has_its_type(
    tmp_path: Path, metric: str | None, seeds: int, batches: tuple[int, ...]
) -> None:
    for batch in batches:
        for seed in range(seeds):
            run = new_run(tmp_path, f"batch={batch}", f"seed={seed}")
            record_training(run, 0.5, 1 / batch + seed / 100)
    key = None if metric is None else "params.seed"
    frame = harness.settings(outputs=tmp_path, metric=metric, seed_key=key)
    assert len(frame) == len(batches)
    whole = {"rank", "n", "batch"} & set(frame)
    for name in frame:
        if name in fields.TEXTS:
            assert isinstance(frame[name].iloc[0], str | None), name
        elif name in whole:
            assert frame[name].dtype == np.int64, name
        elif name != "params.batch":
            assert frame[name].dtype == np.float64, name
    assert frame.filter(like="_std").isna().all(axis=None) == (seeds == 1)
    assert frame["test_difference"].isna().iloc[0]


@pytest.mark.parametrize("word", [None, 3, [], ["last"], ("last",), b"last", Path("last")])
@pytest.mark.parametrize("make", [harness.runs, harness.curves, harness.settings])
def test_what_is_no_selection_is_named(outputs: Path, make: Any, word: Any) -> None:
    hint = "write \\*list" if isinstance(word, list | tuple) else "or a sweep$"
    with pytest.raises(ValueError, match=rf"^{re.escape(repr(word))}: expected a text .*{hint}"):
        make(word, outputs=outputs)


@pytest.mark.parametrize("make", [harness.runs, harness.curves, harness.settings, harness.open])
def test_a_folder_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    with pytest.raises(ValueError, match=f"^outputs={tmp_path}/none: is missing; expected"):
        make("last", outputs=tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^outputs=outputs: is missing in {tmp_path}; expected"):
        make("last")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^outputs=file: is a file; expected the folder"):
        make("last", outputs="file")


@pytest.mark.parametrize("outputs", [None, 3, []])
def test_what_is_no_folder_is_named(outputs: Any) -> None:
    with pytest.raises(ValueError, match=r"^outputs=.*: expected a folder, or a list of folders"):
        harness.runs(outputs=outputs)


def test_texts_become_values() -> None:
    assert frames.typed(["1", "0.5", None]) == [1, 0.5, None]
    assert frames.typed(["True", "False"]) == [True, False]
    assert frames.typed(["None", "3"]) == [None, 3]
    assert frames.typed(["64", "[512, 256]"]) == ["64", "[512, 256]"], "a column has one type"
    assert frames.typed(["adam", "None"]) == ["adam", None]


def test_journals_are_read_without_mlflow(outputs: Path) -> None:
    code = (
        f"import sys, harness; harness.runs(outputs={str(outputs)!r}); "
        f"harness.curves(outputs={str(outputs)!r}); "
        "print([m for m in ('mlflow', 'hydra', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
