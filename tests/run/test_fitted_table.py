"""Tables in terminals of any width."""

import re

import pytest

from harness.run.fitted_table import FittedTable
from harness.runfolder import streams

Output = pytest.CaptureFixture[str]
ID, LR, LOSS = "c89554-20261126-161549", "0.00034892134901234", "mine.losses:HingeLossSquared"
ERRORS = ("7.14 ± 0.05 %", "14.29 ± 10.25 %")
LEFT_OUT = "left out at this width: "


def shown(table: FittedTable, width: int, capsys: Output) -> str:
    """What a terminal of this width shows; no line is longer."""
    streams.console(width=width).print(table)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    return text


def table_of_runs() -> FittedTable:
    table = FittedTable("runs")
    table.add("run id")
    table.add("lr", folds=True)
    table.add("loss.name", folds=True)
    table.add("val error, best epoch", right=True)
    table.add("test error", right=True, drop=2)
    table.add("seconds", right=True, drop=1)
    table.add_row(ID, LR, LOSS, *ERRORS, "1234.5", style="bold")
    table.add_row(ID, "0.1", "hinge", *ERRORS[::-1], "1.5")
    return table


def test_with_room_nothing_is_folded_or_left_out(capsys: Output) -> None:
    text = shown(table_of_runs(), 160, capsys)
    assert LEFT_OUT not in text
    (first,) = [line for line in text.splitlines() if LR in line]
    assert all(cell in first for cell in (ID, LOSS, *ERRORS, "1234.5"))


@pytest.mark.parametrize("width", range(82, 160))
def test_numbers_and_ids_are_never_cut(width: int, capsys: Output) -> None:
    text = shown(table_of_runs(), width, capsys)
    lines = text.splitlines()
    hidden = re.search(rf"{LEFT_OUT}(.*?);", " ".join(text.split()))
    titles = hidden[1].split(", ") if hidden else []
    assert titles in ([], ["seconds"], ["test error", "seconds"]), "in the order of `drop`"
    (first,) = [line for line in lines if LR in line]
    expected = {ID, LR, ERRORS[0]}
    expected |= set() if "test error" in titles else {ERRORS[1]}
    expected |= set() if "seconds" in titles else {"1234.5"}
    assert all(cell in first for cell in expected)
    begin = first.index("mine.")
    pieces = [first[begin:].split()[0]]
    for line in lines[lines.index(first) + 1 :]:
        if ID in line:
            break
        pieces.append(line[begin:].split()[0])
    assert "".join(pieces) == LOSS, "a text is folded, and no character is lost"


@pytest.mark.parametrize("width", [20, 40, 60])
def test_without_room_for_what_must_stay_all_is_folded(width: int, capsys: Output) -> None:
    table = FittedTable()
    table.add("lr", folds=True)
    table.add("run id")
    table.add_row(LR * 2, ID * 2)
    characters = "".join(re.findall(r"[\w.-]", shown(table, width, capsys)))
    assert sorted(characters) == sorted("lrrunid" + LR * 2 + ID * 2)


def test_names_are_folded_at_commas(capsys: Output) -> None:
    """A number within a name is not folded: lr=0.0 above 1 would be read as 0.0."""
    table = FittedTable()
    table.add("name", folds=True)
    table.add("run id")
    table.add_row("batch=20,lr=0.01,seed=1", ID)
    lines = shown(table, 44, capsys).splitlines()
    (first,) = [line for line in lines if ID in line]
    assert first.split()[0] == "batch=20,lr=0.01,"
    assert lines[lines.index(first) + 1].strip() == "seed=1"


def test_wide_characters_have_room(capsys: Output) -> None:
    table = FittedTable()
    table.add("class", folds=True)
    table.add("run id")
    table.add_row("\u732b" * 20, ID)
    text = shown(table, 50, capsys)
    assert text.count("\u732b") == 20
    assert ID in text
