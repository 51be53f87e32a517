"""Read a CSV file of labeled examples: in each line a label and numbers.

The numbers are the pixels of a square image, or with `floats` of any kind. The label is a class
number, or any text, or the target of a regression.

Blank lines and lines that begin with `#` are skipped, a header is a first line without a number,
and a cell is a decimal number, quoted or not. What was understood is in the notes of the result.
Every fault is a `ValueError` that names the file and the line, counted from the file's first.
"""

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data import arrays
from harness.data.arrays import LARGEST
from harness.data.own_data import MAX_CLASSES, Examples, natural

# Limits of what is read, so that a file without an end has one.
MAX_LINE = 32 << 20  # characters
MAX_LINES, MAX_CHARACTERS = 1 << 24, 4 << 30
BLOCK = 1 << 20  # characters that are parsed at once
MAX_LABEL = 2**53  # float64 has every whole number up to here
LABEL_NAMES = ("label", "class", "target")
Numbers = NDArray[np.float64]


def read(
    path: Path,
    *,
    label_column: str | None = None,
    header: bool | None = None,
    renumber: bool = False,
    label: str | None = None,
    target: str | None = None,
    floats: bool = False,
    value_range: tuple[float, float] | None = None,
) -> Examples:
    """Read a CSV file of labels and square images, or with `floats` of labels and numbers.

    label_column: "first", "last", a number from 1, or a name of the header; None for the column
    that the header calls label, class or target, else the first. header: whether the first line is
    one; None to decide by its cells. renumber: number the different labels from 0, in order; else
    they are 0 to 255 as they are. label: like label_column, for a column of any text: the different
    texts are the classes, in sorted order. target: likewise, for a column of numbers that are the
    targets of a regression. floats: the other columns are numbers of any kind, read as float32.
    value_range: the lowest and the highest gray value, which become 0 and 255. Raises `ValueError`.
    """
    given = [column for column in (label_column, label, target) if column is not None]
    if len(given) > 1:
        raise ValueError("--label, --label-column, --target: give only one of them")
    layout = _Layout(given[0] if given else None, label is not None, target is not None, floats)
    table = _Table(path, layout, header, value_range)
    try:
        parts = [table.split(numbers, rows) for numbers, rows in table.blocks()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a text file of numbers, found {error}") from None
    if not parts:
        raise ValueError(f"{path}: expected lines of a label and its pixels, found none")
    labels = np.concatenate([part[0] for part in parts])
    images = np.concatenate([part[1] for part in parts])
    if not floats:
        side = math.isqrt(table.width - 1)
        images = images.reshape(-1, side, side)
    notes = [table.summary(len(labels))]
    if target is not None:
        return Examples(images, labels.astype(np.float32), [], notes=notes)
    if label is not None:
        return Examples(images, *table.named_classes(), notes=notes)
    numbered, classes = table.classes(labels.astype(np.int64), notes, renumber=renumber)
    return Examples(images, numbered, classes, notes=notes)


def parse_range(text: str) -> tuple[float, float]:
    """The numbers of LOW:HIGH. Raises `ValueError`."""
    low, colon, high = text.partition(":")
    ends = _number(low), _number(high)
    if not colon or None in ends or not -MAX_LABEL < ends[0] < ends[1] < MAX_LABEL:  # type: ignore[operator]  # not None
        raise ValueError(
            f"--range {text}: expected the lowest and the highest gray value, such as 0:16"
        )
    return ends  # type: ignore[return-value]  # not None


@dataclass(frozen=True)
class _Layout:
    """What the columns are. column: of the label, as the user spells it; None if not given."""

    column: str | None
    has_text: bool
    has_targets: bool
    floats: bool

    @property
    def option(self) -> str:
        """The option that names the column of the label."""
        return "--label" if self.has_text else "--target" if self.has_targets else "--label-column"


class _Table:
    """A file while it is read, and what its first line says about it.

    width: cells of a line, 0 before the first.
    """

    def __init__(
        self,
        path: Path,
        layout: _Layout,
        header: bool | None,
        value_range: tuple[float, float] | None,
    ) -> None:
        self.width = 0
        self._path, self._layout, self._header, self._range = path, layout, header, value_range
        self._texts: list[str] = []  # of the label column, where its cells are text
        self._first = self._column = self._skipped = 0
        self._names: list[str] = []

    def blocks(self) -> Iterator[tuple[list[int], Numbers]]:
        """Blocks of lines as numbers (lines, cells), with the lines' numbers."""
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
        with self._path.open(encoding="utf-8-sig") as file:
            for number in count(1):
                line = file.readline(MAX_LINE + 1)
                total += len(line)
                if not line:
                    return
                if len(line) > MAX_LINE:
                    raise self._fault(number, f"expected at most {MAX_LINE:,} characters in a line")
                if number > MAX_LINES or total > MAX_CHARACTERS:
                    limit = f"{MAX_LINES:,} lines and {MAX_CHARACTERS:,} characters"
                    problem = f"expected a file of at most {limit}; write a larger one as IDX files"
                    raise self._fault(number, problem)
                text = line.strip(" \t\r\n")
                if text and not text.startswith("#"):
                    yield number, text
                else:
                    self._skipped += 1

    def _begin(self, number: int, text: str) -> bool:
        """Learn the layout from the first line. Returns whether it is a header."""
        cells = self._cells(number, text)
        numeric = [_number(cell) is not None for cell in cells]
        is_header = self._header
        if is_header is None:
            is_header = not any(numeric) and any(cells)
            label_at = self._text_index(len(cells))
            others = [index for index, fine in enumerate(numeric) if not fine and index != label_at]
            if any(numeric) and others:
                wrong = others[0]
                raise self._fault(
                    number,
                    f"cell {wrong + 1} is {_shown(cells[wrong])}, not a number, beside numbers; "
                    "add --header if the line is a header",
                )
        self.width, self._first = len(cells), number
        self._names = cells if is_header else []
        self._column = self._label_index()
        is_square = self._layout.floats or math.isqrt(self.width - 1) ** 2 == self.width - 1
        if self.width < 2 or not is_square:
            raise self._fault(
                number,
                "expected a label and the pixels of a square image, such as 785 cells for 28x28, "
                f"found {self.width}; cells are separated by commas, and Kaggle's test.csv has no "
                "labels; --floats reads columns that are no pixels",
            )
        return is_header

    def _text_index(self, width: int) -> int | None:
        """The index of the column of labels that may be text, before the header is known."""
        wanted = self._layout.column or ""
        if not self._layout.has_text:
            return None
        if wanted in ("first", "last"):
            return 0 if wanted == "first" else width - 1
        return int(wanted) - 1 if re.fullmatch(r"[0-9]{1,9}", wanted) else None

    def _label_index(self) -> int:
        """The index of the column of labels. Raises `ValueError`."""
        wanted, names = self._layout.column, self._names
        if wanted is None:
            found = [index for index, name in enumerate(names) if name.lower() in LABEL_NAMES]
            return found[0] if len(found) == 1 else 0
        if wanted in ("first", "last"):
            return 0 if wanted == "first" else self.width - 1
        if re.fullmatch(r"[0-9]{1,9}", wanted) and 1 <= int(wanted) <= self.width:
            return int(wanted) - 1
        if names.count(wanted) == 1:
            return names.index(wanted)
        known = f", or a name of the header ({', '.join(names[:5])} ...)" if names else ""
        raise ValueError(
            f"{self._path}: {self._layout.option} {wanted}: expected first, last, a number from 1 "
            f"to {self.width}{known}"
        )

    def _cells(self, number: int, text: str) -> list[str]:
        """The cells of a line without their quotes. Raises `ValueError`."""
        try:
            return [cell.strip() for cell in next(csv.reader([text], skipinitialspace=True))]
        except csv.Error as error:
            raise self._fault(number, str(error)) from None

    def _parse(self, numbers: list[int], texts: list[str]) -> Numbers:
        """The lines as numbers (lines, cells). Raises `ValueError` naming the line and the cell.

        Labels that are text are kept aside, with 0 in their place.
        """
        pairs = zip(numbers, texts, strict=True)
        if self._layout.has_text:
            return np.array([self._parse_line(number, text) for number, text in pairs])
        try:
            rows = np.loadtxt(texts, delimiter=",", comments=None, quotechar='"', ndmin=2)
            if rows.shape == (len(texts), self.width):
                return rows
        except ValueError:
            pass  # the slow way names the cell, and reads what `loadtxt` does not
        return np.array([self._parse_line(number, text) for number, text in pairs])

    def _parse_line(self, number: int, text: str) -> list[float]:
        cells = self._cells(number, text)
        if len(cells) != self.width:
            found = f"expected {self.width} cells as in line {self._first}, found {len(cells)}"
            raise self._fault(number, found)
        values = []
        for index, cell in enumerate(cells, 1):
            if self._layout.has_text and index == self._column + 1:
                if not cell.isprintable() or not 1 <= len(cell) <= 200:
                    problem = f"the label in cell {index} is {_shown(cell)}, expected a name"
                    raise self._fault(number, problem)
                self._texts.append(cell)
                values.append(0.0)
                continue
            value = _number(cell)
            if value is None:
                hint = "; --label says which column has the labels" * cell.isalpha()
                raise self._fault(number, f"cell {index} is {_shown(cell)}, not a number{hint}")
            values.append(value)
        return values

    def split(self, numbers: list[int], rows: Numbers) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """The labels (lines,) and the values (lines, cells - 1). Raises `ValueError`."""
        labels = rows[:, self._column]
        values = self._values(numbers, np.delete(rows, self._column, axis=1))
        if self._layout.has_targets:
            bad = ~(np.abs(labels) <= LARGEST)
            if bad.any():
                row = int(np.argmax(bad))
                found = f"the target in cell {self._column + 1} is {labels[row]:g}"
                raise self._fault(numbers[row], f"{found}, expected a finite number")
            return labels, values
        bad = (labels != np.floor(labels)) | (np.abs(labels) > MAX_LABEL)
        if bad.any():
            row = int(np.argmax(bad))
            raise self._fault(
                numbers[row],
                f"the label in cell {self._column + 1} is {labels[row]:g}, expected a whole "
                "number; --label-column names another column",
            )
        return labels, values

    def _values(self, numbers: list[int], cells: Numbers) -> NDArray[Any]:
        """The values of some lines: float32, or gray values as uint8. Raises `ValueError`."""
        low, high = self._range or (0.0, 255.0)
        if self._layout.floats:
            bad, expected = ~(np.abs(cells) <= LARGEST), "expected a finite number"
        elif self._range is not None:
            bad = ~((cells >= low) & (cells <= high))
            expected = f"expected gray values from {low:g} to {high:g}"
        else:
            bad = (cells < 0) | (cells > 255) | (cells != np.floor(cells))
            expected = "expected whole gray values from 0 to 255"
        if bad.any():
            row, cell = (int(index[0]) for index in np.nonzero(bad))
            value = cells[row, cell]
            if expected.startswith("expected whole"):
                is_share = 0 < value < 1
                expected += "; multiply gray values from 0 to 1 by 255" if is_share else ""
                expected += f"; --range {'0:1' if is_share else 'LOW:HIGH'} scales gray values, "
                expected += "--floats reads columns that are no pixels"
            where = f"cell {cell + 1 + (cell >= self._column)} is {value:g}"
            raise self._fault(numbers[row], f"{where}, {expected}")
        if self._layout.floats:
            return cells.astype(np.float32)
        return cells.astype(np.uint8) if self._range is None else _scaled(cells, low, high)

    def summary(self, rows: int) -> str:
        """What was read, as one line."""
        side = math.isqrt(self.width - 1)
        values = f"{self.width - 1} numbers" if self._layout.floats else f"{side}x{side} pixels"
        name = f" ({self._names[self._column]})" if self._names else ""
        header = f"line {self._first} is a header" if self._names else "no header"
        blank = f", {self._skipped:,} blank or # lines skipped" if self._skipped else ""
        return (
            f"{self._path}: {rows:,} rows of {values}, {header}{blank}; the "
            f"{'target' if self._layout.has_targets else 'label'} is in cell {self._column + 1} of "
            f"{self.width}{name}; {self._layout.option} names another"
        )

    def named_classes(self) -> tuple[NDArray[Any], list[str]]:
        """The text labels as class numbers (N,), and the sorted names. Raises `ValueError`."""
        different = sorted(set(self._texts), key=natural)
        if not 2 <= len(different) <= arrays.MAX_CLASSES:
            raise ValueError(
                f"{self._path}: the labels in cell {self._column + 1} have {len(different)} "
                f"different values, expected 2 to {arrays.MAX_CLASSES} classes; --label names "
                "another column, --target reads targets of a regression"
            )
        numbers = {name: number for number, name in enumerate(different)}
        kind = np.min_scalar_type(len(different) - 1)
        return np.array([numbers[text] for text in self._texts], kind), different

    def classes(
        self, labels: NDArray[np.int64], notes: list[str], *, renumber: bool
    ) -> tuple[NDArray[np.uint8], list[str]]:
        """The labels as class numbers (N,), and the names of the classes. Raises `ValueError`."""
        different, numbered = np.unique(labels, return_inverse=True)
        where = f"{self._path}: the labels in cell {self._column + 1}"
        if len(different) < 2:
            raise ValueError(
                f"{where} are all {different[0]}, expected at least two classes; --label-column "
                "names another column"
            )
        if renumber:
            if len(different) > MAX_CLASSES:
                raise ValueError(f"{where} are {len(different):,}, expected at most {MAX_CLASSES}")
            return numbered.astype(np.uint8), [str(label) for label in different]
        last = int(different[-1])
        if different[0] < 0 or last >= MAX_CLASSES:
            raise ValueError(
                f"{where} are {different[0]} to {last}, expected 0 to {MAX_CLASSES - 1}; "
                "--renumber numbers them from 0, --label-column names another column"
            )
        missing = [str(label) for label in np.setdiff1d(np.arange(last), different)]
        if missing:
            listed = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
            notes.append(
                f"{len(missing)} of the {last + 1} classes 0 to {last} have no example: {listed}; "
                f"--renumber numbers the {len(different)} labels from 0"
            )
        return labels.astype(np.uint8), [str(label) for label in range(last + 1)]

    def _fault(self, number: int, problem: str) -> ValueError:
        return ValueError(f"{self._path}, line {number}: {problem}")


def _number(cell: str) -> float | None:
    """The decimal number of a cell; None if it is none. Python's `1_0` and other digits are not."""
    try:
        return float(cell) if cell.isascii() and "_" not in cell else None
    except ValueError:
        return None


def _scaled(cells: Numbers, low: float, high: float) -> NDArray[np.uint8]:
    return np.rint((cells - low) * (255 / (high - low))).astype(np.uint8)


def _shown(cell: str) -> str:
    return "empty" if not cell else repr(cell if len(cell) < 24 else f"{cell[:20]}...")
