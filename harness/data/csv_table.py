"""Parse the lines of a CSV file into numbers, block by block, and find the column of the labels.

Blank lines and lines that begin with `#` are skipped. A first line without numbers is a header. A
cell is a decimal number, quoted or not. Every fault raises a `ValueError` that names the file and
the line number, counted from 1.
"""

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Limits on what is read, because a path such as /dev/zero never ends.
MAX_LINE = 32 << 20  # characters
MAX_LINES, MAX_CHARACTERS = 1 << 24, 4 << 30
BLOCK = 1 << 20  # characters that are parsed at once
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}
LABEL_NAMES = ("label", "class", "target")
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """What the user says about the columns.

    column: the label's column, as the user types it; None if not given. header: whether the first
    line is a header; None to decide by its cells.
    """

    column: str | None
    has_text: bool
    has_targets: bool
    floats: bool
    header: bool | None

    @property
    def option(self) -> str:
        """The option that names the column of the label."""
        return "--label" if self.has_text else "--target" if self.has_targets else "--label-column"


class Table:
    """A CSV file that is being read, and the layout found in its first line.

    width: cells in a line, 0 before the first line is read. first: the number of the first line
    with content. column: the index of the label's column. skipped: the number of lines without
    content. names: the header's cells. texts: the cells of the label's column, if they are text.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path, self.layout = path, layout
        self.width = self.first = self.column = self.skipped = 0
        self.names: list[str] = []
        self.texts: list[str] = []

    def blocks(self) -> Iterator[tuple[list[int], Numbers]]:
        """Yield blocks of lines: their line numbers, and their cells as numbers (lines, cells)."""
        numbers: list[int] = []
        texts: list[str] = []
        size = 0
        for number, text in self._lines():
            if not self.width and self._begin(number, text):
                continue
            numbers.append(number)
            texts.append(text)
            size += len(text)
            if size > BLOCK:
                yield numbers, self._parse(numbers, texts)
                numbers, texts, size = [], [], 0
        if texts:
            yield numbers, self._parse(numbers, texts)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """The lines with content, each with its number; counts the others."""
        total = 0
        with self.path.open(encoding="utf-8-sig") as file:
            for number in count(1):
                line = file.readline(MAX_LINE + 1)
                total += len(line)
                if not line:
                    return
                if len(line) > MAX_LINE:
                    raise self.fault(number, f"expected at most {MAX_LINE:,} characters in a line")
                if number > MAX_LINES or total > MAX_CHARACTERS:
                    limit = f"{MAX_LINES:,} lines and {MAX_CHARACTERS:,} characters"
                    problem = f"expected a file of at most {limit}; write a larger one as IDX files"
                    raise self.fault(number, problem)
                text = line.strip(" \t\r\n")
                if text and not text.startswith("#"):
                    yield number, text
                else:
                    self.skipped += 1

    def _begin(self, number: int, text: str) -> bool:
        """Learn the layout from the first line. Returns whether it is a header."""
        cells = self._cells(number, text)
        other = next((mark for mark in OTHER_SEPARATORS if mark in text), None)
        if len(cells) == 1 and other is not None:
            raise self.fault(
                number,
                f"expected cells separated by commas, found {OTHER_SEPARATORS[other]}; "
                "save the file with commas and decimal points",
            )
        numeric = [number_of(cell) is not None for cell in cells]
        is_header = self.layout.header
        if is_header is None:
            is_header = not any(numeric) and any(cells)
            label_at = self._text_index(len(cells))
            others = [index for index, fine in enumerate(numeric) if not fine and index != label_at]
            if any(numeric) and others:
                wrong = others[0]
                raise self.fault(
                    number,
                    f"cell {wrong + 1} is {_shown(cells[wrong])}, but other cells are numbers; "
                    "add --header if the line is a header",
                )
        self.width, self.first = len(cells), number
        self.names = cells if is_header else []
        self.column = self._label_index()
        is_square = self.layout.floats or math.isqrt(self.width - 1) ** 2 == self.width - 1
        if self.width < 2 or not is_square:
            raise self.fault(
                number,
                "expected a label and the pixels of a square image, such as 785 cells for 28x28, "
                f"found {self.width}; cells are separated by commas, and Kaggle's test.csv has no "
                "labels; use --floats for columns that are not pixels",
            )
        return is_header

    def _text_index(self, width: int) -> int | None:
        """The index of the column of text labels, if it is known before the header is read."""
        wanted = self.layout.column if self.layout.has_text else None
        return None if wanted is None else _index(wanted, width)

    def _label_index(self) -> int:
        """The index of the label's column. Raises `ValueError`."""
        wanted, names = self.layout.column, self.names
        if wanted is None:
            found = [index for index, name in enumerate(names) if name.lower() in LABEL_NAMES]
            return found[0] if len(found) == 1 else 0
        index = _index(wanted, self.width)
        if index is not None and 0 <= index < self.width:
            return index
        if names.count(wanted) == 1:
            return names.index(wanted)
        known = f", or a name of the header ({', '.join(names[:5])} ...)" if names else ""
        raise ValueError(
            f"{self.path}: {self.layout.option} {wanted}: expected first, last, a number from 1 "
            f"to {self.width}{known}"
        )

    def _cells(self, number: int, text: str) -> list[str]:
        """The cells of a line without their quotes. Raises `ValueError`."""
        try:
            return [cell.strip() for cell in next(csv.reader([text], skipinitialspace=True))]
        except csv.Error as error:
            raise self.fault(number, str(error)) from None

    def _parse(self, numbers: list[int], texts: list[str]) -> Numbers:
        """The lines as numbers (lines, cells). Raises `ValueError` naming the line and the cell.

        Text labels go to `texts`, with 0 in their place.
        """
        pairs = zip(numbers, texts, strict=True)
        if self.layout.has_text:
            return np.array([self._parse_line(number, text) for number, text in pairs])
        try:
            rows = np.loadtxt(texts, delimiter=",", comments=None, quotechar='"', ndmin=2)
            if rows.shape == (len(texts), self.width):
                return rows
        except ValueError:
            pass  # `_parse_line` is slower, but names the cell and accepts more than `loadtxt`
        return np.array([self._parse_line(number, text) for number, text in pairs])

    def _parse_line(self, number: int, text: str) -> list[float]:
        cells = self._cells(number, text)
        if len(cells) != self.width:
            found = f"expected {self.width} cells as in line {self.first}, found {len(cells)}"
            raise self.fault(number, found)
        values = []
        for index, cell in enumerate(cells, 1):
            if self.layout.has_text and index == self.column + 1:
                if not cell.isprintable() or not 1 <= len(cell) <= 200:
                    problem = f"the label in cell {index} is {_shown(cell)}, expected a name"
                    raise self.fault(number, problem)
                self.texts.append(cell)
                values.append(0.0)
                continue
            value = number_of(cell)
            if value is None:
                hint = "; --label says which column has the labels" * cell.isalpha()
                raise self.fault(number, f"cell {index} is {_shown(cell)}, not a number{hint}")
            values.append(value)
        return values

    def fault(self, number: int, problem: str) -> ValueError:
        """The error for a fault in a line."""
        return ValueError(f"{self.path}, line {number}: {problem}")


def _index(column: str, width: int) -> int | None:
    """The index of a column given as first, last or a number from 1; None for a name."""
    if column in ("first", "last"):
        return 0 if column == "first" else width - 1
    return int(column) - 1 if re.fullmatch(r"[0-9]{1,9}", column) else None


def number_of(cell: str) -> float | None:
    """The decimal number in a cell; None for other text, also for `1_0` and non-ASCII digits."""
    try:
        return float(cell) if cell.isascii() and "_" not in cell else None
    except ValueError:
        return None


def _shown(cell: str) -> str:
    return "empty" if not cell else repr(cell if len(cell) < 24 else f"{cell[:20]}...")
