"""Read a CSV file of labeled images: in each line a label and the pixels of a square image.

Blank lines and lines that begin with `#` are skipped, a header is a first line without a number,
and a cell is a decimal number, quoted or not. What was understood is in the notes of the result.
Every fault is a `ValueError` that names the file and the line, counted from the file's first.
"""

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.own_data import MAX_CLASSES, Examples

# Limits of what is read, so that a file without an end has one.
MAX_LINE = 32 << 20  # characters
MAX_LINES = 1 << 24
MAX_CHARACTERS = 4 << 30
BLOCK_LINES, BLOCK_CHARACTERS = 2000, 8 << 20  # parsed at once
MAX_LABEL = 2**53  # float64 has every whole number up to here

DECIMAL = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
NUMBER = re.compile(rf'[ \t]*(?:({DECIMAL})|"[ \t]*(?P<quoted>{DECIMAL})[ \t]*")[ \t]*', re.ASCII)
PLAIN = re.compile(r"[0-9+\-.eE, \t]*")  # lines that NumPy's parser reads as NUMBER does
LABEL_NAMES = ("label", "class", "target")
Numbers = NDArray[np.float64]


@dataclass
class Table:
    """What is known of a file while it is read.

    width: cells of a line, 0 before the first. names: the header's cells. column: of the labels.
    """

    path: Path
    label_column: str | None
    header: bool | None
    width: int = 0
    first: int = 0
    column: int = 0
    skipped: int = 0
    names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read(
    path: Path,
    *,
    label_column: str | None = None,
    header: bool | None = None,
    renumber: bool = False,
) -> Examples:
    """Read a CSV file of labels and square images.

    label_column: "first", "last", a number from 1, or a name of the header; None for the column
    that the header calls label, class or target, else the first. header: whether the first line is
    one; None to decide by its cells. renumber: number the different labels from 0, in order; else
    they are 0 to 255 as they are. Raises `ValueError`.
    """
    table = Table(path, label_column, header)
    try:
        parts = [_split(table, numbers, rows) for numbers, rows in _blocks(table)]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a text file of numbers, found {error}") from None
    if not parts:
        raise ValueError(f"{path}: expected lines of a label and its pixels, found none")
    side = math.isqrt(table.width - 1)
    labels = np.concatenate([part[0] for part in parts])
    images = np.concatenate([part[1] for part in parts]).reshape(-1, side, side)
    _describe(table, len(labels), side)
    numbered, classes = _classes(table, labels, renumber=renumber)
    return Examples(images, numbered, classes, notes=table.notes)


def _lines(table: Table) -> Iterator[tuple[int, str]]:
    """The lines with content, each with its number; counts the others."""
    total = 0
    with table.path.open(encoding="utf-8-sig") as file:
        for number in count(1):
            line = file.readline(MAX_LINE + 1)
            total += len(line)
            if not line:
                return
            if len(line) > MAX_LINE:
                raise _fault(table, number, f"expected at most {MAX_LINE:,} characters in a line")
            if number > MAX_LINES or total > MAX_CHARACTERS:
                raise _fault(
                    table, number, f"expected a file of at most {MAX_LINES:,} lines and "
                    f"{MAX_CHARACTERS:,} characters; write a larger one as IDX files"
                )  # fmt: skip
            text = line.strip(" \t\r\n")
            if text and not text.startswith("#"):
                yield number, text
            else:
                table.skipped += 1


def _blocks(table: Table) -> Iterator[tuple[list[int], Numbers]]:
    """Blocks of lines as numbers (lines, cells), with the lines' numbers."""
    numbers: list[int] = []
    texts: list[str] = []
    size = 0
    for number, text in _lines(table):
        if not table.width and _begin(table, number, text):
            continue
        numbers.append(number)
        texts.append(text)
        size += len(text)
        if len(texts) == BLOCK_LINES or size > BLOCK_CHARACTERS:
            yield numbers, _parse(table, numbers, texts)
            numbers, texts, size = [], [], 0
    if texts:
        yield numbers, _parse(table, numbers, texts)


def _begin(table: Table, number: int, text: str) -> bool:
    """Learn the layout from the first line. Returns whether it is a header."""
    try:
        cells = [cell.strip() for cell in next(csv.reader([text], skipinitialspace=True))]
    except csv.Error:
        cells = text.split(",")
    numeric = [NUMBER.fullmatch(cell) is not None for cell in cells]
    is_header = table.header
    if is_header is None:
        is_header = not any(numeric) and any(cells)
        if any(numeric) and not all(numeric):
            wrong = numeric.index(False)
            raise _fault(
                table, number, f"cell {wrong + 1} is {_shown(cells[wrong])}, not a number, beside "
                "numbers; add --header if the line is a header"
            )  # fmt: skip
    table.width, table.first = len(cells), number
    table.names = cells if is_header else []
    table.column = _label_column(table)
    side = math.isqrt(max(0, table.width - 1))
    if table.width < 2 or side * side != table.width - 1:
        raise _fault(
            table, number, "expected a label and the pixels of a square image, such as 785 cells "
            f"for 28x28, found {table.width}; cells are separated by commas, and Kaggle's test.csv "
            "has no labels"
        )  # fmt: skip
    if not is_header and table.header is None and cells == [str(n) for n in range(len(cells))]:
        table.notes.append(f"line {number} is 0, 1, 2 ...; add --header if it is a header")
    return is_header


def _label_column(table: Table) -> int:
    """The index of the column of labels. Raises `ValueError`."""
    wanted, names = table.label_column, table.names
    if wanted is None:
        found = [index for index, name in enumerate(names) if name.lower() in LABEL_NAMES]
        return found[0] if len(found) == 1 else 0
    if wanted in ("first", "last"):
        return 0 if wanted == "first" else table.width - 1
    if re.fullmatch(r"[0-9]{1,9}", wanted) and 1 <= int(wanted) <= table.width:
        return int(wanted) - 1
    if names.count(wanted) == 1:
        return names.index(wanted)
    known = f", or a name of the header ({', '.join(names[:5])} ...)" if names else ""
    raise ValueError(
        f"{table.path}: --label-column {wanted}: expected first, last, a number from 1 to "
        f"{table.width}{known}"
    )


def _parse(table: Table, numbers: list[int], texts: list[str]) -> Numbers:
    """The lines as numbers (lines, cells). Raises `ValueError` naming the line and the cell."""
    if all(PLAIN.fullmatch(text) for text in texts):
        try:
            rows = np.loadtxt(texts, np.float64, delimiter=",", comments=None, ndmin=2)
        except ValueError:
            pass  # the slow way below names the cell
        else:
            if rows.shape == (len(texts), table.width):
                return rows
    pairs = zip(numbers, texts, strict=True)
    return np.array([_parse_line(table, number, text) for number, text in pairs])


def _parse_line(table: Table, number: int, text: str) -> list[float]:
    cells = text.split(",")
    if len(cells) != table.width:
        raise _fault(
            table, number, f"expected {table.width} cells as in line {table.first}, found "
            f"{len(cells)}"
        )  # fmt: skip
    values = []
    for index, cell in enumerate(cells, 1):
        match = NUMBER.fullmatch(cell)
        if match is None:
            raise _fault(table, number, f"cell {index} is {_shown(cell)}, not a number")
        values.append(float(match["quoted"] or match[1]))
    return values


def _split(
    table: Table, numbers: list[int], rows: Numbers
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The labels (lines,) and the pixels (lines, cells - 1). Raises `ValueError`."""
    labels = rows[:, table.column]
    pixels = np.delete(rows, table.column, axis=1)
    bad = (pixels < 0) | (pixels > 255) | (pixels != np.floor(pixels))
    if bad.any():
        row, cell = (int(index[0]) for index in np.nonzero(bad))
        hint = "; multiply gray values from 0 to 1 by 255" if 0 < pixels[row, cell] < 1 else ""
        raise _fault(
            table, numbers[row], f"cell {cell + 1 + (cell >= table.column)} is "
            f"{pixels[row, cell]:g}, expected whole gray values from 0 to 255{hint}"
        )  # fmt: skip
    bad = (labels != np.floor(labels)) | (np.abs(labels) > MAX_LABEL)
    if bad.any():
        row = int(np.argmax(bad))
        raise _fault(
            table, numbers[row], f"the label in cell {table.column + 1} is {labels[row]:g}, "
            "expected a whole number; --label-column names another column"
        )  # fmt: skip
    return labels.astype(np.int64), pixels.astype(np.uint8)


def _describe(table: Table, rows: int, side: int) -> None:
    """Note what was read."""
    name = f" ({table.names[table.column]})" if table.names else ""
    header = f"line {table.first} is a header" if table.names else "no header"
    blank = f", {table.skipped:,} blank or # lines skipped" if table.skipped else ""
    table.notes.insert(
        0, f"{table.path}: {rows:,} rows of {side}x{side} pixels, {header}{blank}; the label is in "
        f"cell {table.column + 1} of {table.width}{name}; --label-column names another"
    )  # fmt: skip


def _classes(
    table: Table, labels: NDArray[np.int64], *, renumber: bool
) -> tuple[NDArray[np.uint8], list[str]]:
    """The labels as class numbers (N,), and the names of the classes. Raises `ValueError`."""
    different, numbered = np.unique(labels, return_inverse=True)
    where = f"{table.path}: the labels in cell {table.column + 1}"
    if len(different) < 2:
        raise ValueError(
            f"{where} are all {different[0]}, expected at least two classes; --label-column names "
            "another column"
        )
    if renumber:
        if len(different) > MAX_CLASSES:
            raise ValueError(f"{where} are {len(different):,}, expected at most {MAX_CLASSES}")
        return numbered.astype(np.uint8), [str(label) for label in different]
    if different[0] < 0 or different[-1] >= MAX_CLASSES:
        raise ValueError(
            f"{where} are {different[0]} to {different[-1]}, expected 0 to {MAX_CLASSES - 1}; "
            "--renumber numbers them from 0, --label-column names another column"
        )
    classes = [str(label) for label in range(int(different[-1]) + 1)]
    missing = len(classes) - len(different)
    if missing:
        table.notes.append(
            f"{missing} of the {len(classes)} classes 0 to {different[-1]} have no image: "
            f"{_listed(set(range(len(classes))) - set(different.tolist()))}; --renumber numbers "
            f"the {len(different)} labels from 0"
        )
    return labels.astype(np.uint8), classes


def _listed(numbers: set[int], most: int = 5) -> str:
    first = sorted(numbers)[:most]
    return ", ".join(map(str, first)) + (" ..." if len(numbers) > most else "")


def _shown(cell: str) -> str:
    return "empty" if not cell.strip() else repr(cell if len(cell) < 24 else f"{cell[:20]}...")


def _fault(table: Table, number: int, problem: str) -> ValueError:
    return ValueError(f"{table.path}, line {number}: {problem}")
