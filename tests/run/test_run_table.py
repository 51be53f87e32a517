"""The tables of runs, and which row of them is the best."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.table import Table

from harness.run.run_table import best_row, figures, sweep_table, sweep_tables
from harness.runfolder import folder, streams
from harness.runfolder.folder import Identity
from harness.runfolder.plan import SweepJob
from tests.conftest import DATASET, composed, new_run, plan_of, record_training

Output = pytest.CaptureFixture[str]


def test_the_table_marks_the_best_run(tmp_path: Path) -> None:
    errors = (0.5, 0.125 + 1e-16, 0.125)
    runs = [record_training(new_run(tmp_path), error, 0.75) for error in errors]
    runs.append(record_training(new_run(tmp_path), 0.01, status="KILLED"))
    histories = [run.history() for run in runs]
    assert best_row(histories) == 1, "the first of equals; an unfinished run does not count"
    table = sweep_table(histories, plan_of(*runs))
    headers = [str(column.header) for column in table.columns]
    assert table.title == "best by validation error is marked *, the first of 2 equal ones"
    assert headers == [
        "", "batch", "val error", "epoch", "test error", "seconds", "status", "run id",
    ]  # fmt: skip
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows[1] == ("*", "2", "12.50%", "1", "13.50%", "1.0", "FINISHED", runs[1].id)
    assert rows[3] == ("", "4", "-", "-", "-", "0.5", "KILLED", runs[3].id)
    assert [row.style for row in table.rows] == [None, "bold", None, None]


def test_a_search_has_its_best_trials_first(tmp_path: Path) -> None:
    errors = (0.5, 0.125 + 1e-16, 0.01, 0.125, 0.25)
    statuses = ("FINISHED", "FINISHED", "KILLED", "FINISHED", "FINISHED")
    pairs = zip(errors, statuses, strict=True)
    runs = [record_training(new_run(tmp_path), each, 0.75, status=status) for each, status in pairs]
    plan = replace(plan_of(*runs), overrides=("-m", "hydra/sweeper=optuna"))
    table = sweep_table([run.history() for run in runs], plan)
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert [row[1] for row in rows] == ["2", "4", "5", "1", "3"]
    assert [row[0] for row in rows] == ["*", "", "", "", ""]
    assert [row[-1] for row in rows] == [runs[int(row[1]) - 1].id for row in rows]


def test_80_columns_show_numbers_in_full(tmp_path: Path, capsys: Output) -> None:
    runs = [record_training(new_run(tmp_path), error, 0.75) for error in (0.5, 0.125)]
    rates = "0.00034892134901234", "0.00034892134901235"  # no fewer digits tell them apart
    jobs = tuple(
        SweepJob(
            run.id, "n", {"lr": lr, "loss.name": "mine.losses:Hinge", "batch": "16"}, "key",
            other_source="abc",
        )
        for run, lr in zip(runs, rates, strict=True)
    )  # fmt: skip
    streams.console(width=80).print(
        sweep_table([run.history() for run in runs], replace(plan_of(*runs), jobs=jobs))
    )
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for run, lr, best in zip(runs, rates, ("50.00%", "12.50%"), strict=True):
        (line,) = [line for line in shown.splitlines() if run.id in line]
        assert all(text in line for text in (lr, " 16 ", best))


def test_long_numbers_are_rounded_as_in_the_table_of_settings(tmp_path: Path) -> None:
    runs = [record_training(new_run(tmp_path), 0.5) for _ in range(3)]
    rates = "0.30233257263183977", "0.30245000000000001", "0.1"
    jobs = tuple(
        SweepJob(run.id, "n", {"lr": lr}, "key") for run, lr in zip(runs, rates, strict=True)
    )
    table = sweep_table([run.history() for run in runs], replace(plan_of(*runs), jobs=jobs))
    assert [*table.columns[1].cells] == ["0.3023", "0.3024", "0.1"]


def rows_of(table: Table) -> list[tuple[str, ...]]:
    """The marks and the best values of a table."""
    columns = [list(map(str, column.cells)) for column in table.columns]
    return list(zip(*(columns[i] for i in (0, 2, 3, 4)), strict=True))


def test_the_table_goes_by_the_objective(tmp_path: Path) -> None:
    for text, best, title, cells in (
        ("val/loss", 1, "best by validation loss is marked *", ("*", "1.25", "1", "1.26")),
        ("val/loss:max", 0, "best by validation loss is marked *", ("*", "2.5", "1", "2.51")),
        ("train/error", 1, "best by training error is marked *", ("*", "125.00%", "1", "126.00%")),
    ):
        runs = [new_run(tmp_path, f"objective={text}") for _ in range(2)]
        for run, values in zip(runs, ((2.5, 2.0), (1.25, 1.5)), strict=True):
            record_training(run, *values)
        histories = [run.history() for run in runs]
        assert best_row(histories) == best
        table = sweep_table(histories, plan_of(*runs))
        assert (table.title, rows_of(table)[best]) == (title, cells)
        part, _, name = text.removesuffix(":max").partition("/")
        headings = [str(column.header) for column in table.columns]
        assert headings[2:5] == [f"{part} {name}", "epoch", f"test {name}"]


def test_runs_of_different_objectives_are_not_ranked_together(tmp_path: Path) -> None:
    runs = [new_run(tmp_path), new_run(tmp_path, "objective=val/loss"), new_run(tmp_path)]
    for run, value in zip(runs, (0.5, 0.25, 0.375), strict=True):
        record_training(run, value)
    histories = [run.history() for run in runs]
    with pytest.raises(ValueError, match="the objectives val/error, val/loss, which are not rank"):
        best_row(histories)
    errors, losses = sweep_tables(runs, histories, plan_of(*runs))
    assert losses.title == "objective=val/loss: best by validation loss is marked *"
    assert [row[:2] for row in rows_of(errors)] == [("", "50.00%"), ("*", "37.50%")]
    assert [row[:2] for row in rows_of(losses)] == [("*", "0.25")]
    assert [list(table.columns[1].cells) for table in (errors, losses)] == [["1", "3"], ["2"]]


def test_runs_on_different_data_sets_are_not_ranked_together(tmp_path: Path) -> None:
    other = Identity("shapes", {"run_key": "key"}, DATASET | {"name": "shapes"})
    config = replace(composed(), outputs=str(tmp_path))
    runs = [new_run(tmp_path), folder.create(tmp_path, config, other), new_run(tmp_path)]
    for run, value in zip(runs, (0.5, 0.25, 0.375), strict=True):
        record_training(run, value)
    histories = [run.history() for run in runs]
    with pytest.raises(ValueError, match="the data sets mnist, shapes, which are not ranked toge"):
        best_row(histories)
    mnist, shapes = sweep_tables(runs, histories, plan_of(*runs))
    assert mnist.title == "on mnist: best by validation error is marked *"
    assert [row[:2] for row in rows_of(mnist)] == [("", "50.00%"), ("*", "37.50%")]
    assert [row[:2] for row in rows_of(shapes)] == [("*", "25.00%")]


def test_runs_with_different_test_sets_are_not_ranked_together(tmp_path: Path) -> None:
    other = Identity("more", {"run_key": "key"}, DATASET | {"test": 1200})
    config = replace(composed(), outputs=str(tmp_path))
    runs = [new_run(tmp_path), folder.create(tmp_path, config, other), new_run(tmp_path)]
    record_training(runs[0], 0.5, status="FAILED", error="nan")
    record_training(runs[1], 0.25)
    histories = [run.history() for run in runs]
    with pytest.raises(ValueError, match=r"mnist \(3 test examples\), mnist \(1,200 test exam"):
        best_row(histories)
    few, many = sweep_tables(runs, histories, plan_of(*runs))
    assert few.title == "on mnist (3 test examples)"
    assert many.title == "on mnist (1,200 test examples): best by validation error is marked *"
    assert [row[:2] for row in rows_of(many)] == [("*", "25.00%")]
    assert [list(table.columns[1].cells) for table in (few, many)] == [["1", "3"], ["2"]]


def test_a_table_without_a_finished_run_marks_none(tmp_path: Path) -> None:
    run = new_run(tmp_path, name="default")
    assert best_row([run.history()]) is None
    table = sweep_table([run.history()], None)
    assert table.title is None
    assert [str(column.header) for column in table.columns][:2] == ["", "run"]
    assert figures(run.history()) == ("-", "-", "-", "-")
