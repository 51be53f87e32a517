"""The columns of the page and of the terminal, their text, and the answer in a sentence."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from harness.analysis import page, ranking, tables
from harness.analysis.ranking import Standing
from harness.analysis.settings import group, summarize
from harness.analysis.tables import COLUMNS, Column
from harness.commands.compare import terminal_table
from harness.runfolder.cost import Cost
from harness.runfolder.objective import DEFAULT, Objective
from tests.analysis.conftest import build, make_run, seed_run


def standings(*runs: tuple[object, object, list[float], float]) -> list[Standing]:
    settings = ranking.ordered(group([seed_run(*run) for run in runs], []), [])
    return ranking.stand(settings, {})


def test_a_new_column_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = build(tmp_path, make_run(tmp_path, 5, 1), make_run(tmp_path, 6, 1))
    column: Column[Standing] = Column(
        "images in\nthe test set",
        lambda s: f"{s.setting.chosen.test_count:,} images",
        short="tested on",
    )
    for text in ("the test set</th>", "200 images"):
        assert text not in page.page(comparison)
    monkeypatch.setattr(tables, "COLUMNS", (*COLUMNS, column))
    html = page.page(comparison)
    assert '<th scope="col">images in<br>the test set</th></tr>' in html
    assert html.count("<td>200 images</td></tr>") == 2
    last = terminal_table(comparison).columns[-1]
    assert last.header == "tested on"
    assert list(last.cells) == ["200 images"] * 2


def test_a_column_without_a_short_title_is_on_the_page_only() -> None:
    rows = standings((16, 1, [0.1, 0.2], 0.1), (32, 1, [0.2], 0.2))
    head, cells = tables.ranking(rows)
    assert head[:5] == ["", "batch", "n", "validation error,\nbest epoch", "best – worst"]
    assert cells[0][:6] == ["1", "16", "1", "10.00 %", "10.00 – 10.00 %", "1"]
    assert len(head) == sum(column.where(DEFAULT) for column in COLUMNS) + 1
    head, cells = tables.ranking(rows, terminal=True)
    assert head[:5] == ["", "batch", "n", "val error, best epoch", "last epoch"]
    assert cells[0][:5] == ["*", "16", "1", "10.00 %", "20.00 %"]


def test_what_is_unknown_is_a_dash() -> None:
    head, ((*cells,),) = tables.ranking(standings((16, 1, [], math.nan)))
    row = dict(zip(head, cells, strict=True))
    assert (row.pop("n"), row.pop("against the best"), row.pop("seeds to tell")) == (
        "1", "lowest on test", "",
    )  # fmt: skip
    assert set(row.values()) == {"–"}


def test_all_runs_have_a_row() -> None:
    settings = [each.setting for each in standings((16, 2, [0.1], 0.1), (32, 1, [0.2], 0.2))]
    head, cells = tables.all_runs(settings)
    assert head[:3] == ["run", "batch", "seed"]
    assert [row[:3] for row in cells] == [["16-2", "16", "2"], ["32-1", "32", "1"]]
    assert cells[0][3:] == ["10.00 %", "1", "10.00 %", "10.00 % [8.29, 12.02]", "0.5"]


def test_text_of_numbers() -> None:
    assert tables.figure(0.0197) == "1.97 %"
    assert tables.figure(math.nan) == "–"
    assert tables.spread(summarize([0.01, 0.03])) == "2.00 ± 1.41 %"
    assert tables.spread(summarize([0.01])) == "1.00 %"
    assert tables.spread(summarize([])) == "–"
    assert tables.span(0.019, 0.0205) == "1.90 – 2.05 %"
    assert tables.span(math.nan, math.nan) == "–"
    assert [tables.p_value(p) for p in (None, 0.0004, 0.0312)] == ["–", "< 0.001", "0.031"]


def test_the_answer_names_the_best_and_the_others() -> None:
    runs = [(16, seed, [0.01], 0.02 + 0.0001 * seed) for seed in (1, 2, 3)]
    runs += [(32, seed, [0.02], 0.05 + 0.0001 * seed * seed) for seed in (1, 2, 3)]
    answer = tables.lead(standings(*runs))
    assert answer == (
        "batch=16 has the lowest validation error: 1.00 ± 0.00 % over 3 seeds, each at its best "
        "epoch; its test error is 2.02 ± 0.01 %. Worse: batch=32."
    )
    assert tables.lead(standings((16, 1, [0.01], 0.02), (32, 1, [0.02], 0.05))).startswith(
        "batch=16 has the lowest validation error: 1.00 % with one seed, at its best epoch; its"
    )
    assert tables.lead(standings((16, 1, [0.01], 0.02))) == (
        "the one setting: validation error 1.00 % with one seed, test error 2.00 %."
    )


def test_a_tie_of_seeds_that_do_not_overlap_says_so() -> None:
    """Three seeds can be apart, and still too few for the test."""
    runs = [(16, seed, [0.01], 0.02 + 0.001 * seed) for seed in (1, 2, 3)]
    apart = [(32, seed, [0.02], 0.025 + 0.003 * (4 - seed)) for seed in (1, 2, 3)]
    answer = tables.lead(standings(*runs, *apart))
    assert "Not distinguishable from it at 5 %: batch=32." in answer
    assert answer.endswith(
        "The test errors of batch=32 do not overlap with those of the best, but there are too few "
        "seeds to show that this is no accident."
    )
    within = [(32, seed, [0.02], 0.0225 + 0.003 * (3 - seed)) for seed in (1, 2, 3)]
    answer = tables.lead(standings(*runs, *within))
    assert answer.endswith("Not distinguishable from it at 5 %: batch=32.")


def test_the_answer_is_short_however_many_keys_there_are() -> None:
    def answer(length: int) -> str:
        value = "x" * length
        runs = [seed_run(batch, 1, [0.01 * batch], 0.02, key=f"{batch}{value}")
                for batch in range(1, 10)]  # fmt: skip
        rows = ranking.stand(ranking.ordered(group(runs, []), []), {})
        rows = [replace(each, verdict=ranking.WORSE) if number else each
                for number, each in enumerate(rows)]  # fmt: skip
        return tables.lead(rows).partition(" Worse: ")[2]

    assert answer(0) == ", ".join(f"batch={n} key={n}" for n in range(2, 8)) + " and 2 more."
    assert answer(50).startswith("batch=2 key=2xxx")
    assert answer(50).endswith("x and 7 more.")
    assert answer(150) == "8 settings."


def test_where_the_last_weights_count_no_epoch_is_called_the_best() -> None:
    runs = [
        replace(run, final={**run.final, "best/epoch": epoch})
        for run, epoch in (
            (seed_run(16, 1, [0.01, 0.02], 0.03, weights="last"), 2.0),
            (seed_run(16, 1, [0.04, 0.05], 0.06, weights="best"), 1.0),
        )
    ]
    rows = ranking.stand(ranking.ordered(group(runs, []), []), {})
    head, cells = tables.ranking(rows, terminal=True)
    assert head[1:5] == ["weights", "n", "val error, judged epoch", "last epoch"]
    assert [row[1:5] for row in cells] == [
        ["last", "1", "2.00 %", "2.00 %"],
        ["best", "1", "4.00 %", "5.00 %"],
    ]
    for titles in (tables.ranking(rows)[0], tables.all_runs([each.setting for each in rows])[0]):
        assert "judged epoch" in titles
        assert not [title for title in titles if "best epoch" in title]
    assert ": 2.00 % with one seed, at its judged epoch; its" in tables.lead(rows)


def test_titles_and_numbers_follow_the_objective() -> None:
    loss = Objective("val/loss")
    runs = [seed_run(16, seed, [0.5, 0.0831 * seed], 0.25, loss) for seed in (1, 2)]
    rows = ranking.stand(ranking.ordered(group(runs, []), []), {})
    head, ((*cells,),) = tables.ranking(rows, terminal=True)
    assert head[2:6] == ["val loss, best epoch", "last epoch", "test loss", "chosen run"]
    assert cells[2:6] == ["0.125 ± 0.059", "0.125 ± 0.059", "0.25 ± 0", "0.25"]
    head, _ = tables.ranking(rows)
    assert "chosen run’s test\nloss" in head
    head, cells = tables.all_runs([each.setting for each in rows])
    assert head[2:6] == ["validation loss,\nbest epoch", "best epoch",
                         "validation loss,\nlast epoch", "test loss"]  # fmt: skip
    assert cells[0][2:6] == ["0.0831", "2", "0.0831", "0.25"]
    assert tables.lead(rows) == (
        "the one setting: validation loss 0.125 ± 0.059 over 2 seeds, test loss 0.25 ± 0."
    )


def test_a_fraction_to_maximize_is_in_percent_with_its_interval() -> None:
    accuracy = Objective("val/accuracy", is_max=True)
    runs = [seed_run(batch, 1, [0.5, value], value, accuracy)
            for batch, value in ((16, 0.75), (32, 0.875))]  # fmt: skip
    settings = ranking.ordered(group(runs, []), [])
    assert [each.label for each in settings] == ["batch=32", "batch=16"]
    rows = ranking.stand(settings, {})
    head, cells = tables.ranking(rows, terminal=True)
    assert head[3:7] == ["val accuracy, best epoch", "last epoch", "test accuracy",
                         "chosen run [95 %]"]  # fmt: skip
    assert cells[0][3:7] == ["87.50 %", "87.50 %", "87.50 %", "85.31 – 89.41 %"]
    assert tables.lead(rows).startswith("batch=32 has the highest validation accuracy: 87.50 %")


def test_what_a_setting_costs_is_in_its_own_unit() -> None:
    def shown(cost: str, *values: float) -> str:
        return tables.paid(summarize(values), Cost.parse(cost))

    assert shown("val/error", 0.24, 0.26) == "25.00 ± 1.41 %"
    assert shown("parameters", 101770, 101770) == "101,770"
    assert shown("time/epoch_s", 0.5, 0.7) == "0.6 ± 0.14"
    assert shown("machine/cpu_s", float("nan")) == "–"


def test_a_verdict_leads_and_nothing_is_called_worse_or_tied() -> None:
    runs = [
        seed_run(batch, seed, [error + seed / 1e4], error + seed / 1e4)
        for batch, error in ((16, 0.02), (32, 0.03)) for seed in range(-3, 4)
    ]  # fmt: skip
    settings = ranking.ordered(group(runs, []), [])
    assert "Worse: batch=32" in tables.lead(ranking.stand(settings, {}))
    settings = ranking.ordered(group([replace(run, is_raced=True) for run in runs], []), [])
    rows = ranking.stand(settings, {})
    verdict = "not decided after 12 of 20 runs; left: batch=16, batch=32. Seeds were added"
    assert tables.lead(rows, verdict) == (
        "Not decided after 12 of 20 runs; left: batch=16, batch=32. batch=16 has the lowest mean "
        "validation error: 2.00 ± 0.02 % over 7 seeds, each at its best epoch; its test error is "
        "2.00 ± 0.02 %."
    )
    assert tables.lead(rows).startswith("No verdict of until=decided is recorded here. batch=16")
    head, cells = tables.ranking(rows)
    assert [row[head.index("p")] for row in cells] == [tables.DASH] * 2
    why = f"not tested: {ranking.BY_RESULTS}"
    assert [row[head.index("against the best")] for row in cells] == ["best", why]
    assert tables.legend(rows) == "* best mean, ? not tested"


def test_every_row_has_a_mark_that_the_legend_explains() -> None:
    """Worse, and not tested (as it is on other data), which had none."""
    runs = [
        seed_run(batch, seed, [error + seed / 1e4], error + seed / 1e4)
        for batch, error in ((16, 0.02), (32, 0.03), (64, 0.04)) for seed in range(7)
    ]  # fmt: skip
    runs = [replace(run, data="other") if run.settings["batch"] == "64" else run for run in runs]
    rows = ranking.stand(ranking.ordered(group(runs, []), []), {})
    _, cells = tables.ranking(rows, terminal=True)
    assert [row[0] for row in cells] == ["*", "-", "?"]
    assert tables.legend(rows) == "* best, - worse, ? not tested"
    ended = ranking.stand([rows[0].setting, replace(rows[1].setting, is_ended=True)], {})
    _, cells = tables.ranking(ended, terminal=True)
    assert [row[0] for row in cells] == ["*", "x"]
    assert tables.legend(ended) == "* best, x ended, as it cannot be the best"
    assert "Worse: batch=32" in tables.lead(rows)
    assert "Not tested: batch=64" in tables.lead(rows)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([2483.0, 8120.0], "5302 ± 3986"),
        ([0.12, 0.1249], "0.1225 ± 0.0035"),
        ([12.0, 13.0], "12.50 ± 0.71"),
        ([2.0, 2.0], "2 ± 0"),
        ([3e8, 4e8], "3.5e+08 ± 7.071e+07"),
    ],
)
def test_a_mean_has_the_decimals_of_its_deviation(values: list[float], text: str) -> None:
    assert tables.spread(summarize(values), Objective("val/mae")) == text


def test_both_ends_of_a_range_have_the_same_decimals() -> None:
    objective = Objective("val/mae")
    assert tables.span(1.012, 1.06, objective) == "1.012 – 1.060"
    assert tables.span(-math.inf, math.inf, objective) == "-inf – inf"
