"""Read a CSV file of labeled examples: each line has a label and numbers (see csv_table.py).

The numbers are the pixels of a square image, or of any kind with `floats`. The label is a class
number, any text, or the target of a regression. The notes of the result tell how the file was read.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data import arrays
from harness.data.arrays import LARGEST
from harness.data.csv_table import Layout, Numbers, Table, number_of
from harness.data.own_data import MAX_CLASSES, Examples, natural

FINITE = f"a finite number of float32, at most {LARGEST:.2g}"
MAX_LABEL = 2**53  # float64 has every whole number up to here
Range = tuple[float, float]  # the lowest and the highest gray value


def read(
    path: Path,
    *,
    label_column: str | None = None,
    header: bool | None = None,
    renumber: bool = False,
    label: str | None = None,
    target: str | None = None,
    floats: bool = False,
    value_range: Range | None = None,
) -> Examples:
    """Read a CSV file of labels and square images, or of labels and any numbers with `floats`.

    label_column: "first", "last", a number from 1, or a name in the header; None for the column
    named label, class or target in the header, else the first. header: whether the first line is a
    header; None to decide by its cells. renumber: number the distinct labels from 0, in order;
    otherwise labels are used unchanged and must be 0 to 255. label: like label_column, for a column
    of any text; its distinct texts in sorted order are the classes. target: like label_column, for
    a column of regression targets. floats: the other columns are any numbers, read as float32.
    value_range: the lowest and highest gray values, mapped to 0 and 255. Raises `ValueError`.
    """
    given = [column for column in (label_column, label, target) if column is not None]
    if len(given) > 1:
        raise ValueError("--label, --label-column, --target: give only one of them")
    column = given[0] if given else None
    table = Table(path, Layout(column, label is not None, target is not None, floats, header))
    try:
        parts = [_split(table, numbers, rows, value_range) for numbers, rows in table.blocks()]
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; expected a text file of numbers") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected a text file of numbers, found {error}") from None
    if not parts:
        raise ValueError(f"{path}: expected lines of a label and its pixels, found none")
    labels = np.concatenate([part[0] for part in parts])
    images = np.concatenate([part[1] for part in parts])
    if not floats:
        side = math.isqrt(table.width - 1)
        images = images.reshape(-1, side, side)
    notes = [_summary(table, len(labels))]
    if target is not None:
        return Examples(images, labels.astype(np.float32), [], notes=notes)
    if label is not None:
        return Examples(images, *_named_classes(table), notes=notes)
    numbered, classes = _classes(table, labels.astype(np.int64), notes, renumber=renumber)
    return Examples(images, numbered, classes, notes=notes)


def parse_range(text: str) -> Range:
    """Parse LOW:HIGH into two numbers. Raises `ValueError`."""
    low, colon, high = text.partition(":")
    ends = number_of(low), number_of(high)
    if not colon or None in ends or not -MAX_LABEL < ends[0] < ends[1] < MAX_LABEL:  # type: ignore[operator]  # not None
        raise ValueError(
            f"--range {text}: expected the lowest and the highest gray value, such as 0:16"
        )
    return ends  # type: ignore[return-value]  # not None


def _split(
    table: Table, numbers: list[int], rows: Numbers, gray: Range | None
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """The labels (lines,) and the values (lines, cells - 1). Raises `ValueError`."""
    labels = rows[:, table.column]
    values = _values(table, numbers, np.delete(rows, table.column, axis=1), gray)
    if table.layout.has_targets:
        bad, what, expected = ~(np.abs(labels) <= LARGEST), "target", FINITE
    else:
        bad = (labels != np.floor(labels)) | (np.abs(labels) > MAX_LABEL)
        what, expected = "label", "a whole number; --label-column names another column"
    if bad.any():
        row = int(np.argmax(bad))
        found = f"the {what} in cell {table.column + 1} is {labels[row]:g}"
        raise table.fault(numbers[row], f"{found}, expected {expected}")
    return labels, values


def _values(table: Table, numbers: list[int], cells: Numbers, gray: Range | None) -> NDArray[Any]:
    """The values of some lines: float32, or gray values as uint8. Raises `ValueError`."""
    low, high = gray or (0.0, 255.0)
    if table.layout.floats:
        bad, expected = ~(np.abs(cells) <= LARGEST), f"expected {FINITE}"
    elif gray is not None:
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
            expected += "use --floats for columns that are not pixels"
        where = f"cell {cell + 1 + (cell >= table.column)} is {value:g}"
        raise table.fault(numbers[row], f"{where}, {expected}")
    if table.layout.floats:
        return cells.astype(np.float32)
    return cells.astype(np.uint8) if gray is None else _scaled(cells, low, high)


def _summary(table: Table, rows: int) -> str:
    """One line that tells what was read."""
    side = math.isqrt(table.width - 1)
    values = f"{table.width - 1} numbers" if table.layout.floats else f"{side}x{side} pixels"
    name = f" ({table.names[table.column]})" if table.names else ""
    header = f"line {table.first} is a header" if table.names else "no header"
    blank = f", {table.skipped:,} blank or # lines skipped" if table.skipped else ""
    return (
        f"{table.path}: {rows:,} rows of {values}, {header}{blank}; the "
        f"{'target' if table.layout.has_targets else 'label'} is in cell {table.column + 1} of "
        f"{table.width}{name}; {table.layout.option} names another"
    )


def _named_classes(table: Table) -> tuple[NDArray[Any], list[str]]:
    """The text labels as class numbers (N,), and the sorted names. Raises `ValueError`."""
    different = sorted(set(table.texts), key=natural)
    if not 2 <= len(different) <= arrays.MAX_CLASSES:
        raise ValueError(
            f"{table.path}: the labels in cell {table.column + 1} have {len(different)} "
            f"different values, expected 2 to {arrays.MAX_CLASSES} classes; --label names "
            "another column, --target reads targets of a regression"
        )
    numbers = {name: number for number, name in enumerate(different)}
    kind = np.min_scalar_type(len(different) - 1)
    return np.array([numbers[text] for text in table.texts], kind), different


def _classes(
    table: Table, labels: NDArray[np.int64], notes: list[str], *, renumber: bool
) -> tuple[NDArray[np.uint8], list[str]]:
    """The labels as class numbers (N,), and the names of the classes. Raises `ValueError`."""
    different, numbered = np.unique(labels, return_inverse=True)
    where = f"{table.path}: the labels in cell {table.column + 1}"
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


def _scaled(cells: Numbers, low: float, high: float) -> NDArray[np.uint8]:
    return np.rint((cells - low) * (255 / (high - low))).astype(np.uint8)
