"""CSV files of labeled images: what is read is what is there, and every fault is named by line.

Covers: harness/data/csv_table.py
"""

from pathlib import Path

import numpy as np
import pytest

from harness.data import csv_table, labeled_csv
from harness.data.csv_table import BLOCK
from harness.data.own_data import Examples

HEADER = "label," + ",".join(f"pixel{n}" for n in range(9))


def labeled(count: int) -> np.ndarray:
    """Lines of a label 0 to 2 and 9 pixels."""
    rows = np.random.default_rng(4).integers(0, 256, (count, 10))
    rows[:, 0] = np.arange(count) % 3
    return rows


def lines_of(rows: np.ndarray) -> list[str]:
    return [",".join(map(str, row)) for row in rows]


def read(tmp_path: Path, text: str, **options: object) -> Examples:
    path = tmp_path / "own.csv"
    path.write_bytes(text.encode())
    return labeled_csv.read(path, **options)  # type: ignore[arg-type]  # of the options' types


def same(examples: Examples, rows: np.ndarray, column: int = 0) -> bool:
    pixels = np.delete(rows, column, axis=1)
    return np.array_equal(examples.labels, rows[:, column]) and np.array_equal(
        examples.images.reshape(len(rows), -1), pixels
    )


@pytest.mark.parametrize("header", [[HEADER], []])
@pytest.mark.parametrize("count", [50, BLOCK // 25])  # a line is longer than that
def test_kaggle_csv(tmp_path: Path, header: list[str], count: int) -> None:
    rows = labeled(count)
    examples = read(tmp_path, "\n".join([*header, *lines_of(rows)]) + "\n")
    assert same(examples, rows)
    assert examples.images.shape == (count, 3, 3)
    assert examples.classes == ["0", "1", "2"]
    seen = "line 1 is a header" if header else "no header"
    name = " (label)" if header else ""
    assert examples.notes == [
        f"{tmp_path / 'own.csv'}: {count:,} rows of 3x3 pixels, {seen}; the label is in cell 1 of "
        f"10{name}; --label-column names another"
    ]


def savetxt(tmp_path: Path, rows: np.ndarray, form: str) -> str:
    np.savetxt(tmp_path / "saved", rows, form, delimiter=",")
    return (tmp_path / "saved").read_text()


@pytest.mark.parametrize("form", ["%3d", "%d", "%.1f", "%.18e", " %d ", '"%d"', '"%3d"', ' "%d"'])
def test_every_line_of_numbers_is_a_row(tmp_path: Path, form: str) -> None:
    """Padded, with decimals, with exponents, quoted: the first line is not a header."""
    rows = labeled(30)
    examples = read(tmp_path, savetxt(tmp_path, rows, form))
    assert same(examples, rows)
    assert "30 rows" in examples.notes[0]
    assert "no header" in examples.notes[0]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_comments_blank_lines_and_line_ends(tmp_path: Path, end: str, mark: str) -> None:
    rows = labeled(6)
    one, *others = lines_of(rows)
    text = end.join([f"{mark}# made by hand", "", HEADER, "  ", one, "# more", *others, "", ""])
    examples = read(tmp_path, text)
    assert same(examples, rows)
    assert (
        "6 rows of 3x3 pixels, line 3 is a header, 5 blank or # lines skipped" in examples.notes[0]
    )


@pytest.mark.parametrize(
    ("column", "header", "option"),
    [
        (9, "a,b,c,d,e,f,g,h,i,Label", None),
        (4, "a,b,c,d,class,e,f,g,h,i", None),
        (9, "", "last"),
        (9, "", "10"),
        (3, "", "4"),
        (2, "a,b,mine,d,e,f,g,h,i,label", "mine"),
        (0, "a,b,c,d,e,f,g,h,i,label", "first"),
        (0, "label,b,c,d,e,f,g,h,i,class", None),
    ],
)
def test_the_column_of_labels(tmp_path: Path, column: int, header: str, option: str | None) -> None:
    rows = np.roll(labeled(12), column, axis=1)
    text = "\n".join([*([header] if header else []), *lines_of(rows)])
    examples = read(tmp_path, text, label_column=option)
    assert same(examples, rows, column)
    assert f"the label is in cell {column + 1} of 10" in examples.notes[0]


def test_labels_with_gaps_are_told_and_can_be_renumbered(tmp_path: Path) -> None:
    rows = labeled(9)
    rows[:, 0] = rows[:, 0] * 2 + 1
    text = "\n".join(lines_of(rows))
    examples = read(tmp_path, text)
    assert same(examples, rows)
    assert examples.classes == ["0", "1", "2", "3", "4", "5"]
    assert examples.notes[1] == (
        "3 of the 6 classes 0 to 5 have no example: 0, 2, 4; --renumber numbers the 3 labels from 0"
    )
    examples = read(tmp_path, text, renumber=True)
    assert examples.labels.tolist() == [0, 1, 2] * 3
    assert examples.classes == ["1", "3", "5"]
    assert len(examples.notes) == 1


def test_any_whole_labels_can_be_renumbered(tmp_path: Path) -> None:
    examples = read(tmp_path, "-1,2,3,4,5\n1000000,1,1,1,1\n-1,0,0,0,0\n", renumber=True)
    assert (examples.labels.tolist(), examples.classes) == ([0, 1, 0], ["-1", "1000000"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected lines of a label and its pixels, found none"),
        ("label,a,b,c,d\n", "found none"),
        ("# only\n\n", "found none"),
        ("1,2,3\n", "line 1: expected a label and the pixels of a square image"),
        ("7\n", "line 1: expected a label and the pixels of a square image"),
        ("1 2 3 4 5\n", "line 1: expected a label and the pixels of a square image, such as 785"),
        ("0,1,2,3,4\n1,1,2,3,256\n", "line 2: cell 5 is 256, expected whole gray values"),
        ("label,a,b,c,d\n0,1,2,3,4\n1,1,2,3,-1\n", "line 3: cell 5 is -1, expected whole gray"),
        ("\n# x\n0,1,2,3,4\n\n1,1,2,3,-1\n", "line 5: cell 5 is -1, expected whole gray"),
        ("0,1,2,3,4\n1,1,0.5,3,2\n", "line 2: cell 3 is 0.5, expected whole gray values from 0 to "
         "255; multiply gray values from 0 to 1 by 255"),
        ("0,1,2,3,4\n1,1,2,3\n", "line 2: expected 5 cells as in line 1, found 4"),
        ("0,1,2,3,4\n1,1,2,3,4,5\n", "line 2: expected 5 cells as in line 1, found 6"),
        ("a,b,c,d,e\n0,1,2,3\n", "line 2: expected 5 cells as in line 1, found 4"),
        ("0,1,2,3,4\n1,1,2,3,x\n", "line 2: cell 5 is 'x', not a number"),
        ("0,1,2,3,4\n1,1,,3,4\n", "line 2: cell 3 is empty, not a number"),
        ("0,1,2,3,4\n1,1,nan,3,4\n", "line 2: cell 3 is nan, expected whole gray values"),
        ("0,1,2,3,4\n1,1,1e999,3,4\n", "line 2: cell 3 is inf, expected whole gray values"),
        ("0,1,2,3,4\n1,1_0,2,3,4\n", "line 2: cell 2 is '1_0', not a number"),
        ("0,1,2,3,4\n1,\u0663,2,3,4\n", "line 2: cell 2 is '\u0663', not a number"),
        ("0,1,2,3,4\n1,\"0,5\",2,3,4\n", "line 2: cell 2 is '0,5', not a number"),
        ("0,1,2,3,4\n1,1,2,3,nan\n", "line 2: cell 5 is nan, expected whole gray values"),
        ("nan,1,2,3,4\n", "line 1: the label in cell 1 is nan, expected a whole number"),
        ("0,1,x,3,4\n1,1,2,3,4\n", "line 1: cell 3 is 'x', but other cells are numbers; add "
         "--header if the line is a header"),
        ("0,1,2,3,4\n0,1,2,3,4\n", "labels in cell 1 are all 0, expected at least two classes"),
        ("3,1,2,3,4\n3,1,2,3,4\n", "labels in cell 1 are all 3, expected at least two classes"),
        ("0.5,1,2,3,4\n", "line 1: the label in cell 1 is 0.5, expected a whole number"),
        ("1e999,1,2,3,4\n", "line 1: the label in cell 1 is inf, expected a whole number"),
        ("-1,1,2,3,4\n1,1,2,3,4\n", "are -1 to 1, expected 0 to 255; --renumber"),
        ("0,1,2,3,4\n256,1,2,3,4\n", "are 0 to 256, expected 0 to 255; --renumber"),
    ],
)  # fmt: skip
def test_bad_csv(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="own") as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "own.csv"))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_many_different_labels(tmp_path: Path) -> None:
    text = "".join(f"{label},1,2,3,4\n" for label in range(257))
    with pytest.raises(ValueError, match="are 257, expected at most 256"):
        read(tmp_path, text, renumber=True)


@pytest.mark.parametrize("column", ["0", "6", "lable", "-1", "9" * 30, ""])
def test_a_column_that_is_not_there(tmp_path: Path, column: str) -> None:
    with pytest.raises(ValueError, match="expected first, last, a number from 1 to 5") as caught:
        read(tmp_path, "label,a,b,c,d\n0,1,2,3,4\n", label_column=column)
    assert "or a name of the header (label, a, b, c, d ...)" in str(caught.value)


def test_content_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    for content in (b"\x1f\x8b\x08\x00", "label,é".encode("latin-1"), "0,1".encode("utf-16")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="expected a text file of numbers"):
            labeled_csv.read(path)
    with pytest.raises(ValueError, match="expected a text file of numbers"):
        labeled_csv.read(tmp_path)


def test_a_line_without_an_end_is_bounded() -> None:
    with pytest.raises(ValueError, match="line 1: expected at most 33,554,432 characters in a"):
        labeled_csv.read(Path("/dev/zero"))


@pytest.mark.parametrize("line", ["0,1,2,3,4", "#", ""])
def test_lines_without_an_end_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(csv_table, "MAX_LINES", 5000)
    with pytest.raises(ValueError, match="line 5001: expected a file of at most 5,000 lines"):
        read(tmp_path, f"{line}\n" * 6000)
    monkeypatch.setattr(csv_table, "MAX_LINES", 10_000)
    monkeypatch.setattr(csv_table, "MAX_CHARACTERS", 4000)
    with pytest.raises(ValueError, match="and 4,000 characters; write a larger one as IDX files"):
        read(tmp_path, f"{line}\n" * 6000)


IRIS = "sepal,petal,species\n5.1,-0.2,setosa\n6.5,1e-3,b 10\n7,2.25,b 2\n5,0,setosa\n"


def test_floats_with_names_of_classes_in_sorted_order(tmp_path: Path) -> None:
    examples = read(tmp_path, IRIS, label="species", floats=True)
    expected = np.array([[5.1, -0.2], [6.5, 1e-3], [7, 2.25], [5, 0]], np.float32)
    np.testing.assert_array_equal(examples.images, expected)
    assert examples.images.dtype == np.float32
    assert examples.classes == ["b 2", "b 10", "setosa"]
    assert examples.labels.tolist() == [2, 1, 0, 2]
    assert examples.notes == [
        f"{tmp_path / 'own.csv'}: 4 rows of 2 numbers, line 1 is a header; the label is in cell 3 "
        "of 3 (species); --label names another"
    ]


@pytest.mark.parametrize("column", ["first", "1"])
def test_text_labels_without_a_header(tmp_path: Path, column: str) -> None:
    text = 'ü,0,1,2,3\n"a, b",4,5,6,7\nü,8,9,10,11\n'
    examples = read(tmp_path, text, label=column)
    assert (examples.classes, examples.labels.tolist()) == (["a, b", "ü"], [1, 0, 1])
    np.testing.assert_array_equal(examples.images, np.arange(12, dtype=np.uint8).reshape(3, 2, 2))
    assert "no header" in examples.notes[0]
    numbers = read(tmp_path, "10,0,1,2,3\n9,4,5,6,7\n", label=column)
    assert (numbers.classes, numbers.labels.tolist()) == (["9", "10"], [1, 0])


def test_targets(tmp_path: Path) -> None:
    examples = read(tmp_path, "a,price,b\n1,-0.5,2\n3,1e3,4\n", target="price", floats=True)
    assert examples.labels.tolist() == [-0.5, 1000]
    assert (examples.labels.dtype, examples.classes) == (np.float32, [])
    np.testing.assert_array_equal(examples.images, [[1, 2], [3, 4]])
    assert "the target is in cell 2 of 3 (price); --target names another" in examples.notes[0]


@pytest.mark.parametrize(
    ("ends", "expected"), [((0, 16), [0, 16, 255, 128]), ((-16, 16), [128, 135, 255, 191])]
)
def test_a_range_of_gray_values_becomes_that_of_bytes(
    tmp_path: Path, ends: tuple[float, float], expected: list[int]
) -> None:
    examples = read(tmp_path, "0,0,1,16,8\n1,0,1,16,8\n", value_range=ends)
    assert examples.images.dtype == np.uint8
    assert examples.images[0].ravel().tolist() == expected


@pytest.mark.parametrize(
    ("text", "options", "problem"),
    [
        (IRIS, {"label": "species"}, "line 1: expected a label and the pixels of a square image"),
        (IRIS, {"floats": True}, "line 2: cell 3 is 'setosa', not a number"),
        (IRIS, {"label": "kind", "floats": True}, "--label kind: expected first, last, a number"),
        (IRIS, {"target": "species", "floats": True}, "line 2: cell 3 is 'setosa', not a number"),
        (IRIS.replace("7,2.25", "7,"), {"label": "species", "floats": True},
         "line 4: cell 2 is empty, not a number"),
        (IRIS.replace("7,2.25", "7,nan"), {"label": "species", "floats": True},
         "line 4: cell 2 is nan, expected a finite number"),
        (IRIS.replace("7,2.25", "1e39,2"), {"label": "species", "floats": True},
         "line 4: cell 1 is 1e+39, expected a finite number"),
        (IRIS.replace("setosa", ""), {"label": "species", "floats": True},
         "line 2: the label in cell 3 is empty, expected a name"),
        (IRIS.replace("setosa", "\x1b[2J"), {"label": "species", "floats": True},
         "line 2: the label in cell 3 is '\\x1b[2J', expected a name"),
        ("x,a\n1,2\n1,2\n", {"label": "x", "floats": True}, "cell 1 have 1 different values"),
        ("x,a\n1,2\ninf,2\n", {"target": "x", "floats": True}, "the target in cell 1 is inf, ex"),
        ("0,1,2,3,17\n1,1,2,3,4\n", {"value_range": (0, 16)},
         "line 1: cell 5 is 17, expected gray values from 0 to 16"),
        ("0,1,2,3,nan\n1,1,2,3,4\n", {"value_range": (0, 16)}, "line 1: cell 5 is nan, expected"),
        ("0,1,2,3,0.5\n1,1,2,3,4\n", {}, "; --range 0:1 scales gray values, use --floats "),
    ],
)  # fmt: skip
def test_other_tables_that_cannot_be_read(
    tmp_path: Path, text: str, options: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValueError, match="own") as caught:
        read(tmp_path, text, **options)
    assert str(caught.value).startswith(str(tmp_path / "own.csv"))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_column_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--label, --label-column, --target: give only one"):
        read(tmp_path, IRIS, label="species", target="sepal")


@pytest.mark.parametrize("text", ["", "16", "0:", "1:1", "2:1", "0:nan", "0:inf", "a:b", "0:1:2"])
def test_a_range_is_two_numbers(text: str) -> None:
    with pytest.raises(ValueError, match=f"--range {text}: expected the lowest and the highest"):
        labeled_csv.parse_range(text)


@pytest.mark.parametrize(("mark", "word"), [(";", "semicolons"), ("\t", "tabs")])
@pytest.mark.parametrize("options", [{}, {"label": "k"}, {"target": "b", "floats": True}])
def test_other_separators_are_named(
    tmp_path: Path, mark: str, word: str, options: dict[str, object]
) -> None:
    text = "\n".join(mark.join(cells) for cells in ("abk", "123", "456"))
    with pytest.raises(
        ValueError, match=rf"line 1: expected cells separated by commas, found {word}"
    ):
        read(tmp_path, text, **options)
