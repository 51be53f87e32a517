"""How runs of any program are read: the metric, the seeds, the settings, and what is told."""

import re
from pathlib import Path

import numpy as np
import pytest

from harness.analysis import compare, fields
from harness.analysis.measure import Measure
from harness.analysis.ranked import Ranked, rank
from harness.runfolder.status import RunStatus
from harness.tracking.recorded import Journals, Recorded
from harness.tracking.selection import Selection
from tests.analysis.conftest import make_run


def other(number: int, final: dict[str, float], data: str = "", **params: object) -> Recorded:
    """A run of another program. data: the digest of its data set."""
    return Recorded(
        run=f"run{number}",
        name=f"name{number}",
        status=RunStatus.FINISHED,
        params={key: str(value) for key, value in params.items()},
        tags={"mlflow.user": "me", "fold": str(number % 2)},
        final=final,
        dataset={"name": "dataset", "sha256": data} if data else {},
        location=f"mlflow{number}",
    )


def ranked(runs: list[Recorded], metric: str, **options: object) -> tuple[Ranked, list[str]]:
    notes: list[str] = []
    measure = Measure.of(metric, **options)  # type: ignore[arg-type]
    return rank(Selection("experiment other", runs, Journals()), notes, measure), notes


def grid(**more: object) -> list[Recorded]:
    """Two values of lr with three seeds each; the loss is lr + seed / 100."""
    pairs = [(lr, seed) for lr in (1, 2) for seed in (1, 2, 3)]
    return [
        other(
            number, {"loss": lr + seed / 100, "rmse": lr - lr * seed / 100}, lr=lr, rs=seed, **more
        )
        for number, (lr, seed) in enumerate(pairs)
    ]


def test_runs_are_grouped_paired_and_ranked_by_the_metric() -> None:
    result, notes = ranked(grid(), "loss", test_metric="rmse", seed_key="params.rs")
    assert [setting.label for setting in result.settings] == ["lr=1", "lr=2"]
    assert [run.seed for run in result.settings[0].runs] == ["1", "2", "3"]
    first, second = result.standings(notes)
    assert (first.rank, second.rank) == (1, 2)
    assert (second.verdict, second.difference) == ("worse", pytest.approx(0.98))
    assert notes == []


def test_higher_is_better_with_max_and_the_tested_metric_has_its_own_direction() -> None:
    result, notes = ranked(grid(), "loss:max", test_metric="rmse", seed_key="params.rs")
    assert [setting.label for setting in result.settings] == ["lr=2", "lr=1"]
    assert result.standings(notes)[1].verdict == "better on test"
    assert result.settings[0].chosen.final["loss"] == 2.03
    assert result.settings[0].test.best == pytest.approx(1.94)


def test_one_metric_is_said_to_be_chosen_on() -> None:
    _, (note,) = ranked(grid(), "loss", seed_key="params.rs")
    assert "the same numbers of loss" in note
    _, (note,) = ranked(grid(), "loss", test_metric="loss", seed_key="params.rs")
    assert "--test-metric" in note


def test_without_a_seed_key_nothing_is_paired() -> None:
    result, notes = ranked(grid(), "loss", settings=["params.lr"])
    assert [len(setting.runs) for setting in result.settings] == [3, 3]
    assert result.settings[0].seeds == "3 runs"
    second = result.standings(notes)[1]
    assert (second.p, second.why) == (None, "fewer than two seeds in common")
    assert sum("--seed-key" in note for note in notes) == 1
    runs = [other(n, {"loss": 1.0}, random_state=n) for n in range(2)]
    assert any("type --seed-key params.random_state" in note for note in ranked(runs, "loss")[1])


def test_a_seed_of_none_is_none() -> None:
    """Two runs without a seed are no repetition of one."""
    runs = [other(n, {"loss": n}, rs=None if n < 2 else n) for n in range(4)]
    result, notes = ranked(runs, "loss", seed_key="params.rs")
    assert [len(setting.runs) for setting in result.settings] == [4]
    assert notes[0] == "2 run(s) have no seed in params.rs; each counts as one of its own"


def test_tags_and_patterns_choose_seed_and_settings() -> None:
    runs = grid(**{"model/width": 8, "model/depth": 1})
    result, notes = ranked(
        runs, "loss", seed_key="tags.fold", settings=["params.lr", "params.mod*"]
    )
    assert [setting.label for setting in result.settings] == ["lr=1", "lr=2"]
    assert "within a setting, runs also differ in rs, which --setting leaves out" in notes
    result, _ = ranked(runs, "loss", seed_key="params.rs", settings=["tags.fold"])
    assert set(result.settings[0].values) == {"tags.fold"}


def test_params_that_are_left_out_and_differ_are_named() -> None:
    runs = grid()
    for number, run in enumerate(runs):
        run.params["path"] = f"/logs/{number}"
    result, notes = ranked(runs, "loss", seed_key="params.rs")
    assert len(result.settings) == 6
    assert any("because path differs in every run" in note for note in notes)
    result, notes = ranked(runs, "loss", seed_key="params.rs", settings=["params.lr"])
    assert len(result.settings) == 2
    assert any("runs also differ in path, which --setting leaves out" in note for note in notes)


def test_names_that_mean_something_else_keep_their_prefix() -> None:
    runs = [other(n, {"loss": n}, seed=n % 2, n=n // 2, rs=n % 2) for n in range(4)]
    result, _ = ranked(runs, "loss", seed_key="params.rs", settings=["params.n", "params.seed"])
    assert set(result.settings[0].values) == {"params.n", "params.seed"}
    runs = [other(n, {"val/loss": n}, val_loss="huber" if n < 2 else "mae", rs=n % 2)
            for n in range(4)]  # fmt: skip
    result, _ = ranked(runs, "val/loss", seed_key="params.rs")
    row = fields.run_fields(result.settings[0], result.settings[0].runs[0])
    assert (row["params.val_loss"], row["val_loss"]) == ("huber", 0)


def test_runs_without_a_finite_value_are_counted() -> None:
    runs = [*grid(), other(7, {}, lr=3, rs=1), other(8, {"loss": np.nan}, lr=3, rs=1),
            other(9, {"loss": 1.7976931348623157e308}, lr=3, rs=1)]  # fmt: skip
    result, notes = ranked(runs, "loss", seed_key="params.rs")
    assert len(result.settings) == 2
    assert notes[0] == "1 finished run(s) have no loss and were left out"
    assert notes[1].startswith("2 finished run(s) have a loss that is not finite")


def test_data_sets_that_follow_from_the_seed_separate_no_settings() -> None:
    runs = [other(n, {"loss": n}, f"digest{n % 2}", lr=n // 2, rs=n % 2) for n in range(4)]
    result, notes = ranked(runs, "loss", seed_key="params.rs")
    assert [setting.label for setting in result.settings] == ["lr=0", "lr=1"]
    assert "logged 2 different data sets" in notes[0]
    runs = [other(n, {"loss": n}, f"digest{n // 2}", lr=n // 2, rs=n % 2) for n in range(4)]
    result, notes = ranked(runs, "loss", seed_key="params.rs")
    assert list(result.settings[0].values) == ["lr", "data"]
    assert "different data sets" in result.standings(notes)[1].why


def test_data_sets_of_other_names_are_left_out() -> None:
    runs = [*grid(), other(8, {"loss": 0.1}, "d", lr=3, rs=1), other(9, {"loss": 0.1}, "e", lr=3)]
    runs[-1].dataset["name"] = "wine"
    runs[0].dataset.update(name="dataset", sha256="d")
    result, notes = ranked(runs, "loss", seed_key="params.rs")
    assert "run9" not in result.finished
    assert "1 run(s) on wine were left out" in notes[0]


def test_the_metric_of_training_examples_is_said_to_be() -> None:
    runs = [other(n, {"training_loss": n}, rs=n % 2, lr=n // 2) for n in range(4)]
    _, notes = ranked(runs, "training_loss", seed_key="params.rs")
    assert "how well they fit" in notes[-1]


def test_own_runs_are_read_by_their_keys(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, batch, seed) for batch in (5, 30) for seed in (1, 2)]
    result, notes = ranked(runs, "train/loss", test_metric="test/error")
    assert [setting.label for setting in result.settings] == ["batch=5", "batch=30"]
    assert result.settings[0].runs[0].seed == "1"
    assert not any("--seed-key" in note for note in notes)


def test_steps_are_those_that_were_logged(tmp_path: Path) -> None:
    runs = grid()
    for run in runs:
        run.curves["loss"], run.epochs["loss"] = np.array([3.0, 2.0]), np.array([100, 200])
    selection = Selection("experiment other", runs, Journals())
    measure = Measure.of("loss", seed_key="params.rs")
    comparison, _ = compare.build(selection, tmp_path, measure)
    curve = comparison.figures[0]
    assert (curve.section, curve.title) == ("curves", "loss")
    assert ">step<" in curve.chart.svg
    assert re.search(r">1\d\d<", curve.chart.svg)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("", None, None), "--metric '': expected the name of a metric, or NAME:max"),
        (("val_acc", None, None), "--metric val_acc: its name suggests that higher is better; type "
         "--metric val_acc:max, or val_acc:min if lower is better"),
        (("test_score", None, None), "--metric test_score: its name suggests that higher is "
         "better; type --metric test_score:max, or test_score:min if lower is better"),
        (("loss", "auc", None), "--test-metric auc: its name suggests that higher is better; type "
         "--test-metric auc:max, or auc:min if lower is better"),
        (("loss", None, "rs"), "--seed-key rs: expected params.NAME or tags.NAME, such as "
         "params.rs"),
        ((None, None, "params.rs"), "--seed-key params.rs: expected --metric NAME as well"),
        ((None, "rmse", None), "--test-metric rmse: expected --metric NAME as well"),
        (("los", None, None), "--metric los: no finished run of experiment other has it; expected "
         "one such as loss (2 in all)"),
        (("loss", "mse", None), "--test-metric mse: no finished run of experiment other has it; "
         "expected one such as rmse (2 in all)"),
        (("loss", None, "params.r"), "--seed-key params.r: no compared run has a seed there; "
         "expected one such as params.rs, params.lr (4 in all)"),
    ],
)  # fmt: skip
def test_bad_options_are_one_line(options: tuple[str | None, ...], line: str) -> None:
    with pytest.raises(ValueError, match=r".+") as raised:
        ranked(grid(), options[0], test_metric=options[1], seed_key=options[2])  # type: ignore[arg-type]
    assert str(raised.value) == line


def test_a_setting_that_no_run_has_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"--setting params.wd: no compared run has it; expected"):
        ranked(grid(), "loss", settings=["params.wd"])
    assert Measure.of("brier_score:min") is not None
